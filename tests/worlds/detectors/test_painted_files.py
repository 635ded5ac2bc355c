"""The object in a texture, read back by another program's reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.texture import texture_picture
from simengine.io.run_directory import RunDirectory
from simengine.scene.loader import resolved
from simengine.worlds.detectors.painted_files import write_painted
from simengine.worlds.detectors.painted_mesh import read_painted_mesh
from simengine.worlds.detectors.world import DTNWorld

trimesh: Any = pytest.importorskip("trimesh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = RunDirectory.create(tmp_path / "run", resolved(DTNWorld()), overwrite=False, resume=False)
    texture = torch.zeros(4, 4, 3)
    texture[0], texture[3] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])  # red at v = 0, blue at v = 1
    out.write("texture.png", texture_picture(texture))
    write_painted(car(), out.path / "texture.png", out)
    return out.path


@pytest.mark.parametrize("name", ["object.obj", "object.glb"])
def test_what_was_written_is_read_as_the_same_object(folder: Path, name: str) -> None:
    own = car()
    paint = next(f"paint_{k}" for k, painted in enumerate(own.painted.tolist()) if painted)
    low, high = own.vertices.min(0).values, own.vertices.max(0).values
    length = float((high - low)[:2].max())
    read = read_painted_mesh(folder / name, paint=paint, length=length, up="y")
    middle = torch.cat([(low + high)[:2] / 2, low[2:]])
    assert read.corner_uv is not None and own.corner_uv is not None
    expected = torch.cat([own.vertices[own.faces] - middle, own.corner_uv], -1).flatten(1)
    found = torch.cat([read.vertices[read.faces], read.corner_uv], -1).flatten(1)
    assert found.shape == expected.shape  # parts may come in any order
    for one, other in ((found, expected), (expected, found)):
        assert float(torch.cdist(one, other, p=torch.inf).amin(1).max()) < 1e-4  # [m], and of coordinates
    assert int(read.painted[read.material].sum()) == int(own.painted[own.material].sum())
    bare = [  # albedo and roughness of the other materials, eight bits a colour
        torch.cat([body.albedo, body.roughness[:, None]], 1)[~body.painted & (body.material.bincount() > 0)]
        for body in (read, own)
    ]
    assert len(bare[0]) == len(bare[1]) and float(torch.cdist(*bare, p=torch.inf).amin(1).max()) < 0.005


@pytest.mark.parametrize("name", ["object.obj", "object.glb"])
def test_the_texture_stands_the_right_way_up(folder: Path, name: str) -> None:
    """trimesh counts v from the bottom, whatever the file does: there red, blue at the top."""
    parts = trimesh.load(folder / name, force="scene", process=False).geometry.values()
    looks = [part.visual.material for part in parts]
    image = next(
        i for look in looks for i in [getattr(look, "baseColorTexture", None) or getattr(look, "image", None)] if i
    )
    pixels = np.asarray(image.convert("RGB"))
    assert pixels[-1, 0].tolist() == [255, 0, 0] and pixels[0, 0].tolist() == [0, 0, 255]
