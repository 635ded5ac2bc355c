"""A user's mesh with a named paint material, and files that cannot be read."""

from pathlib import Path

import pytest
import torch

from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import render_views
from simengine.scene.base import SceneError
from simengine.worlds.detectors.painted_mesh import read_painted_mesh

OBJ = """mtllib box.mtl
v -1 0 -0.5
v 1 0 -0.5
v 1 0 0.5
v -1 0 0.5
v -1 1 -0.5
v 1 1 -0.5
v 1 1 0.5
v -1 1 0.5
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl coat
f 5/1 8/2 7/3 6/4
f 1/1 5/2 6/3 2/4
f 3/1 7/2 8/3 4/4
usemtl dark
f 2/1 6/2 7/3 3/4
f 4/1 8/2 5/3 1/4
"""
MTL = "newmtl coat\nKd 0.5 0.5 0.5\nnewmtl dark\nKd 0.1 0.1 0.1\n"


def write_box(folder: Path) -> Path:
    (folder / "box.obj").write_text(OBJ)
    (folder / "box.mtl").write_text(MTL)
    return folder / "box.obj"


def test_a_box_with_a_painted_material(tmp_path: Path) -> None:
    surface = read_painted_mesh(write_box(tmp_path), paint="coat", length=4.0, up="y")
    low, high = surface.vertices.min(0).values, surface.vertices.max(0).values
    assert torch.allclose(low, torch.tensor([-2.0, -1.0, 0.0])) and torch.allclose(high, torch.tensor([2.0, 1.0, 2.0]))
    assert len(surface.faces) == 10
    assert int(surface.painted[surface.material].sum()) == 6
    assert float(surface.uv.max()) == 1.0
    views = render_views(surface, ViewSampler(seed=1), range(2), (32, 32), sky_rays=1)
    assert float(views.paint.sum()) > 20 and bool((views.paint <= views.object + 1e-6).all())


def test_glb_keeps_its_material(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    material = trimesh.visual.material.PBRMaterial(name="coat", baseColorFactor=[200, 40, 40, 255])
    box = trimesh.creation.box((2.0, 1.0, 1.0))
    box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], material=material)
    (tmp_path / "box.glb").write_bytes(trimesh.Scene(box).export(file_type="glb"))
    surface = read_painted_mesh(tmp_path / "box.glb", paint="coat", length=4.0, up="y")
    assert bool(surface.painted.all()) and len(surface.faces) == 12


def test_several_materials_are_painted(tmp_path: Path) -> None:
    for paint, faces in (("coat, dark", 10), ("*", 10), ("co*,dark", 10), ("d*", 4), ("coat", 6)):
        surface = read_painted_mesh(write_box(tmp_path), paint=paint, length=4.0, up="y")
        assert int(surface.painted[surface.material].sum()) == faces
    with pytest.raises(SceneError, match="no material is named 'roof'; its materials: coat, dark"):
        read_painted_mesh(tmp_path / "box.obj", paint="coat, roof", length=4.0, up="y")


def test_roughness_and_metal_are_those_of_the_file(tmp_path: Path) -> None:
    """A metal has no albedo, and its mean colour as reflectance; paint is none, whatever the file says."""
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.Scene()
    looks = {"coat": (1.0, 0.3), "chrome": (1.0, 0.2), "tyre": (0.0, 0.9), "half": (0.5, 0.5), "bare": (None, None)}
    for k, (name, (metallic, rough)) in enumerate(looks.items()):
        box = trimesh.creation.box((1.0, 1.0, 1.0)).apply_translation((2.0 * k, 0, 0))
        material = trimesh.visual.material.PBRMaterial(
            name=name, baseColorFactor=[186, 186, 186, 255], metallicFactor=metallic, roughnessFactor=rough
        )
        box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], material=material)
        scene.add_geometry(box)
    (tmp_path / "car.glb").write_bytes(scene.export(file_type="glb"))
    surface = read_painted_mesh(tmp_path / "car.glb", paint="coat", length=4.0, up="y")
    middle = surface.vertices[surface.faces].mean(1)[:, 0]  # the boxes stand along x
    of = [int(surface.material[(middle - at).abs().argmin()]) for at in torch.linspace(-16 / 9, 16 / 9, 5)]
    assert surface.painted[of].tolist() == [True, False, False, False, False]
    assert surface.roughness[of].tolist() == pytest.approx([0.3, 0.2, 0.9, 0.5, 1.0])
    grey = 186 / 255  # glTF's factors are linear
    assert surface.reflectance[of].tolist() == pytest.approx([0.04, grey, 0.04, (0.04 + grey) / 2, grey])
    assert surface.albedo[of, 0].tolist() == pytest.approx([grey, 0.0, grey, grey / 2, 0.0], abs=1e-6)
    (tmp_path / "box.mtl").write_text(MTL + "Pr 0.7\n")
    (tmp_path / "box.obj").write_text(OBJ)
    rough = read_painted_mesh(tmp_path / "box.obj", paint="coat", length=4.0, up="y").roughness
    assert sorted(rough.tolist()) == pytest.approx([0.4, 0.7])


def test_of_textures_the_mean_counts(tmp_path: Path) -> None:
    """Roughness in green, metalness in blue, times their factors; a colour half white, half black is 1/2."""
    trimesh, image = pytest.importorskip("trimesh"), pytest.importorskip("PIL.Image")
    colour, look = image.new("RGB", (2, 2), (255, 255, 255)), image.new("RGB", (2, 2), (0, 204, 51))
    colour.paste((0, 0, 0), (0, 0, 1, 2))
    look.paste((0, 102, 153), (0, 0, 1, 2))
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    material = trimesh.visual.material.PBRMaterial(
        name="coat", baseColorTexture=colour, metallicRoughnessTexture=look, metallicFactor=0.5, roughnessFactor=0.5
    )
    box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], material=material)
    other = trimesh.creation.box((1.0, 1.0, 1.0)).apply_translation((2.0, 0, 0))
    other.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], material=material.copy())
    other.visual.material.name = "other"
    (tmp_path / "car.glb").write_bytes(trimesh.Scene([box, other]).export(file_type="glb"))
    surface = read_painted_mesh(tmp_path / "car.glb", paint="coat", length=4.0, up="y")
    assert surface.roughness.tolist() == pytest.approx([0.3, 0.3])  # (.8 + .4) / 2 / 2
    metal = torch.where(surface.painted, 0.0, 0.2)  # (.2 + .6) / 2 / 2
    assert surface.albedo[:, 0].tolist() == pytest.approx((0.5 * (1 - metal)).tolist())
    assert surface.reflectance.tolist() == pytest.approx((0.04 + 0.46 * metal).tolist())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_box(tmp_path)
    with pytest.raises(SceneError, match="no material is named 'body'; its materials: coat, dark"):
        read_painted_mesh(path, paint="body", length=4.0, up="y")
    with pytest.raises(SceneError, match="no such file"):
        read_painted_mesh(tmp_path / "none.obj", paint="coat", length=4.0, up="y")
    with pytest.raises(SceneError, match=r"not a mesh format that is read here; use one of \.obj"):
        read_painted_mesh(tmp_path / "box.stl", paint="coat", length=4.0, up="y")
    (tmp_path / "torn.glb").write_bytes(b"glTF\x02\x00\x00\x00\x00")
    with pytest.raises(SceneError, match="not a readable mesh"):
        read_painted_mesh(tmp_path / "torn.glb", paint="coat", length=4.0, up="y")
