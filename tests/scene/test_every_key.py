"""Every key of a scene, changed to another valid value, changes what comes of the scene, or is refused.

A key may show in what is built, in the inverse problem, in its first steps, or in the results of a run; the cheap ones
are looked at first. The specs themselves are not looked into: a key must reach what computes. What a case lists as
`idle` has no effect there, for the reason told; that every key acts in some case is a test of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from key_cases import detectors, fields, flames, laws, learned, motions, objects
from key_cases.judge import SCHEMA, acting, holds_tables, leaves, scene_of, told_by
from PIL import Image

from simengine.io.splats import write_splats
from simengine.scene import own_code
from simengine.scene.kinds import KINDS
from simengine.scene.strict import hints

CASES = {
    name: case
    for module in (detectors, fields, flames, laws, learned, motions, objects)
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
        box = torch.tensor([[5.0, 2.0, 19.0, 9.0]]).expand(len(images), 1, 4)
        return box, torch.sigmoid(10 * (images[:, :, 2:9, 5:19].mean((1, 2, 3)) - 0.4))[:, None, None]

    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        label = torch.full((1,), 7)
        return [{"boxes": b, "labels": label, "scores": s[:, 0]} for b, s in zip(*self.dense(images), strict=True)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes' files lie."""
    path = tmp_path_factory.mktemp("keys")
    random = np.random.default_rng(0)
    for name in ("photograph.png", "mask.png"):
        Image.fromarray(random.integers(60, 256, (12, 24, 3), dtype=np.uint8)).save(path / name)
    np.savez(path / "grid.npz", random.random((3, 4)))
    (path / "camera.json").write_text(json.dumps({"K": [[20.0, 0.0, 12.0], [0.0, 20.0, 4.0], [0.0, 0.0, 1.0]]}))
    (path / "squares.csv").write_text("file,c,l,t,r,b\nphotograph.png,0,2,2,11,8\nmask.png,0,6,3,17,10\n")
    write_splats(path / "discs.ply", {name: random.random(shape, np.float32) for name, shape in DISCS.items()})
    (path / "boxes.csv").write_text("file,l,t,r,b\nphotograph.png,2,2,11,8\n")
    (path / "cars.csv").write_text(
        "x,y,z,l,h,w,turn\n" + "1.0,1.5,9.0,4.0,1.5,1.8,0.1\n-1.5,1.5,7.0,4.0,1.4,1.7,0.2\n" * 2
    )
    (path / "press.csv").write_text("time [s],way\n0,1\n0.5,2\n2,9\n")
    import trimesh

    box = trimesh.creation.box((2.0, 1.0, 3.0))
    box.visual = trimesh.visual.TextureVisuals(
        uv=random.random((8, 2)), material=trimesh.visual.material.SimpleMaterial(name="paint")
    )
    box.export(path / "painted.obj")
    own_code._DETECTORS |= {"judged": Judged, "bright": Bright}
    return path


def test_every_table_is_judged(folder: Path) -> None:
    judged = {type(scene_of(case.data, folder)) for case in CASES.values() if "" in case.below}
    for case in CASES.values():
        scene = scene_of(case.data, folder)
        judged |= {owner for key, _, _, (owner, _) in leaves(scene, type(scene)) if key.startswith(case.below)}
    kinds = {"Column"} | {target.rpartition(":")[2] for target in KINDS.values()}
    unjudged = [cls for cls in SCHEMA if SCHEMA[cls] and not any(issubclass(own, cls) for own in judged)]
    assert not [cls for cls in unjudged if cls.__name__ not in kinds]


def test_every_key_is_judged(folder: Path) -> None:
    """A key that no case writes and that has no default is tried nowhere: no value of it is ever changed."""
    tried: set[tuple[type, str]] = set()
    for case in CASES.values():
        scene = scene_of(case.data, folder)
        owners = [owner for key, _, _, owner in leaves(scene, type(scene)) if key.startswith(case.below)]
        tried |= {(told_by(cls, key), key) for cls, key in owners}
    elsewhere = {
        "Column": "tests/observe/test_tables.py",
        "CamouflageSpec.kind": "tests/dtn/test_checks.py, tests/worlds/detectors/test_training.py: several classes",
    }
    untried = [
        f"{cls.__name__}.{key}"
        for cls, keys in SCHEMA.items()
        for key in sorted(keys)
        if (told_by(cls, key), key) not in tried and not holds_tables(hints(cls)[key])
    ]
    assert not [key for key in untried if key not in elsewhere and key.partition(".")[0] not in elsewhere]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * case.slow) for n, case in CASES.items()])
def test_every_key_acts_or_is_refused(name: str, folder: Path) -> None:
    case = CASES[name]
    acts, idle = acting(case, folder)
    known = {key: reason for key in idle for end, reason in case.idle.items() if key.endswith(end)}
    assert not set(idle) - set(known), "these keys are accepted and do nothing"
    assert not [end for end in case.idle if any(key.endswith(end) for key in acts)], "listed as idle, but it acts"
