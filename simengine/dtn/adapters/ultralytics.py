"""Models of ultralytics."""

from collections.abc import Mapping

import torch
from torch import nn

from simengine.dtn.adapters.base import AbstractAdapter, corners, cut
from simengine.dtn.checks import evaluation_mode
from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections
from simengine.dtn.turned.boxes import hull_of, suppress_turned


class UltralyticsDetector(AbstractAdapter):
    """Models of ultralytics in evaluation mode, whose raw output is (b, 4 + classes, n), boxes as centre and size.

    A model without suppression (`end2end`, of YOLOv10 and YOLO26) gives (b, n, 6): corners, a score and its label. As
    in the library a box keeps its best label only, and suppression is at an overlap of 0.7; its `predict` drops scores
    up to 0.25, which `threshold` can be set to, while an AP needs the lower ones too. Pictures keep their size; a
    `Letterbox` about the detector scales and pads them.

    Attributes:
        names: Label -> name, if the model has them.

    Args:
        model: The inner `nn.Module` (`YOLO(...).model`); of the command object around it that module is taken. Of a
            model for segmentation the boxes are used; one of oriented boxes (OBB) also finds `turned`, (k, 5), about
            which `boxes` are upright; the number of classes is that of its `names`, if it has any.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = getattr(model, "model", None)
        command = hasattr(model, "predictor") and hasattr(model, "overrides")
        super().__init__(inner if command and isinstance(inner, nn.Module) else model)
        self.overlap, self.most = 0.7, 300
        names = getattr(self.model, "names", None)
        if isinstance(names, Mapping):
            self.names: dict[int, str] = {int(label): str(name) for label, name in names.items()}

    @property
    def _end_to_end(self) -> bool:
        return bool(getattr(self._head, "end2end", False))

    @property
    def _head(self) -> nn.Module | None:
        parts = getattr(self.model, "model", None)
        return parts[-1] if isinstance(parts, nn.Sequential) else None

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `Detector.predict`; boxes are cut at the edge of the picture after suppression, as in the library."""
        with evaluation_mode(self.model):
            boxes, scores, turned = self._found(images)
        value, label = scores.max(-1, keepdim=True)
        best = torch.zeros_like(scores).scatter(-1, label, value)
        options = self.options() | ({"overlap": 1.0} if self._end_to_end else {})
        if turned is not None:
            kept = [suppress_turned(box, score, **options) for box, score in zip(turned, best, strict=True)]
        else:
            kept = [suppress(box, score, **options) for box, score in zip(boxes, best, strict=True)]
        return [{**one, "boxes": cut(one["boxes"], images)} for one in kept]

    def _raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores, _ = self._found(images)
        return boxes, scores

    def _found(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Upright boxes, scores, and the turned boxes of a model that finds such (OBB)."""
        stride = int(torch.as_tensor(getattr(self.model, "stride", 1)).max())
        if images.shape[2] % stride or images.shape[3] % stride:
            h, w = images.shape[2:]
            raise ValueError(f"images: expected sides that divide by {stride} for this model, got {h} x {w}; pad them")
        raw = self.model(images)
        while isinstance(raw, list | tuple) and raw:  # with its feature maps or masks, in one tuple or two
            raw = raw[0]
        axis, least, form = (2, 6, "n, 6") if self._end_to_end else (1, 5, "4 + classes, n")
        if not isinstance(raw, torch.Tensor) or raw.dim() != 3 or len(raw) != len(images) or raw.shape[axis] < least:
            came = tuple(raw.shape) if isinstance(raw, torch.Tensor) else type(raw).__name__
            raise ValueError(f"model: expected raw output of shape ({len(images)}, {form}), got {came}")
        names = len(getattr(self.model, "names", ()))
        if self._end_to_end:
            if hasattr(self._head, "ne"):
                raise ValueError("model: turned boxes (OBB) without suppression are not read; set end2end = False")
            score, label = raw[..., 4:5], raw[..., 5:6].long()
            classes = names or int(label.max()) + 1
            scores = torch.zeros_like(score).expand(-1, -1, classes).scatter(-1, label, score)
            return raw[..., :4], scores, None
        values, angles = raw.transpose(1, 2), hasattr(self._head, "ne")  # one more number of a box
        classes = names or values.shape[2] - 4 - angles
        if values.shape[2] < 4 + classes + angles:
            raise ValueError(f"model: expected {4 + classes + angles} numbers of a box, got {values.shape[2]}")
        scores = values[..., 4 : 4 + classes]
        if angles:
            turned = torch.cat([values[..., :4], values[..., 4 + classes : 5 + classes]], -1)
            return hull_of(turned), scores, turned
        return corners(values[..., :4]), scores, None
