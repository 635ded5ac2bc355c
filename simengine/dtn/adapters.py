"""Detectors of other libraries behind the `Detector` protocol, by the format of what they return.

None of the libraries is imported: a model is taken as it is, and an attribute or output that is not there is named in
the error. Boxes are (x0, y0, x1, y1) in pixels of the pictures given, scores in [0, 1].
"""

import abc
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn

from simengine.dtn.detector import Detections, suppress

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _normalised(images: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    return (images - images.new_tensor(mean).view(1, 3, 1, 1)) / images.new_tensor(std).view(1, 3, 1, 1)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """From centre and size (..., 4) to corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


class AbstractAdapter(nn.Module, abc.ABC):
    """Keeps the model in evaluation mode; suppresses overlapping boxes itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> "AbstractAdapter":
        """Evaluation mode is kept: batch statistics must not change under an evaluation."""
        return super().train(False)

    @abc.abstractmethod
    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`."""

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`."""
        return [suppress(boxes, scores) for boxes, scores in zip(*self.dense(images), strict=True)]


class TorchvisionDetector(AbstractAdapter):
    """One-stage detectors of torchvision (RetinaNet, SSD): backbone, head, anchors, box coder.

    Pictures keep their size: the model's own resizing is left out, its normalisation is kept.

    Args:
        model: With `transform.image_mean`, `transform.image_std`, `backbone`, `head`, `anchor_generator`, `box_coder`.
        activation: Of the class logits: `"sigmoid"` (RetinaNet) or `"softmax"` (SSD; class 0, the background, is cut).
    """

    def __init__(self, model: nn.Module, *, activation: Literal["sigmoid", "softmax"] = "sigmoid") -> None:
        for name in ("transform", "backbone", "head", "anchor_generator", "box_coder"):
            if not hasattr(model, name):
                raise TypeError(f"model: expected a one-stage torchvision detector, but it has no attribute {name!r}")
        super().__init__(model)
        self.activation = activation

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`; the label of column k is k for sigmoid and k + 1 for softmax."""
        model: Any = self.model
        inputs = _normalised(images, model.transform.image_mean, model.transform.image_std)
        features = model.backbone(inputs)
        features = list(features.values()) if isinstance(features, Mapping) else [features]
        output = model.head(features)
        if not (isinstance(output, Mapping) and {"cls_logits", "bbox_regression"} <= set(output)):
            raise ValueError("model.head: expected a dict with cls_logits and bbox_regression")
        sizes = [(int(images.shape[2]), int(images.shape[3]))] * len(images)
        anchors = model.anchor_generator(SimpleNamespace(tensors=inputs, image_sizes=sizes), features)
        pairs = zip(output["bbox_regression"], anchors, strict=True)
        boxes = torch.stack([model.box_coder.decode_single(shift, anchor) for shift, anchor in pairs])
        logits = output["cls_logits"]
        return boxes, torch.sigmoid(logits) if self.activation == "sigmoid" else torch.softmax(logits, -1)[..., 1:]


class TwoStageDetector(AbstractAdapter):
    """Two-stage detectors of torchvision (Faster and Mask R-CNN): proposals, then a class and a box for each.

    Pictures keep their size: the model's own resizing is left out, its normalisation is kept. The gradient goes through
    the features of the proposals; where they lie carries none, as in the model itself.

    Args:
        model: With `transform.image_mean`, `transform.image_std`, `backbone`, `rpn`, `roi_heads`.
    """

    def __init__(self, model: nn.Module) -> None:
        for name in ("transform", "backbone", "rpn", "roi_heads"):
            if not hasattr(model, name):
                raise TypeError(f"model: expected a two-stage torchvision detector, but it has no attribute {name!r}")
        super().__init__(model)

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`; the box of each proposal's best class; label k is column k + 1 of the model.

        Pictures with fewer proposals are filled up with boxes of no area and no score.
        """
        model: Any = self.model
        inputs = _normalised(images, model.transform.image_mean, model.transform.image_std)
        features = model.backbone(inputs)
        features = dict(features) if isinstance(features, Mapping) else {"0": features}
        sizes = [(int(images.shape[2]), int(images.shape[3]))] * len(images)
        proposals, _ = model.rpn(SimpleNamespace(tensors=inputs, image_sizes=sizes), features)
        heads = model.roi_heads
        logits, shifts = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, sizes)))
        every = heads.box_coder.decode(shifts, proposals)  # (proposals of all pictures, classes, 4)
        counts = [len(proposal) for proposal in proposals]
        if every.shape[:2] != logits.shape or len(logits) != sum(counts):
            raise ValueError(
                f"model.roi_heads: expected boxes ({sum(counts)}, classes, 4) and as many logits, got "
                f"{tuple(every.shape)} and {tuple(logits.shape)}"
            )
        scores = torch.softmax(logits, -1)[:, 1:]
        best = scores.argmax(-1)[:, None, None].expand(-1, 1, 4) + 1
        boxes = every.gather(1, best)[:, 0]
        pad = nn.utils.rnn.pad_sequence
        return pad(boxes.split(counts), batch_first=True), pad(scores.split(counts), batch_first=True)


class UltralyticsDetector(AbstractAdapter):
    """Models of ultralytics in evaluation mode, whose raw output is (b, 4 + classes, n), boxes as centre and size.

    Args:
        model: The inner `nn.Module` (`YOLO(...).model`), not the command object around it.
    """

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`."""
        raw = self.model(images)
        raw = raw[0] if isinstance(raw, list | tuple) else raw
        if not isinstance(raw, torch.Tensor) or raw.dim() != 3 or raw.shape[0] != len(images) or raw.shape[1] < 5:
            came = tuple(raw.shape) if isinstance(raw, torch.Tensor) else type(raw).__name__
            raise ValueError(f"model: expected raw output of shape ({len(images)}, 4 + classes, n), got {came}")
        values = raw.transpose(1, 2)
        return _corners(values[..., :4]), values[..., 4:]


class DETRDetector(AbstractAdapter):
    """DETR and its relatives of transformers: `logits` (b, q, classes + 1) and `pred_boxes` as shares of the picture.

    Args:
        model: Called as `model(pixel_values=...)`.
        activation: `"softmax"` (DETR; the last class, no object, is cut) or `"sigmoid"` (Deformable DETR, RT-DETR).
        mean: Subtracted from the pictures.
        std: They are divided by this.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        activation: Literal["softmax", "sigmoid"] = "softmax",
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(model)
        self.activation, self.mean, self.std = activation, mean, std

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`; one box a query."""
        output = self.model(pixel_values=_normalised(images, self.mean, self.std))
        logits, boxes = getattr(output, "logits", None), getattr(output, "pred_boxes", None)
        if logits is None or boxes is None:
            raise ValueError(f"model: expected an output with logits and pred_boxes, got {type(output).__name__}")
        h, w = images.shape[2:]
        scores = torch.softmax(logits, -1)[..., :-1] if self.activation == "softmax" else torch.sigmoid(logits)
        return _corners(boxes) * boxes.new_tensor([w, h, w, h]), scores
