"""Turned boxes, (x, y, width, height, angle): corners, overlap by clipping polygons, and suppression.

x and y are the middle [pixels], and the angle is from the x axis of the picture to the side `width` long, towards y
[rad], as in the models of oriented boxes; (w, h, a) and (h, w, a + pi/2) are the same box.
"""

import math

import torch

from simengine.dtn.protocol import Detections

TINY = 1e-12


def turned_corners(boxes: torch.Tensor) -> torch.Tensor:
    """The four corners in order, from the one at (-width / 2, -height / 2), (..., 4, 2) [pixels].

    Args:
        boxes: Shape (..., 5).
    """
    x, y, w, h, angle = boxes.unbind(-1)
    along = torch.stack([angle.cos(), angle.sin()], -1) * w[..., None] / 2
    across = torch.stack([-angle.sin(), angle.cos()], -1) * h[..., None] / 2
    middle = torch.stack([x, y], -1)
    return torch.stack([middle + i * along + j * across for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))], -2)


def hull_of(boxes: torch.Tensor) -> torch.Tensor:
    """The upright boxes around turned ones, (..., 4), corners [pixels]."""
    corners = turned_corners(boxes)
    return torch.cat([corners.amin(-2), corners.amax(-2)], -1)


def turned_of(corners: torch.Tensor) -> torch.Tensor:
    """The smallest turned boxes around quadrilaterals, (n, 5): one side of it lies along one of theirs.

    Args:
        corners: Shape (n, 4, 2), in order [pixels].
    """
    side = corners.roll(-1, 1) - corners
    angle = torch.atan2(side[..., 1], side[..., 0])
    axes = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))  # n, 4, 2, 2
    seen = torch.einsum("nkij,npj->nkpi", axes, corners)
    low, high = seen.amin(2), seen.amax(2)
    best = (high - low).prod(-1).argmin(1)
    rows = torch.arange(len(corners), device=corners.device)
    own, size = axes[rows, best], (high - low)[rows, best]
    middle = torch.einsum("nij,ni->nj", own, ((high + low) / 2)[rows, best])
    return torch.cat([middle, size, angle[rows, best][:, None]], 1)


def stretched(boxes: torch.Tensor, ratio: tuple[float, float]) -> torch.Tensor:
    """Turned boxes (n, 5) in a picture that is scaled along x and y by `ratio`: the smallest about them there."""
    corners = turned_corners(boxes) * boxes.new_tensor(ratio)
    return turned_of(corners) if len(boxes) else boxes


def regular(boxes: torch.Tensor) -> torch.Tensor:
    """The same boxes with angles in [0, pi / 2)."""
    x, y, w, h, angle = boxes.unbind(-1)
    turned = torch.remainder(angle, math.pi) >= math.pi / 2
    angle = torch.remainder(angle, math.pi / 2)
    return torch.stack([x, y, torch.where(turned, h, w), torch.where(turned, w, h), angle], -1)


def turned_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union (...) of turned boxes that broadcast, (..., 5); exact, with a gradient almost everywhere.

    The common part of two convex polygons has as corners those of either that lie in the other, and the points where
    sides cross. In order of their angle about their mean they give its area. `turned_iou_reference` clips side by side.
    """
    a, b = torch.broadcast_tensors(a, b)
    scale = torch.stack([a[..., 2:4], b[..., 2:4]]).amax((0, -1)).clamp(min=TINY)
    # about the middle of the first, in units of the largest side: as exact far from the picture's corner as near it
    origin = torch.cat([a[..., :2], torch.zeros_like(a[..., :3])], -1)
    unit = torch.cat([scale[..., None].expand(*scale.shape, 4), torch.ones_like(scale)[..., None]], -1)
    p, q = turned_corners((a - origin) / unit), turned_corners((b - origin) / unit)
    inside = [_inside(p, (b - origin) / unit), _inside(q, (a - origin) / unit)]
    crossing, crosses = _crossings(p, q)
    points = torch.cat([p, q, crossing], -2)
    counts = torch.cat([*inside, crosses], -1)
    number = counts.sum(-1, keepdim=True)
    mean = (points * counts[..., None]).sum(-2) / number.clamp(min=1)
    about = torch.where(counts[..., None], points - mean[..., None, :], torch.zeros_like(points))
    angle = torch.where(counts, torch.atan2(about[..., 1], about[..., 0]), torch.full_like(about[..., 0], torch.inf))
    order = angle.detach().argsort(-1)
    ring = about.gather(-2, order[..., None].expand_as(about))
    place = torch.arange(points.shape[-2], device=points.device)
    after = torch.where(place + 1 < number, place + 1, torch.zeros_like(place))  # the last is followed by the first
    following = ring.gather(-2, after[..., None].expand_as(ring))
    twice = ring[..., 0] * following[..., 1] - ring[..., 1] * following[..., 0]
    common = 0.5 * torch.where(place < number, twice, torch.zeros_like(twice)).sum(-1).clamp(min=0)
    areas = [(box[..., 2:4] / scale[..., None]).prod(-1) for box in (a, b)]
    return common / (areas[0] + areas[1] - common).clamp(min=TINY)


def _inside(points: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Which points (..., 4, 2) lie in a box (..., 5)."""
    away = points - box[..., None, :2]
    cos, sin = box[..., 4:].cos(), box[..., 4:].sin()
    along, across = away[..., 0] * cos + away[..., 1] * sin, away[..., 1] * cos - away[..., 0] * sin
    slack = 1e-9 if points.dtype == torch.float64 else 1e-6
    return (along.abs() <= box[..., 2:3] / 2 + slack) & (across.abs() <= box[..., 3:4] / 2 + slack)


def _crossings(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the sides of two quadrilaterals (..., 4, 2) cross, (..., 16, 2), and whether they do."""
    r, s = p.roll(-1, -2) - p, q.roll(-1, -2) - q
    r, s, start = r[..., :, None, :], s[..., None, :, :], q[..., None, :, :] - p[..., :, None, :]
    cross = r[..., 0] * s[..., 1] - r[..., 1] * s[..., 0]
    parallel = cross.abs() < TINY
    safe = torch.where(parallel, torch.ones_like(cross), cross)
    t = (start[..., 0] * s[..., 1] - start[..., 1] * s[..., 0]) / safe
    u = (start[..., 0] * r[..., 1] - start[..., 1] * r[..., 0]) / safe
    meets = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    return (p[..., :, None, :] + t[..., None] * r).flatten(-3, -2), meets.flatten(-2)


def gaussian_overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """1 less Hellinger's distance of the Gaussians with the moments of two turned boxes that broadcast, (...).

    A box w by h has the variances w^2 / 12 and h^2 / 12 along its sides. What models of oriented boxes suppress by.

    Source: Llerena et al., "Gaussian bounding boxes and probabilistic intersection-over-union", arXiv:2106.06072, 2021.
    """
    first, second = _covariance(a), _covariance(b)
    both = (first + second) / 2
    away = (a[..., :2] - b[..., :2])[..., None]
    far = (away.mT @ torch.linalg.solve(both, away))[..., 0, 0] / 8
    shapes = torch.linalg.det(both) / (torch.linalg.det(first) * torch.linalg.det(second)).clamp(min=TINY).sqrt()
    alike = torch.exp(-far) / shapes.clamp(min=1).sqrt()  # Bhattacharyya's coefficient
    return 1 - (1 - alike).clamp(min=0).sqrt()


def _covariance(boxes: torch.Tensor) -> torch.Tensor:
    cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    spread = torch.diag_embed(boxes[..., 2:4].square() / 12 + 1e-9)
    return turn @ spread @ turn.mT


def suppress_turned(
    boxes: torch.Tensor, scores: torch.Tensor, *, threshold: float, overlap: float, most: int, candidates: int
) -> Detections:
    """Suppression of one picture, by class: a box goes that any better one overlaps by `overlap`, kept or not.

    Args:
        boxes: Turned, (n, 5).
        scores: Shape (n, classes).
        threshold: Lower scores are dropped.
        overlap: By `gaussian_overlap`.
        most: Largest number kept.
        candidates: Number of the best among which is suppressed.

    Returns:
        `boxes` upright around the turned ones, `labels`, `scores`, and `turned`, (k, 5) with angles in [0, pi / 2).
    """
    index, label = (scores > threshold).nonzero(as_tuple=True)
    value = scores[index, label]
    order = value.argsort(descending=True, stable=True)[:candidates]
    box, label, value = boxes[index][order], label[order], value[order]
    near = (gaussian_overlap(box[:, None].double(), box[None].double()) >= overlap) & (label[:, None] == label[None])
    kept = (~near.triu(1).any(0)).nonzero().flatten()[:most]
    turned = regular(box[kept])
    return {"boxes": hull_of(turned), "labels": label[kept], "scores": value[kept], "turned": turned}
