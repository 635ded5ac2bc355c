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

from simengine.dtn.checks import evaluation_mode
from simengine.dtn.dense_loss import dense_loss
from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _normalised(images: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    return (images - images.new_tensor(mean).view(1, 3, 1, 1)) / images.new_tensor(std).view(1, 3, 1, 1)


def _without_background(scores: torch.Tensor) -> torch.Tensor:
    """Class 0 stands for no object: its score is 0, and the labels stay the model's own."""
    return torch.cat([torch.zeros_like(scores[..., :1]), scores[..., 1:]], -1)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """From centre and size (..., 4) to corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


class AbstractAdapter(nn.Module, abc.ABC):
    """Calls the model in evaluation mode and leaves its mode as it was; suppresses overlapping boxes itself.

    Labels are the model's own: column k of the scores is label k. Boxes are cut at the edge of the picture.

    Attributes:
        threshold: Lower scores are dropped.
        overlap: Boxes that overlap a better one of their class by more (IoU) are dropped.
        most: Largest number of boxes kept in a picture.
        candidates: Best boxes of a picture among which is suppressed.
        kind: Label of the object, for `loss`; of a model of several classes it has to be set.
    """

    threshold: float = 0.05
    overlap: float = 0.5
    most: int = 100
    candidates: int = 1000
    kind: int | None = None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @abc.abstractmethod
    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (b, n, 4), which may reach beyond the picture, and scores (b, n, classes)."""

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`."""
        with evaluation_mode(self.model):
            boxes, scores = self._raw(images)
        h, w = images.shape[2:]
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([w, h, w, h])), scores

    def loss(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """A training loss of the boxes before suppression, which needs nothing of the library: for hardening.

        Batch statistics stay as they are, as in fine-tuning; scores of other classes are left alone.

        Args:
            images: Encoded pictures, shape (b, 3, h, w).
            boxes: One box a picture [pixels], of no area where there is no object, shape (b, 4).

        Raises:
            ValueError: The model has several classes, and `kind` does not say which one the object is.
        """
        found, scores = self.dense(images)
        if self.kind is None and scores.shape[-1] > 1:
            raise ValueError(f"kind: the model has {scores.shape[-1]} classes; set kind to the label of the object")
        return dense_loss(found, scores[..., self.kind or 0], boxes)

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`."""
        options: Any = {name: getattr(self, name) for name in ("threshold", "overlap", "most", "candidates")}
        return [suppress(boxes, scores, **options) for boxes, scores in zip(*self.dense(images), strict=True)]


class TorchvisionDetector(AbstractAdapter):
    """One-stage detectors of torchvision (RetinaNet, FCOS, SSD): backbone, head, anchors, box coder.

    Pictures keep their size: the model's own resizing is left out, its normalisation is kept.

    Args:
        model: With `transform.image_mean`, `transform.image_std`, `backbone`, `head`, `anchor_generator`, `box_coder`.
        activation: Of the class logits: `"sigmoid"` (RetinaNet, FCOS) or `"softmax"` (SSD; the score of class 0, the
            background, is set to 0).
    """

    def __init__(self, model: nn.Module, *, activation: Literal["sigmoid", "softmax"] = "sigmoid") -> None:
        for name in ("transform", "backbone", "head", "anchor_generator", "box_coder"):
            if not hasattr(model, name):
                raise TypeError(f"model: expected a one-stage torchvision detector, but it has no attribute {name!r}")
        super().__init__(model)
        self.activation = activation

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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
        coder = model.box_coder  # the linear one of FCOS has no decode_single
        decode = coder.decode_single if hasattr(coder, "decode_single") else coder.decode
        boxes = torch.stack([decode(shift, anchor) for shift, anchor in pairs])
        if self.activation == "softmax":
            return boxes, _without_background(torch.softmax(output["cls_logits"], -1))
        scores = torch.sigmoid(output["cls_logits"])
        if "bbox_ctrness" in output:  # FCOS: the geometric mean of class and centre-ness
            scores = (scores * torch.sigmoid(output["bbox_ctrness"])).sqrt()
        return boxes, scores


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

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The box of each proposal's best class; pictures with fewer proposals are filled up with empty boxes."""
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
        scores = _without_background(torch.softmax(logits, -1))
        best = scores.argmax(-1)[:, None, None].expand(-1, 1, 4)
        boxes = every.gather(1, best)[:, 0]
        pad = nn.utils.rnn.pad_sequence
        return pad(boxes.split(counts), batch_first=True), pad(scores.split(counts), batch_first=True)


class UltralyticsDetector(AbstractAdapter):
    """Models of ultralytics in evaluation mode, whose raw output is (b, 4 + classes, n), boxes as centre and size.

    Args:
        model: The inner `nn.Module` (`YOLO(...).model`); of the command object around it that module is taken. Of a
            model for segmentation the boxes are used; the number of classes is that of its `names`, if it has any.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = getattr(model, "model", None)
        command = hasattr(model, "predictor") and hasattr(model, "overrides")
        super().__init__(inner if command and isinstance(inner, nn.Module) else model)

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        stride = int(torch.as_tensor(getattr(self.model, "stride", 1)).max())
        if images.shape[2] % stride or images.shape[3] % stride:
            h, w = images.shape[2:]
            raise ValueError(f"images: expected sides that divide by {stride} for this model, got {h} x {w}; pad them")
        raw = self.model(images)
        while isinstance(raw, list | tuple) and raw:  # with its feature maps or masks, in one tuple or two
            raw = raw[0]
        if not isinstance(raw, torch.Tensor) or raw.dim() != 3 or raw.shape[0] != len(images) or raw.shape[1] < 5:
            came = tuple(raw.shape) if isinstance(raw, torch.Tensor) else type(raw).__name__
            raise ValueError(f"model: expected raw output of shape ({len(images)}, 4 + classes, n), got {came}")
        values = raw.transpose(1, 2)
        parts = getattr(self.model, "model", None)
        head = parts[-1] if isinstance(parts, nn.Sequential) else None
        if hasattr(head, "ne"):
            raise ValueError("model: it finds turned boxes (OBB), which have no place here; use one that detects")
        classes = len(getattr(self.model, "names", ())) or values.shape[2] - 4
        return corners(values[..., :4]), values[..., 4 : 4 + classes]


# of transformers by `config.model_type`: activation of the class logits, and whether pictures are normalised
FORMATS: Mapping[str, tuple[Literal["softmax", "sigmoid"], bool]] = {
    "detr": ("softmax", True),
    "yolos": ("softmax", True),
    "rt_detr": ("sigmoid", False),
}


class DETRDetector(AbstractAdapter):
    """DETR and its relatives of transformers: `logits` (b, q, classes + 1) and `pred_boxes` as shares of the picture.

    Nothing is suppressed, as in the library: with `"softmax"` each query gives its best class, with `"sigmoid"` the
    best q pairs of query and class are kept. Equal to `post_process_object_detection` of the library's image
    processors, but for boxes beyond the picture, which are cut. Pictures keep their size: resize them before.

    Attributes:
        names: Label -> name, if the model's `config` has them.

    Args:
        model: Called as `model(pixel_values=...)`.
        activation: `"softmax"` (DETR, YOLOS; the last class, no object, is cut) or `"sigmoid"` (RT-DETR, Deformable
            DETR); None for what its `config.model_type` says, or `"softmax"`.
        mean: Subtracted from the pictures; None likewise: RT-DETR's are left as they are.
        std: They are divided by this; None likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        activation: Literal["softmax", "sigmoid"] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__(model)
        config = getattr(model, "config", None)
        usual, normalised = FORMATS.get(str(getattr(config, "model_type", "detr")), FORMATS["detr"])
        self.activation: Literal["softmax", "sigmoid"] = activation or usual
        self.mean: tuple[float, float, float] = mean or (IMAGENET_MEAN if normalised else (0.0,) * 3)
        self.std: tuple[float, float, float] = std or (IMAGENET_STD if normalised else (1.0,) * 3)
        names = getattr(config, "id2label", None)
        if isinstance(names, Mapping):
            self.names: dict[int, str] = {int(label): str(name) for label, name in names.items()}

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One box a query."""
        output = self.model(pixel_values=_normalised(images, self.mean, self.std))
        logits, boxes = getattr(output, "logits", None), getattr(output, "pred_boxes", None)
        if logits is None or boxes is None:
            raise ValueError(f"model: expected an output with logits and pred_boxes, got {type(output).__name__}")
        h, w = images.shape[2:]
        scores = torch.softmax(logits, -1)[..., :-1] if self.activation == "softmax" else torch.sigmoid(logits)
        return corners(boxes) * boxes.new_tensor([w, h, w, h]), scores

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`; what the library keeps of a score above `threshold`, at most `most`."""
        found = []
        for boxes, scores in zip(*self.dense(images), strict=True):
            if self.activation == "softmax":
                value, label = scores.max(-1)
                query = torch.arange(len(boxes), device=boxes.device)
            else:
                value, pair = scores.flatten().topk(len(boxes))
                query, label = pair // scores.shape[1], pair % scores.shape[1]
            order = value.argsort(descending=True, stable=True)
            order = order[value[order] > self.threshold][: self.most]
            found.append({"boxes": boxes[query[order]], "labels": label[order], "scores": value[order]})
        return found


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
        """See `Detector.dense`; by the adapter of its format, pictures keep their size."""
        if hasattr(self.model, "roi_heads"):
            return TwoStageDetector(self.model).dense(images)
        softmax = type(self.model).__name__ == "SSD"
        return TorchvisionDetector(self.model, activation="softmax" if softmax else "sigmoid").dense(images)

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`."""
        with evaluation_mode(self.model):
            found = self.model(list(images))
        return [{name: one[name] for name in ("boxes", "labels", "scores")} for one in found]
