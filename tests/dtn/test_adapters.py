"""Formats of other libraries' detectors, by stand-ins that return them; none of the libraries is needed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from simengine.dtn.adapters import DETRDetector, TorchvisionDetector, UltralyticsDetector
from simengine.dtn.camouflage import evasion_loss
from simengine.dtn.detector import Detector, checked_dense

IMAGES = torch.full((2, 3, 40, 80), 0.5)


class Yolo(nn.Module):
    """One box about (20, 10), 8 x 4 pixels, whose scores depend on the picture."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        score = images.mean((1, 2, 3))
        columns = [torch.full_like(score, v) for v in (20.0, 10.0, 8.0, 4.0)] + [score, 0.5 * score]
        return torch.stack(columns, 1)[..., None], []


class Detr(nn.Module):
    def forward(self, *, pixel_values: torch.Tensor) -> SimpleNamespace:
        b = len(pixel_values)
        logits = torch.stack([pixel_values.mean((1, 2, 3)), torch.zeros(b), torch.zeros(b)], -1)[:, None]
        return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([0.25, 0.25, 0.1, 0.1]).expand(b, 1, 4))


class Retina(nn.Module):
    """The parts of torchvision's RetinaNet that are used, with one anchor of 8 x 8 pixels at the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = SimpleNamespace(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
        self.box_coder = SimpleNamespace(decode_single=lambda shift, anchor: anchor + shift)

    def backbone(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"0": x.mean((2, 3))}

    def head(self, features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x = features[0]
        return {"cls_logits": x[:, None, :2], "bbox_regression": torch.full((len(x), 1, 4), 2.0)}

    def anchor_generator(self, images: SimpleNamespace, features: list[torch.Tensor]) -> list[torch.Tensor]:
        assert images.image_sizes == [(40, 80)] * 2
        return [torch.tensor([[0.0, 0.0, 8.0, 8.0]])] * 2


EXPECTED = {
    "ultralytics": (UltralyticsDetector(Yolo()), [16.0, 8.0, 24.0, 12.0], [0.5, 0.25]),
    # logits ((0.5 - mean)/std averaged, 0 and 0 for no object): the softmax of three without the last
    "detr": (DETRDetector(Detr(), mean=(0.5,) * 3, std=(1.0,) * 3), [16.0, 8.0, 24.0, 12.0], [1 / 3, 1 / 3]),
    "torchvision": (TorchvisionDetector(Retina()), [2.0, 2.0, 10.0, 10.0], [0.5, 0.5]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_format(name: str) -> None:
    detector, box, scores = EXPECTED[name]
    assert isinstance(detector, Detector)
    found, values = checked_dense(detector, IMAGES)
    assert found[0, 0].tolist() == pytest.approx(box)
    assert values[0, 0].tolist() == pytest.approx(scores)
    best = detector.predict(IMAGES)[1]
    assert best["boxes"][0].tolist() == pytest.approx(box) and best["labels"][0] == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_the_gradient_reaches_the_picture(name: str) -> None:
    detector, box, _ = EXPECTED[name]
    images = IMAGES.clone().requires_grad_()
    evasion_loss(detector, images, torch.tensor([box, box])).backward()
    assert images.grad is not None and float(images.grad.sum()) > 0  # brighter pictures score higher in all three


def test_wrong_models_are_named() -> None:
    with pytest.raises(TypeError, match="no attribute 'transform'"):
        TorchvisionDetector(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"raw output of shape \(2, 4 \+ classes, n\)"):
        UltralyticsDetector(nn.Identity()).dense(IMAGES)

    class Wrong(nn.Module):
        def forward(self, *, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values

    with pytest.raises(ValueError, match="logits and pred_boxes"):
        DETRDetector(Wrong()).dense(IMAGES)


def test_evaluation_mode_is_kept() -> None:
    detector = UltralyticsDetector(nn.BatchNorm2d(3))
    detector.train()
    assert not detector.model.training
