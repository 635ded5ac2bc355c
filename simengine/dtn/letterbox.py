"""Pictures of any size for detectors that take some: scaled, and padded at the right and below."""

import math
from typing import Any

import torch
from torch import nn

from simengine.dtn.turned.boxes import stretched

PADDING = 114 / 255  # grey, as YOLO's own


class Letterbox(nn.Module):
    """A detector behind pictures that are scaled to a longest side and padded until the sides divide.

    Args:
        detector: Of the protocol.
        side: Longest side that it sees [pixels]; None leaves the scale.
        multiple: Its sides divide by this.
    """

    def __init__(self, detector: Any, *, side: int | None = None, multiple: int = 32) -> None:
        super().__init__()
        self.detector: Any = detector
        self.side: int | None = side
        self.multiple: int = multiple

    def _boxed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded pictures, and pixels of theirs per pixel of the given ones, (4,)."""
        h, w = images.shape[2:]
        factor = 1.0 if self.side is None else self.side / max(h, w)
        size = max(round(h * factor), 1), max(round(w * factor), 1)
        if size != (h, w):
            images = nn.functional.interpolate(images, size, mode="bilinear", antialias=factor < 1)
        right, below = (math.ceil(n / self.multiple) * self.multiple - n for n in (size[1], size[0]))
        images = nn.functional.pad(images.clamp(0, 1), (0, right, 0, below), value=PADDING)
        return images, images.new_tensor([size[1] / w, size[0] / h] * 2)

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Detector.dense`."""
        padded, scale = self._boxed(images)
        boxes, scores = self.detector.dense(padded)
        return boxes / scale, scores

    def loss(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """The detector's own training loss of the padded pictures: for hardening.

        Args:
            images: Encoded pictures, shape (b, 3, h, w).
            boxes: One box a picture [pixels], of no area where there is no object, shape (b, 4).
        """
        padded, scale = self._boxed(images)
        loss: torch.Tensor = self.detector.loss(padded, boxes * scale)
        return loss

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """See `Detector.predict`; boxes are cut at the edge of the given pictures, turned ones are not."""
        h, w = images.shape[2:]
        padded, scale = self._boxed(images)
        limit, (right, down) = images.new_tensor([w, h, w, h]), (1 / scale[:2]).tolist()
        found = []
        for one in self.detector.predict(padded):
            boxes = torch.minimum((one["boxes"].to(scale) / scale).clamp(min=0), limit)
            turned = {"turned": stretched(one["turned"], (right, down))} if "turned" in one else {}
            found.append({**one, "boxes": boxes, **turned})
        return found
