"""Detectors of torchvision, one-stage, two-stage, and as the library itself runs them."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn

from simengine.dtn.adapters.base import AbstractAdapter, cut, normalised
from simengine.dtn.checks import evaluation_mode
from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections

SMALLEST = 0.01  # side of a box that torchvision's two-stage detectors keep [px]


def _without_background(scores: torch.Tensor) -> torch.Tensor:
    """Class 0 stands for no object: its score is 0, and the labels stay the model's own."""
    return torch.cat([torch.zeros_like(scores[..., :1]), scores[..., 1:]], -1)


def _take_options(adapter: AbstractAdapter, source: Any) -> None:
    """The options of torchvision's post-processing, where a model has them."""
    names = {"threshold": "score_thresh", "overlap": "nms_thresh", "most": "detections_per_img"}
    for own, theirs in names.items():
        if hasattr(source, theirs):
            setattr(adapter, own, getattr(source, theirs))


class _AbstractTorchvision(AbstractAdapter):
    """What both kinds see: pictures of the given size, or resized as the library does.

    Args:
        model: Of torchvision, with `transform`.
        resize: Whether the model's own resizing is kept; else pictures keep their size, normalised and padded.
    """

    def __init__(self, model: nn.Module, *, resize: bool = False) -> None:
        super().__init__(model)
        self.resize: bool = resize

    def _inputs(self, images: torch.Tensor) -> SimpleNamespace:
        """What the backbone sees: `tensors`, and the size of each picture in them, `image_sizes`."""
        transform: Any = self.model.transform
        if self.resize:
            seen = transform(list(images))[0]
            return SimpleNamespace(tensors=seen.tensors, image_sizes=[tuple(size) for size in seen.image_sizes])
        inputs = normalised(images, transform.image_mean, transform.image_std)
        h, w = images.shape[2:]
        unit = int(getattr(transform, "size_divisible", 1))
        padded = nn.functional.pad(inputs, (0, -w % unit, 0, -h % unit))
        return SimpleNamespace(tensors=padded, image_sizes=[(int(h), int(w))] * len(images))

    @staticmethod
    def _back(boxes: torch.Tensor, inputs: SimpleNamespace, images: torch.Tensor) -> torch.Tensor:
        """Boxes in pixels of the given pictures, which all have one size."""
        (h, w), (rows, columns) = inputs.image_sizes[0], images.shape[2:]
        return boxes * boxes.new_tensor([columns / w, rows / h] * 2)


class TorchvisionDetector(_AbstractTorchvision):
    """One-stage detectors of torchvision (RetinaNet, FCOS, SSD, SSDLite): backbone, head, anchors, box coder.

    Args:
        model: With `transform.image_mean`, `transform.image_std`, `backbone`, `head`, `anchor_generator`, `box_coder`.
        activation: Of the class logits: `"sigmoid"` (RetinaNet, FCOS) or `"softmax"` (SSD; the score of class 0, the
            background, is set to 0); None for what the model's class asks for.
        resize: Whether the model's own resizing is kept; else pictures keep their size, normalised and padded.
    """

    def __init__(
        self, model: nn.Module, *, activation: Literal["sigmoid", "softmax"] | None = None, resize: bool = False
    ) -> None:
        for name in ("transform", "backbone", "head", "anchor_generator", "box_coder"):
            if not hasattr(model, name):
                raise TypeError(f"model: expected a one-stage torchvision detector, but it has no attribute {name!r}")
        super().__init__(model, resize=resize)
        usual: Literal["sigmoid", "softmax"] = "softmax" if type(model).__name__ == "SSD" else "sigmoid"
        self.activation: Literal["sigmoid", "softmax"] = activation or usual
        _take_options(self, model)

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model: Any = self.model
        inputs = self._inputs(images)
        features = model.backbone(inputs.tensors)
        features = list(features.values()) if isinstance(features, Mapping) else [features]
        output = model.head(features)
        if not (isinstance(output, Mapping) and {"cls_logits", "bbox_regression"} <= set(output)):
            raise ValueError("model.head: expected a dict with cls_logits and bbox_regression")
        anchors = model.anchor_generator(inputs, features)
        pairs = zip(output["bbox_regression"], anchors, strict=True)
        coder = model.box_coder  # the linear one of FCOS has no decode_single
        decode = coder.decode_single if hasattr(coder, "decode_single") else coder.decode
        boxes = torch.stack([decode(shift, anchor) for shift, anchor in pairs])
        boxes = self._back(boxes, inputs, images)
        if self.activation == "softmax":
            return boxes, _without_background(torch.softmax(output["cls_logits"], -1))
        scores = torch.sigmoid(output["cls_logits"])
        if "bbox_ctrness" in output:  # FCOS: the geometric mean of class and centre-ness
            scores = (scores * torch.sigmoid(output["bbox_ctrness"])).sqrt()
        return boxes, scores


class TwoStageDetector(_AbstractTorchvision):
    """Two-stage detectors of torchvision (Faster, Mask, Keypoint R-CNN): proposals, then a class and a box for each.

    The gradient goes through the features of the proposals; where they lie carries none, as in the model itself.
    `dense` gives each proposal the box of its best class, `predict` one of every class, as the library does.

    Args:
        model: With `transform.image_mean`, `transform.image_std`, `backbone`, `rpn`, `roi_heads`.
        resize: Whether the model's own resizing is kept; else pictures keep their size, normalised and padded.
    """

    def __init__(self, model: nn.Module, *, resize: bool = False) -> None:
        for name in ("transform", "backbone", "rpn", "roi_heads"):
            if not hasattr(model, name):
                raise TypeError(f"model: expected a two-stage torchvision detector, but it has no attribute {name!r}")
        super().__init__(model, resize=resize)
        _take_options(self, model.roi_heads)

    def _proposed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Boxes (proposals of all pictures, classes, 4), their scores, and the number of proposals of each picture."""
        model: Any = self.model
        inputs = self._inputs(images)
        features = model.backbone(inputs.tensors)
        features = dict(features) if isinstance(features, Mapping) else {"0": features}
        proposals, _ = model.rpn(inputs, features)
        heads = model.roi_heads
        logits, shifts = heads.box_predictor(
            heads.box_head(heads.box_roi_pool(features, proposals, inputs.image_sizes))
        )
        every = heads.box_coder.decode(shifts, proposals)
        counts = [len(proposal) for proposal in proposals]
        if every.shape[:2] != logits.shape or len(logits) != sum(counts):
            raise ValueError(
                f"model.roi_heads: expected boxes ({sum(counts)}, classes, 4) and as many logits, got "
                f"{tuple(every.shape)} and {tuple(logits.shape)}"
            )
        every = self._back(every, inputs, images)
        return every, _without_background(torch.softmax(logits, -1)), counts

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The box of each proposal's best class; pictures with fewer proposals are filled up with empty boxes."""
        every, scores, counts = self._proposed(images)
        best = scores.argmax(-1)[:, None, None].expand(-1, 1, 4)
        boxes = every.gather(1, best)[:, 0]
        pad = nn.utils.rnn.pad_sequence
        return pad(boxes.split(counts), batch_first=True), pad(scores.split(counts), batch_first=True)

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`; boxes that the picture's edge leaves a side of less than 0.01 pixels are dropped."""
        with evaluation_mode(self.model):
            boxes, scores, counts = self._proposed(images)
        boxes = cut(boxes, images)
        scores = scores * ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST).all(-1)
        pairs = zip(boxes.split(counts), scores.split(counts), strict=True)
        return [suppress(box, score, **self.options()) for box, score in pairs]


class LibraryDetector(nn.Module):
    """A torchvision detector that finds as the library itself does, its own resizing included.

    Args:
        model: Of `torchvision.models.detection`; called as `model([picture, ...])`, in training with targets.
        kind: Label of the object, for `loss`.
    """

    def __init__(self, model: nn.Module, *, kind: int = 1) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.kind: int = kind

    def loss(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """The library's own training loss, the sum of its parts: what hardening needs.

        Batch statistics stay as they are, as in fine-tuning; the mode is left as it was found.

        Args:
            images: Encoded pictures, shape (b, 3, h, w).
            boxes: One box a picture [pixels], of no area where there is no object, shape (b, 4).

        Raises:
            ValueError: The model gives no losses when it is trained.
        """
        targets = []
        for box in boxes:
            here = bool((box[2:] > box[:2]).all())
            labels = torch.full((int(here),), self.kind, dtype=torch.long, device=box.device)
            targets.append({"boxes": box[None][: int(here)].reshape(-1, 4), "labels": labels})
        with evaluation_mode(self.model):
            for module in self.model.modules():
                module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
            parts = self.model(list(images), targets)
        if not isinstance(parts, Mapping) or not parts:
            raise ValueError(
                f"model: expected a dict of losses from model(images, targets), got {type(parts).__name__}"
            )
        return torch.stack([part.sum() for part in parts.values()]).sum()

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`; by the adapter of its format, of the pictures as `predict` resizes them."""
        format_of = TwoStageDetector if hasattr(self.model, "roi_heads") else TorchvisionDetector
        return format_of(self.model, resize=True).dense(images)

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`."""
        with evaluation_mode(self.model):
            found = self.model(list(images))
        return [{name: one[name] for name in ("boxes", "labels", "scores")} for one in found]
