"""What an evaluation asks of a detector.

Any `nn.Module` with the two methods of `Detector` will do. Gradients come from `dense`, the boxes and scores before
suppression of overlapping ones; what is left after it carries no useful gradient.
"""

from typing import Protocol, runtime_checkable

import torch

Detections = dict[str, torch.Tensor]  # boxes (k, 4), labels (k,), scores (k,), best first


@runtime_checkable
class Detector(Protocol):
    """What robustness is measured of."""

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All boxes before suppression, differentiable.

        Args:
            images: Encoded pictures in [0, 1], shape (b, 3, h, w).

        Returns:
            Boxes (x0, y0, x1, y1) [pixels], shape (b, n, 4), and scores in [0, 1], shape (b, n, classes).
        """
        ...

    def predict(self, images: torch.Tensor) -> list[Detections]:
        """Boxes, labels and scores of each picture after suppression, best first."""
        ...


def box_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union (...) of boxes `a` and `b` (x0, y0, x1, y1), shapes (..., 4) that broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    return common / (area[0] + area[1] - common).clamp(min=1e-9)
