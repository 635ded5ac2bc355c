"""What adapters have in common: evaluation mode, boxes cut at the edge, suppression, a loss for hardening."""

import abc
from typing import Any

import torch
from torch import nn

from simengine.dtn.checks import evaluation_mode
from simengine.dtn.dense_loss import dense_loss
from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections


def normalised(images: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    """Pictures (b, 3, h, w) less a mean of each channel, over a standard deviation."""
    return (images - images.new_tensor(mean).view(1, 3, 1, 1)) / images.new_tensor(std).view(1, 3, 1, 1)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """From centre and size (..., 4) to corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def cut(boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Boxes cut at the edge of the pictures."""
    h, w = images.shape[2:]
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([w, h, w, h]))


class AbstractAdapter(nn.Module, abc.ABC):
    """Calls the model in evaluation mode and leaves its mode as it was; suppresses overlapping boxes itself.

    Labels are the model's own: column k of the scores is label k. Boxes are cut at the edge of the picture.
    `threshold`, `overlap` and `most` start at what the library takes, where the model says it.

    Attributes:
        threshold: Lower scores are dropped.
        overlap: Boxes that overlap a better one of their class by more (IoU) are dropped.
        most: Largest number of boxes kept in a picture.
        candidates: Best boxes of a picture among which is suppressed, of all levels of its features together.
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
        return cut(boxes, images), scores

    def options(self) -> dict[str, Any]:
        """The options of `suppress`."""
        return {name: getattr(self, name) for name in ("threshold", "overlap", "most", "candidates")}

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
        pairs = zip(*self.dense(images), strict=True)
        return [suppress(boxes, scores, **self.options()) for boxes, scores in pairs]
