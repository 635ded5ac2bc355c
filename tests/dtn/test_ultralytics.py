"""The adapter of ultralytics against the library's own `predict`: random weights; skipped without it."""

import os
from typing import Any

import pytest
import torch

from simengine.dtn.adapters import UltralyticsDetector
from simengine.dtn.checks import check_detector
from simengine.dtn.letterbox import Letterbox
from simengine.dtn.turned.boxes import turned_corners

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}  # it would look for the network at import
ultralytics: Any = pytest.importorskip("ultralytics", exc_type=ImportError)


def command(name: str, *, end_to_end: bool = False) -> Any:
    torch.manual_seed(0)
    yolo = ultralytics.YOLO(name, verbose=False)
    model = yolo.model
    if end_to_end:
        model.model[-1].end2end = True
    with torch.no_grad():  # features that tell places apart, and classes that differ
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = None
        model.train()(torch.rand(4, 3, 96, 128))
        for part, weight in model.named_parameters():
            if "cv3" in part and part.endswith(".2.weight"):
                weight *= 0.1  # else most scores are 1, and which boxes stay is a matter of order
    model.eval()
    return yolo


@pytest.mark.parametrize(
    ("name", "end_to_end"),
    [("yolov8n.yaml", False), ("yolo11n.yaml", False), ("yolo11n-seg.yaml", False), ("yolov10n.yaml", True)],
)
def test_found_is_what_the_librarys_predict_finds(name: str, end_to_end: bool) -> None:
    yolo = command(name, end_to_end=end_to_end)
    adapter = UltralyticsDetector(yolo)
    images = torch.rand(2, 3, 96, 128)
    check_detector(adapter, images)
    with torch.no_grad():
        best = adapter.dense(images)[1].amax(-1).flatten().sort(descending=True).values
    adapter.threshold = float(best[80:82].mean())  # between two scores
    ours = adapter.predict(images)
    if end_to_end:  # its fused copy may have lost the flag, and `predict` then suppresses what needs none
        with torch.no_grad():
            rows = ultralytics.utils.nms.non_max_suppression(yolo.model(images), adapter.threshold, max_det=300)
    else:
        found = yolo.predict(images, conf=adapter.threshold, imgsz=(96, 128), verbose=False, save=False)
        rows = [one.boxes.data for one in found]
    assert sum(len(one) for one in rows) > 20
    for a, b in zip(ours, rows, strict=True):
        assert len(a["scores"]) == len(b)
        assert torch.allclose(a["scores"], b[:, 4], atol=1e-4)
        # order is free among equal scores: each of theirs has one of ours of its label, score [1e-4] and place [px]
        limit = torch.tensor([128.0, 96.0, 128.0, 96.0])
        corners = torch.minimum(b[:, :4].clamp(min=0), limit)
        away = torch.cdist(corners, a["boxes"], p=torch.inf) / (1e-4 * 128)
        away = torch.maximum(away, (a["scores"] - b[:, 4:5]).abs() / 1e-4)
        away[a["labels"] != b[:, 5:6].long()] = torch.inf
        assert float(away.amin(1).max()) <= 1.0


def test_turned_boxes_are_those_of_the_librarys_predict() -> None:
    yolo = command("yolo11n-obb.yaml")
    adapter = UltralyticsDetector(yolo)
    images = torch.rand(2, 3, 96, 128)
    check_detector(adapter, images)
    with torch.no_grad():
        best = adapter.dense(images)[1].amax(-1).flatten().sort(descending=True).values
    adapter.threshold = float(best[80:82].mean())
    found = yolo.predict(images, conf=adapter.threshold, imgsz=(96, 128), verbose=False, save=False)
    fused = UltralyticsDetector(yolo.predictor.model.model)  # what `predict` looks with: its last digits show here,
    fused.threshold = adapter.threshold  # where boxes are not cut and reach hundreds of pixels beyond the picture
    ours = fused.predict(images)
    assert sum(len(one.obb) for one in found) > 10
    for a, b in zip(ours, found, strict=True):
        assert len(a["scores"]) == len(b.obb) and torch.allclose(a["scores"], b.obb.conf, atol=1e-4)
        theirs = b.obb.xyxyxyxy
        # corners in any order: each of theirs is one of ours [px]
        away = torch.cdist(theirs.flatten(0, 1), turned_corners(a["turned"]).flatten(0, 1), p=torch.inf)
        assert float(away.amin(1).max()) <= 1e-4 * 128
        assert torch.equal(a["labels"].sort().values, b.obb.cls.long().sort().values)


def test_sides_are_padded() -> None:
    adapter = UltralyticsDetector(command("yolo11n.yaml"))
    with pytest.raises(ValueError, match="sides that divide by 32"):
        adapter.dense(torch.rand(1, 3, 90, 128))
    boxed, images = Letterbox(adapter), torch.rand(1, 3, 90, 128)
    boxes, scores = boxed.dense(images)
    padded, _ = adapter.dense(torch.nn.functional.pad(images, (0, 0, 0, 6), value=114 / 255))
    assert torch.equal(boxes, padded) and float(scores.detach().max()) <= 1.0
    adapter.kind = 3
    boxed.loss(images, torch.tensor([[10.0, 10.0, 60.0, 50.0]])).backward()
    assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in adapter.parameters())
