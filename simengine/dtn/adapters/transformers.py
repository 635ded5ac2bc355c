"""DETR and its relatives of transformers."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from simengine.dtn.adapters.base import AbstractAdapter, corners, normalised
from simengine.dtn.protocol import Detections

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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
        output = self.model(pixel_values=normalised(images, self.mean, self.std))
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
