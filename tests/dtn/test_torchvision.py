"""Adapters of torchvision against the library itself: random weights, its own post-processing; skipped without it."""

from typing import Any

import pytest
import torch

from simengine.dtn.adapters import LibraryDetector, TorchvisionDetector, TwoStageDetector
from simengine.dtn.checks import check_detector

detection: Any = pytest.importorskip("torchvision.models.detection", exc_type=ImportError)
SIZE = (96, 136)  # no multiple of 32, so that padding is seen

ONE_STAGE = {
    "retinanet": ("retinanet_resnet50_fpn", "sigmoid"),
    "fcos": ("fcos_resnet50_fpn", "sigmoid"),
    "ssd": ("ssd300_vgg16", "softmax"),
    "ssdlite": ("ssdlite320_mobilenet_v3_large", "softmax"),
}
TWO_STAGE = {
    "faster": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "mask": "maskrcnn_resnet50_fpn",
    "keypoint": "keypointrcnn_resnet50_fpn",
}


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    make = getattr(detection, name)
    classes = 2 if name.startswith("keypoint") else 4
    model = make(weights=None, weights_backbone=None, num_classes=classes)
    if not name.startswith("ssd"):  # the library then finds each picture of the right size
        model.transform.min_size, model.transform.max_size = (min(SIZE),), max(SIZE)
    with torch.no_grad():  # features that tell places apart, and classes and boxes that differ
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = None
        model.train().backbone(torch.randn(2, 3, 320, 320))
        for part, weight in model.named_parameters():
            if "cls_logits" in part or "classification_head" in part or "cls_score" in part or "bbox_pred" in part:
                weight += 0.003 * torch.randn_like(weight)
    return model


def compare(adapter: Any, model: Any, images: torch.Tensor, *, least: int) -> None:
    model.train()
    ours = adapter.predict(images)
    assert model.training  # its mode is left as it was found
    model.eval()
    with torch.no_grad():
        theirs = model(list(images))
    assert sum(len(one["scores"]) for one in theirs) >= least
    for a, b in zip(ours, theirs, strict=True):
        assert len(a["scores"]) == len(b["scores"])
        assert torch.allclose(a["scores"], b["scores"], atol=1e-4)
        # order is free among equal scores: each of theirs has one of ours of its label, score [1e-4] and place [px]
        away = torch.cdist(b["boxes"], a["boxes"], p=torch.inf) / (1e-4 * max(SIZE))
        away = torch.maximum(away, (a["scores"] - b["scores"][:, None]).abs() / 1e-4)
        away[a["labels"] != b["labels"][:, None]] = torch.inf
        assert float(away.amin(1).max()) <= 1.0


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "ssd" else ()) for n in ONE_STAGE])
def test_one_stage_detectors_find_what_the_library_does(name: str) -> None:
    make, activation = ONE_STAGE[name]
    model = model_of(make)
    adapter = TorchvisionDetector(model, resize=make.startswith("ssd"))
    assert adapter.activation == activation and adapter.most == model.detections_per_img
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():  # a threshold that fewer scores pass than the library keeps of a level or a label
        threshold = adapter.dense(images)[1].flatten(1).sort(descending=True).values[:, 300].max()
    adapter.threshold = model.score_thresh = float(threshold)
    compare(adapter, model, images, least=20)


@pytest.mark.parametrize("name", ["faster", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mask", "keypoint"))])
def test_two_stage_detectors_find_what_the_library_does(name: str) -> None:
    model = model_of(TWO_STAGE[name])
    adapter = TwoStageDetector(model)
    assert adapter.overlap == model.roi_heads.nms_thresh
    compare(adapter, model, torch.rand(2, 3, *SIZE), least=20)


def test_a_library_detector_resizes_as_the_library_does() -> None:
    """SSD sees 300 x 300 whatever it is given; `dense` sees what `predict` sees."""
    torch.manual_seed(0)
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    adapter, images = LibraryDetector(model, kind=2), torch.rand(1, 3, *SIZE)
    check_detector(adapter, images, kind=2)
    with torch.no_grad():
        boxes, scores = adapter.dense(images)
    found = adapter.predict(images)[0]
    for box, label, score in zip(found["boxes"][:20], found["labels"], found["scores"], strict=False):
        there = (boxes[0] - box).abs().amax(1) < 1e-2  # [px]
        assert float((scores[0, there, int(label)] - score).abs().min()) < 1e-5
