"""Turned boxes as labels: YOLO's lines of four corners, judged by the overlap of the turned boxes themselves."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.cli import main
from simengine.dtn.letterbox import Letterbox
from simengine.dtn.turned.boxes import hull_of, turned_corners, turned_iou

SIZE = 48, 72
SCRIPT = """
import torch
import simengine as se


class Turned:
    def predict(self, images):
        h, w = images.shape[2:]
        turned = torch.tensor([[w * 40 / 72, h * 22 / 48, w * 20 / 72, h * 8 / 48, 0.6]])
        box = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
        return [{"boxes": box, "turned": turned, "labels": torch.tensor([3]), "scores": torch.tensor([0.9])}]


@se.detector("turned")
def turned(weights):
    return Turned()
"""
SCENE = """
kind = "pictures"

[pictures]
files = "*.png"

[detector]
DETECTOR

[observations.labels]
type = "labelled"
file = "drawn"
label = "ship"
turned = TURNED
"""


def lines(folder: Path, name: str, boxes: list[list[float]], scores: list[float] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    corners = turned_corners(torch.tensor(boxes, dtype=torch.float64)) / torch.tensor([SIZE[1], SIZE[0]])
    rows = []
    for k, one in enumerate(corners.flatten(1).tolist()):
        rows.append(" ".join(f"{value:.8f}" for value in ([0, *one] + ([scores[k]] if scores else []))))
    (folder / f"{name}.txt").write_text("\n".join(rows).replace("0.00000000 ", "0 ", 1) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A found box that lies across its object, in the same upright box; another that is right."""
    for name in ("a", "b"):
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    lines(tmp_path / "drawn", "a", [[36.0, 24.0, 20.0, 8.0, math.pi / 4]])
    lines(tmp_path / "drawn", "b", [[40.0, 22.0, 20.0, 8.0, 0.6]])
    lines(tmp_path / "found", "a", [[36.0, 24.0, 20.0, 8.0, -math.pi / 4]], [0.9])
    lines(tmp_path / "found", "b", [[40.5, 22.0, 20.0, 8.0, 0.65]], [0.8])
    (tmp_path / "own.py").write_text(SCRIPT)
    return tmp_path


def told(folder: Path, detector: str, turned: str, *more: str) -> dict:
    scene = SCENE.replace("DETECTOR", detector).replace("TURNED", turned)
    (folder / "scene.toml").write_text(scene)
    assert main(["predict", str(folder / "scene.toml"), "--out", str(folder / "run"), "--overwrite", *more]) == 0
    found: dict = json.loads((folder / "run/predict.json").read_text())["observations"]["labels"]
    return found


@pytest.mark.parametrize(("turned", "missed"), [("false", 0.0), ("true", 0.5)])
def test_a_box_that_lies_across_its_object_is_no_hit(folder: Path, turned: str, missed: float) -> None:
    """Two boxes of 20 x 8 at right angles share 64 of 256 square pixels, and their upright boxes are the same."""
    across = torch.tensor([[36.0, 24.0, 20.0, 8.0, math.pi / 4], [36.0, 24.0, 20.0, 8.0, -math.pi / 4]]).double()
    assert float(turned_iou(across[0], across[1])) == pytest.approx(64 / 256)
    assert torch.allclose(*hull_of(across))
    summary = told(folder, 'file = "found"\nclasses = { ship = 0 }', turned)
    assert summary["objects"] == 2 and summary["missed"]["value"] == missed
    assert summary["errors"]["loose"]["count"] == int(2 * missed)
    header, first, *_ = (folder / "run/pictures/labels_detections.csv").read_text().splitlines()
    if turned == "true":
        assert header == "picture,class,x,y,width,height,angle,score"
        assert first.startswith("a.png,ship,36.0") and "Boxes are turned" in (folder / "run/report.html").read_text()


def test_a_detector_of_turned_boxes_is_asked_for_them(folder: Path) -> None:
    script = "--with", str(folder / "own.py")
    own = 'architecture = "turned"\nclasses = { ship = 3 }\nside = 144\nmultiple = 1'
    axes = "--set", "test.axes={scale=[0.5]}"
    summary = told(folder, own, "true", *script, *axes)  # twice as large before the detector, and half as large
    assert summary["missed"]["value"] == 0.5 and summary["false_alarms"] == 1
    assert [row["missed"]["value"] for row in summary["along"]["scale"]] == [0.5, 0.5]
    rows = (folder / "run/pictures/labels_detections.csv").read_text().splitlines()[1:]
    assert len(rows) == 2 and [float(v) for v in rows[1].split(",")[2:]] == pytest.approx(
        [40.0, 22.0, 20.0, 8.0, 0.6, 0.9], abs=1e-3
    )


def test_what_is_upright_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "drawn/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "drawn/b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    scene = SCENE.replace("DETECTOR", 'file = "found"\nclasses = { ship = 0 }').replace("TURNED", "true")
    (folder / "scene.toml").write_text(scene)
    assert main(["predict", str(folder / "scene.toml"), "--out", str(folder / "run")]) == 2
    assert "observations.labels.turned: drawn has upright boxes; expected YOLO's lines" in capsys.readouterr().err


def test_a_letterbox_brings_turned_boxes_back() -> None:
    class Fixed:
        def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            turned = torch.tensor([[60.0, 40.0, 30.0, 10.0, 0.4]])
            empty = torch.zeros(0, 5)
            one = {"labels": torch.zeros(1), "scores": torch.ones(1)}
            return [
                {"boxes": hull_of(turned), "turned": turned, **one},
                {"boxes": torch.zeros(0, 4), "turned": empty, "labels": torch.zeros(0), "scores": torch.zeros(0)},
            ]

    one, none = Letterbox(Fixed(), side=128, multiple=32).predict(torch.zeros(2, 3, 32, 64))
    assert one["turned"].tolist()[0] == pytest.approx([30.0, 20.0, 15.0, 5.0, 0.4], abs=1e-4)
    assert none["turned"].shape == (0, 5)
