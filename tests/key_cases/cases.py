"""All small scenes, and the files that they name."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from key_cases import detectors, fields, flames, laws, learned, motions, objects, pictures
from simengine.dtn.network import TransformationNetwork
from simengine.io.geometry.splats import write_splats
from simengine.io.model_folder import write_model
from simengine.io.run_directory import RunDirectory
from simengine.scene import own_code

CASES = {
    name: case
    for module in (detectors, fields, flames, laws, learned, motions, objects, pictures)
    for name, case in module.CASES.items()
}


DISCS = {"positions": (5, 3), "harmonics": (5, 1, 3), "opacities": (5,), "scales": (5, 2), "rotations": (5, 4)}


class Judged:
    """A detector that sees one box, whose score its weights tell."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        bright = float(images.mean())
        boxes = torch.tensor([[3.0, 3.0, 18.0, 13.0]])[: int(bright > 0.1)]
        n = len(boxes)
        score = 0.3 + 0.1 * len(self.weights) + 0.1 * bright
        return [{"boxes": boxes, "labels": torch.full((n,), 7), "scores": torch.full((n,), score)}]


class Bright(torch.nn.Module):
    """A detector of one box by its brightness, with a gradient."""

    def __init__(self, weights: str) -> None:
        super().__init__()

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        box = torch.tensor([[8.0, 4.0, 19.0, 9.0]]).expand(len(images), 1, 4)
        score = torch.sigmoid(10 * (images[:, :, 4:9, 8:19].mean((1, 2, 3)) - 0.4))
        return box, torch.nn.functional.pad(score[:, None, None], (7, 0))  # of class 7

    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        label = torch.full((1,), 7)
        found = zip(*self.dense(images), strict=True)
        return [{"boxes": b, "labels": label, "scores": s[:, 7]} for b, s in found]


def write_renders(path: Path) -> None:
    """A table of pictures of a square in two paints, and an untrained network for them."""
    path.mkdir()
    rows, greys = ["view,set,reference,mask,uv,expected,red,green,blue"], []
    y, x = np.mgrid[0:32, 0:32]
    for k in range(4):
        inside = (abs(x - 12 - 3 * k) < 7) & (abs(y - 16) < 6)
        light = 0.3 + 0.02 * k + 0.3 * x / 32

        def save(name: str, values: np.ndarray, k: int = k) -> str:
            Image.fromarray((255 * values).round().astype(np.uint8)).save(path / f"{name}_{k}.png")
            return f"{name}_{k}.png"

        grey = np.repeat(light[..., None], 3, 2)
        uv = np.stack([x / 32, y / 32, 0 * x], -1)
        seen = np.where(inside[..., None], grey * np.array([1.0, 0.5, 0.4]), grey)
        files = [save("grey", grey), save("cover", inside.astype(float)), save("uv", uv), save("seen", seen)]
        rows.append(",".join([f"v{k}", "train" if k < 2 else "test", *files, "0.5", "0.12", "0.08"]))
        dull = save("dull", np.where(inside[..., None], 0.4 * grey, grey))
        greys.append(",".join([f"v{k}", "train" if k < 2 else "test", *files[:3], dull, *["0.08"] * 3]))
    rows += [f"none {k},,grey_{k}.png,,,,,," for k in range(2)]
    (path / "renders.csv").write_text("\n".join(rows) + "\n")
    (path / "greys.csv").write_text("\n".join(rows + greys) + "\n")
    torch.manual_seed(3)
    options = {"head": "linear", "extractor": "conv", "geometry": False, "width": 4, "depth": 2}
    out = RunDirectory.create(path / "network", {"kind": "renders"}, overwrite=False, resume=False)
    weights = TransformationNetwork(**options).state_dict()
    write_model(out, "transformation", weights, reads="a picture", gives="another", options=options)


def _ball(count: int) -> dict[str, np.ndarray]:
    """Discs on a ball of radius 0.15 m about (0.45, 0.5, 0.5), spread evenly."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    out = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)
    turns = np.stack([1 + out[:, 2], -out[:, 1], out[:, 0], np.zeros(count)], 1)  # of the axis z to the normal
    return {
        "positions": np.array([0.45, 0.5, 0.5]) + 0.15 * out,
        "harmonics": np.zeros((count, 1, 3)),
        "opacities": np.full(count, 3.0),
        "scales": np.full((count, 2), np.log(0.02)),
        "rotations": turns,
    }


def write_files(path: Path) -> None:
    """What the scenes name, into a folder; and the classes of detectors that they name."""
    random = np.random.default_rng(0)
    for name in ("photograph.png", "mask.png"):
        Image.fromarray(random.integers(60, 256, (12, 24, 3), dtype=np.uint8)).save(path / name)
    film, films = np.random.default_rng(1), path / "films"  # all pictures in the folder itself are of a detector
    films.mkdir(exist_ok=True)
    for k in range(3):
        Image.fromarray(film.integers(60, 256, (12, 16, 3), dtype=np.uint8)).save(films / f"film_{k}.png")
    Image.fromarray(np.where(np.arange(192).reshape(12, 16) % 3, 255, 0).astype(np.uint8)).save(films / "white.png")
    rim = ["0,0.2,a", "0,0.4,a", "0,0.6,a", "0.99,0.3,b", "0.99,0.5,b", "0.99,0.7,b"]
    within = [f"{0.2 * (k % 5 + 0.2)},{0.2 * (k // 5 + 0.13 * (k % 3))}," for k in range(20)]
    (path / "points.csv").write_text("\n".join(["x [m],y [m],side", *rim, *within]) + "\n")
    np.savez(path / "grid.npz", random.random((3, 4)))
    np.savez(path / "cells.npz", density=np.full((2, 3, 2), 4.0), colour=np.linspace(0, 1, 36).reshape(2, 3, 2, 3))
    (path / "camera.json").write_text(json.dumps({"K": [[20.0, 0.0, 12.0], [0.0, 20.0, 4.0], [0.0, 0.0, 1.0]]}))
    (path / "squares.csv").write_text("file,c,l,t,r,b\nphotograph.png,0,2,2,11,8\nmask.png,0,6,3,17,10\n")
    write_splats(path / "ball.ply", {name: value.astype(np.float32) for name, value in _ball(300).items()})
    write_splats(path / "discs.ply", {name: random.random(shape, np.float32) for name, shape in DISCS.items()})
    (path / "boxes.csv").write_text("file,l,t,r,b\nphotograph.png,2,2,11,8\n")
    (path / "cars.csv").write_text(
        "x,y,z,l,h,w,turn\n" + "1.0,1.5,9.0,4.0,1.5,1.8,0.1\n-1.5,1.5,7.0,4.0,1.4,1.7,0.2\n" * 2
    )
    (path / "probe.csv").write_text("x,T\n0.0,400\n0.002,1700\n0.02,1600\n")
    (path / "cloud.csv").write_text("x,y,z\n" + "".join(f"{45 + 5 * k},{50 + k % 2},50\n" for k in range(6)))
    state = {
        "x": 0.4 + np.linspace(0.0, 0.1, 24).reshape(8, 3),
        "v": np.ones((8, 3)),
        "C": np.ones((8, 3, 3)),
        "q": np.zeros(8),
    }
    state |= {"F": np.tile(np.eye(3), (8, 1, 1)), "A": np.zeros((8, 0, 3, 3)), "step": np.array(2)}
    lattice = {"origin": np.zeros(3), "spacing": np.array(1 / 12), "time_step": np.array(5e-4)}
    np.savez(path / "last_state.npz", **state, **lattice)
    (path / "orbit.csv").write_text("yaw [deg],pitch [deg],distance [m]\n40,12,6.5\n220,20,8\n")
    (path / "yard").mkdir()
    yard = np.random.default_rng(1).integers(60, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(yard).save(path / "yard" / "yard.png")
    np.save(path / "dome.npy", np.random.default_rng(2).uniform(0.2, 1.0, (8, 16, 3)).astype(np.float32))
    (path / "press.csv").write_text("time [s],way\n0,1\n0.5,2\n2,9\n")
    y, x = np.mgrid[-10:11, -10:11] / 8.0
    ball = np.where(x**2 + y**2 < 1, 255, 0).astype(np.uint8)
    Image.fromarray(ball).save(path / "ball.png")
    Image.fromarray(np.where(y < 0.2, ball, 0).astype(np.uint8)).save(path / "part.png")
    for k, (right, up) in enumerate(((0.3, 0.1), (-0.2, 0.3), (0.0, -0.3), (0.2, 0.2))):
        spot = 250 * np.exp(-30 * ((x - right) ** 2 + (y + up) ** 2))
        matt = (200 * (x * right - y * up + 0.9 * np.sqrt((1 - x**2 - y**2).clip(0))).clip(0, 1)).clip(0, 255)
        Image.fromarray(spot.round().astype(np.uint8)).save(path / f"mirror_{k}.png")
        Image.fromarray(matt.round().astype(np.uint8)).save(path / f"matt_{k}.png")
    lamps = "r,u,c\n" + "\n".join(f"{0.5 - 0.3 * k},{0.2 * k},0.9" for k in range(4)) + "\n"
    (path / "lamps.csv").write_text(lamps)
    import trimesh

    box = trimesh.creation.box((2.0, 1.0, 3.0))
    box.visual = trimesh.visual.TextureVisuals(
        uv=random.random((8, 2)), material=trimesh.visual.material.SimpleMaterial(name="paint")
    )
    box.export(path / "painted.obj")
    write_renders(path / "given")
    own_code._DETECTORS |= {"judged": Judged, "bright": Bright}
