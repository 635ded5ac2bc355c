"""A training loss of any detector that has `dense`: what lets a detector of another library be hardened."""

import torch

from simengine.dtn.detector import shown
from simengine.dtn.protocol import box_iou

CANDIDATES = 9  # boxes of a picture that may stand for its object, those that overlap it most
ALPHA, GAMMA = 0.75, 2.0  # weight, and power of the score, of boxes that stand for nothing


def dense_loss(found: torch.Tensor, scores: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Varifocal loss of the scores and 1 - GIoU of the boxes, over pictures.

    Of the candidates of a picture those stand for its object whose overlap reaches the mean of the candidates' plus one
    standard deviation, and always the best; their score is to be their overlap, that of all others 0.

    Args:
        found: Boxes before suppression [pixels], shape (b, n, 4).
        scores: Of the object's class, in [0, 1], shape (b, n).
        boxes: One box a picture [pixels], of no area where there is no object, shape (b, 4).

    Source: Zhang et al. 2021, VarifocalNet, eq. 2; Zhang et al. 2020, ATSS; Rezatofighi et al. 2019, GIoU.
    """
    here = shown(boxes)
    overlap = box_iou(found.detach(), boxes[:, None]) * here[:, None]
    best, which = overlap.topk(min(CANDIDATES, overlap.shape[1]), 1)
    bound = best.mean(1, keepdim=True) + best.std(1, correction=0, keepdim=True)
    chosen = torch.zeros_like(overlap, dtype=torch.bool).scatter(1, which, best >= bound)
    chosen[torch.arange(len(boxes), device=boxes.device), which[:, 0]] = True
    chosen &= here[:, None]
    wanted = torch.where(chosen, overlap, 0.0)
    score = scores.clamp(1e-6, 1 - 1e-6)
    likely = -(wanted * score.log() + (1 - wanted) * torch.log1p(-score))
    weight = torch.where(chosen, wanted, ALPHA * score.detach() ** GAMMA)
    # a box that misses the object altogether still has to come nearer
    share = torch.where(chosen, overlap.clamp_min(0.1), 0.0)
    away = share * (1 - generalised_iou(found, boxes[:, None]))
    total = share.sum().clamp_min(1.0)
    return (weight * likely).sum() / total + away.sum() / total


def generalised_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union less the empty share of the smallest box about both, in (-1, 1]; shapes (..., 4)."""
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    hull = (high - low).prod(-1).clamp_min(1e-9)
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    union = sum((box[..., 2:] - box[..., :2]).clamp_min(0).prod(-1) for box in (a, b)) - inner
    return inner / union.clamp_min(1e-9) - (hull - union) / hull
