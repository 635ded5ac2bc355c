"""All small scenes, and the files that they name."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from key_cases import detectors, fields, flames, laws, learned, motions, objects, pictures
from simengine.io.geometry.splats import write_splats
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


def write_files(path: Path) -> None:
    """What the scenes name, into a folder; and the classes of detectors that they name."""
    random = np.random.default_rng(0)
    for name in ("photograph.png", "mask.png"):
        Image.fromarray(random.integers(60, 256, (12, 24, 3), dtype=np.uint8)).save(path / name)
    for k in range(3):
        Image.fromarray(random.integers(60, 256, (12, 16, 3), dtype=np.uint8)).save(path / f"film_{k}.png")
    Image.fromarray(np.where(np.arange(192).reshape(12, 16) % 3, 255, 0).astype(np.uint8)).save(path / "white.png")
    np.savez(path / "grid.npz", random.random((3, 4)))
    (path / "camera.json").write_text(json.dumps({"K": [[20.0, 0.0, 12.0], [0.0, 20.0, 4.0], [0.0, 0.0, 1.0]]}))
    (path / "squares.csv").write_text("file,c,l,t,r,b\nphotograph.png,0,2,2,11,8\nmask.png,0,6,3,17,10\n")
    write_splats(path / "discs.ply", {name: random.random(shape, np.float32) for name, shape in DISCS.items()})
    (path / "boxes.csv").write_text("file,l,t,r,b\nphotograph.png,2,2,11,8\n")
    (path / "cars.csv").write_text(
        "x,y,z,l,h,w,turn\n" + "1.0,1.5,9.0,4.0,1.5,1.8,0.1\n-1.5,1.5,7.0,4.0,1.4,1.7,0.2\n" * 2
    )
    (path / "probe.csv").write_text("x,T\n0.0,400\n0.002,1700\n0.02,1600\n")
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
    own_code._DETECTORS |= {"judged": Judged, "bright": Bright}
