"""Materials of glTF: beside trimesh, back as written, spoilt files told in a line, seen by a scene's camera."""

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.io.geometry.gltf import GltfMaterial, GltfTriangles, read_gltf
from simengine.io.geometry.gltf_writing import write_gltf
from simengine.io.image import from_srgb
from simengine.render import PinholeCamera
from simengine.scene import load_world
from simengine.worlds.motion.view import MotionViewer, skins_of

CORNERS = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
CUBE = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                 [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip


def two_materials(seed: int = 3) -> GltfTriangles:
    """A cube, a third of it metal, with textures of 8 bits."""
    random = np.random.default_rng(seed)
    normal = np.concatenate([random.uniform(-0.5, 0.5, (4, 8, 2)), np.ones((4, 8, 1))], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    wood = GltfMaterial(
        name="wood",
        base_colour=from_srgb(random.integers(0, 256, (6, 5, 3)) / 255),
        metallic=np.zeros((4, 4, 1)),
        roughness=random.integers(20, 256, (4, 4, 1)) / 255,
        normal=normal,
    )
    red = np.array([[[0.8, 0.1, 0.2]]])
    brass = GltfMaterial(name="brass", base_colour=red, metallic=np.ones((1, 1, 1)), roughness=np.full((1, 1, 1), 0.25))
    return GltfTriangles(
        vertices=CORNERS,
        faces=CUBE,
        material=np.repeat([0, 1, 0], 4),
        materials=(wood, brass),
        corner_uv=random.uniform(0, 1, (12, 3, 2)).astype(np.float32).astype(float),
        normal_of_corner=np.arange(36).reshape(12, 3),
    )


def by_triangle(mesh: GltfTriangles, name: str) -> np.ndarray:
    """Something of each triangle, in an order that a file cannot change: by material, then by place."""
    corners = mesh.vertices[mesh.faces]
    order = np.lexsort((*corners.reshape(-1, 9).round(6).T, np.array([mesh.materials[m].name for m in mesh.material])))
    value = corners if name == "corners" else getattr(mesh, name)
    return np.asarray(value[order])


def test_back_as_it_was_written(tmp_path: Path) -> None:
    mesh = two_materials()
    write_gltf(tmp_path / "cube.glb", mesh)
    again = read_gltf(tmp_path / "cube.glb")
    assert [m.name for m in again.materials] == ["wood", "brass"]
    assert len(again.vertices) == 8  # corners of one place are one vertex again, or there would be outlines at edges
    assert len(np.unique(again.normal_of_corner)) == 24  # and each side of the cube keeps its own normals
    np.testing.assert_allclose(by_triangle(again, "corners"), by_triangle(mesh, "corners"), atol=1e-6)
    np.testing.assert_allclose(by_triangle(again, "corner_uv"), by_triangle(mesh, "corner_uv"), atol=1e-6)
    for own, was in zip(again.materials, mesh.materials, strict=True):
        np.testing.assert_allclose(own.base_colour, was.base_colour, atol=1e-6)  # they were of 8 bits
        np.testing.assert_allclose(np.broadcast_to(own.metallic, was.metallic.shape), was.metallic, atol=1e-6)
        np.testing.assert_allclose(own.roughness, was.roughness, atol=1e-6)
    assert again.materials[0].normal is not None and mesh.materials[0].normal is not None
    assert np.abs(again.materials[0].normal - mesh.materials[0].normal).max() < 1.01 / 255
    assert again.materials[1].normal is None


def test_beside_trimesh(tmp_path: Path) -> None:
    # what another reader finds in the file: triangles, textures and numbers of each material
    trimesh = pytest.importorskip("trimesh")
    mesh = two_materials()
    write_gltf(tmp_path / "cube.glb", mesh)
    parts = trimesh.load(tmp_path / "cube.glb", force="scene", process=False).dump()
    assert sorted(len(part.faces) for part in parts) == [4, 8]
    looks = {part.visual.material.name: part for part in parts}
    wood, brass = looks["wood"], looks["brass"]
    own = np.asarray(wood.visual.material.baseColorTexture.convert("RGB")) / 255
    np.testing.assert_allclose(from_srgb(own), mesh.materials[0].base_colour, atol=1e-6)
    mixed = np.asarray(wood.visual.material.metallicRoughnessTexture.convert("RGB")) / 255
    np.testing.assert_allclose(mixed[..., 1:2], mesh.materials[0].roughness, atol=1e-6)
    assert brass.visual.material.metallicFactor == pytest.approx(1.0)
    assert brass.visual.material.roughnessFactor == pytest.approx(0.25)
    corners = np.asarray(wood.vertices)[wood.faces].reshape(-1, 9)
    expected = mesh.vertices[mesh.faces[mesh.material == 0]].reshape(-1, 9)
    np.testing.assert_allclose(corners[np.lexsort(corners.T)], expected[np.lexsort(expected.T)], atol=1e-6)


def document(**more: object) -> dict[str, object]:
    """A triangle below two nodes, the buffer within the text."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype="<f4").tobytes()
    uri = "data:application/octet-stream;base64," + base64.b64encode(points).decode()
    turn = [0.0, 0.0, 2**-0.5, 2**-0.5]  # a quarter about z
    tree: dict[str, object] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"translation": [5, 0, 0], "rotation": turn, "children": [1]}, {"scale": [2, 3, 1], "mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "buffers": [{"uri": uri, "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
    }
    return {**tree, **more}


def test_nodes_place_what_is_below(tmp_path: Path) -> None:
    file = tmp_path / "one.gltf"
    file.write_text(json.dumps(document()))
    mesh = read_gltf(file)
    # stretched, turned by a quarter, shifted: (1, 0) -> (0, 2) -> (5, 2), (0, 1) -> (-3, 0) -> (2, 0)
    np.testing.assert_allclose(mesh.vertices[mesh.faces[0]], [[5, 0, 0], [5, 2, 0], [2, 0, 0]], atol=1e-6)
    mirrored = [{"scale": [-1, 1, 1], "mesh": 0}]
    file = tmp_path / "mirrored.gltf"
    file.write_text(json.dumps(document(nodes=mirrored)))
    a, b, c = read_gltf(file).vertices[read_gltf(file).faces[0]]
    assert np.cross(b - a, c - a)[2] > 0  # its front is still its front


TEXTURED = {"materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]}
PRIMITIVE = [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"asset": {"version": "1.0"}}, "glTF of version 1.0; expected 2.0"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "it needs KHR_draco_mesh_compression"),
        ({"nodes": [{"children": [0]}]}, "in a circle"),
        ({"meshes": [{"primitives": [{"mode": 1, "attributes": {"POSITION": 0}}]}]}, "it holds no triangles"),
        ({"bufferViews": [{"buffer": 0, "byteLength": 360}]}, "bufferViews.0 reaches beyond its buffer of 36"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}]}, "accessors.0 reaches"),
        ({"accessors": [{"bufferView": 0, "componentType": 7, "count": 3, "type": "VEC3"}]}, "not a readable glTF"),
        ({"buffers": [{"uri": "../secret.bin", "byteLength": 36}]}, "expected a file beside the glTF"),
        ({"buffers": [{"uri": "gone.bin", "byteLength": 36}]}, "gone.bin: no such file"),
        ({**TEXTURED, "meshes": PRIMITIVE, "textures": [{"source": 0}], "images": [{"uri": "data:;base64,QUJD"}]},
         "a texture is not a readable picture"),
        ({**TEXTURED, "meshes": PRIMITIVE, "textures": [{"source": 0, "sampler": 0}],
          "samplers": [{"wrapS": 33648}]}, "mirrored where it repeats"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_told(more: dict[str, object], told: str, tmp_path: Path) -> None:
    file = tmp_path / "one.gltf"
    file.write_text(json.dumps(document(**more)))
    with pytest.raises(ValueError, match=told) as caught:
        read_gltf(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_spoilt_files_are_told_in_a_line(tmp_path: Path) -> None:
    write_gltf(tmp_path / "cube.glb", two_materials())
    whole = bytearray((tmp_path / "cube.glb").read_bytes())
    random = np.random.default_rng(0)
    for k in range(60):
        spoilt = whole[: int(random.integers(1, len(whole)))] if k % 3 == 0 else bytearray(whole)
        for at in random.integers(0, min(len(spoilt), 1500), 4):
            spoilt[at] = int(random.integers(256))
        file = tmp_path / f"spoilt_{k}.glb"
        file.write_bytes(spoilt)
        try:
            read_gltf(file)
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error) and len(str(error)) < 400 + len(str(file))
    header = struct.pack("<4sII", b"glTF", 3, 12)
    (tmp_path / "three.glb").write_bytes(header)
    with pytest.raises(ValueError, match=r"a \.glb of version 3"):
        read_gltf(tmp_path / "three.glb")


SCENE = """
kind = "mpm"
gravity = [0.0, 0.0, 0.0]
[grid]
num_grids = 32
num_steps = 10
[[bodies]]
name = "cube"
shape = { type = "mesh", file = "FILE", center = [0.5, 0.5, 0.5], size = 0.5, materials = true }
material = { type = "jelly", E = 1e5, nu = 0.3 }
[[bodies]]
name = "plain"
color = [0.1, 0.9, 0.3]
shape = { type = "box", center = [0.82, 0.5, 0.5], size = [0.1, 0.1, 0.1], counts = [3, 3, 3] }
material = { type = "jelly", E = 1e5, nu = 0.3 }
"""


def test_a_scene_sees_the_materials(tmp_path: Path) -> None:
    mesh = two_materials()
    write_gltf(tmp_path / "cube.glb", mesh)
    (tmp_path / "scene.toml").write_text(SCENE.replace("FILE", "cube.glb"))
    world = load_world(tmp_path / "scene.toml")
    x, volumes, ids = (torch.as_tensor(array) for array in world.particles())
    viewer = MotionViewer(
        world, skins_of(world), ids, tuple(float(volumes[ids == k].mean()) ** (1 / 3) for k in (0, 1))
    )
    # a little aside: straight ahead pixel centres lie on the sides of triangles, and belong to either
    camera = PinholeCamera.look_at((0.53, 0.56, 2.5), (0.5, 0.5, 0.5), width=64, height=48, dtype=torch.float64)
    picture = viewer.image(x.double(), camera)
    own = at_rest(mesh, camera)
    middle = (slice(16, 32), slice(24, 40))  # the cube's front
    torch.testing.assert_close(picture.rgb[middle], own[middle], rtol=0, atol=1e-9)
    at = camera.project(torch.tensor([[0.82, 0.5, 0.55]]).double())[0]
    green = picture.rgb[int(at[1]), int(at[0])]
    torch.testing.assert_close(green, torch.tensor([0.1, 0.9, 0.3]).double(), rtol=0, atol=1e-6)
    # its colours go with the body
    moved = viewer.image(x.double() + torch.tensor([0.0, 0.1, 0.0]).double(), camera).rgb
    assert float((moved - picture.rgb).abs().max()) > 0.1


def at_rest(mesh: GltfTriangles, camera: PinholeCamera) -> torch.Tensor:
    """The file itself, placed as the scene does."""
    from simengine.render import render_mesh
    from simengine.worlds.motion.painted import painted_mesh

    painted = painted_mesh(mesh)
    return render_mesh(painted.with_vertices(0.5 * painted.vertices + 0.25), camera).rgb


def test_materials_of_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cube.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n")
    (tmp_path / "scene.toml").write_text(SCENE.replace("FILE", "cube.obj"))
    assert main(["check", str(tmp_path / "scene.toml")]) == 2
    told = capsys.readouterr().err
    assert "materials are read from .glb and .gltf" in told and "Traceback" not in told


def test_a_file_is_pictured_on_a_floor(tmp_path: Path) -> None:
    from PIL import Image

    write_gltf(tmp_path / "cube.glb", two_materials())
    arguments = ["render", str(tmp_path / "cube.glb"), "--size", "64x48", "--out"]
    assert main([*arguments, str(tmp_path / "floor.png"), "--floor"]) == 0
    assert main([*arguments, str(tmp_path / "plain.png")]) == 0
    floor, plain = (
        np.asarray(Image.open(tmp_path / f"{n}.png").convert("RGB")).astype(int) for n in ("floor", "plain")
    )
    background = plain[0, 0]
    beside = (plain == background).all(-1)
    assert (floor[0] == background).all()  # the sky is as it was
    assert ((background - floor)[beside] >= 0).all() and (background - floor)[beside].max() > 40  # a shadow, no light
    assert len(np.unique(plain[24, 24:40], axis=0)) > 8  # its textures are seen
