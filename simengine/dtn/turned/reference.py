"""The overlap of turned boxes by clipping one against each side of the other, pair by pair: the measure of `boxes`."""

import torch

from simengine.dtn.turned.boxes import turned_corners

Point = tuple[float, float]


def turned_iou_reference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union (n,) of turned boxes (n, 5), by the algorithm of Sutherland and Hodgman (1974)."""
    return torch.tensor([_iou(p, q) for p, q in zip(a, b, strict=True)], dtype=a.dtype)


def _iou(a: torch.Tensor, b: torch.Tensor) -> float:
    polygon: list[Point] = [(x, y) for x, y in turned_corners(a).tolist()]
    around: list[Point] = [(x, y) for x, y in turned_corners(b).tolist()]
    for start, end in zip(around, [*around[1:], around[0]], strict=True):
        polygon = _cut(polygon, start, end)
    common = abs(_area(polygon))
    return common / (float(a[2] * a[3]) + float(b[2] * b[3]) - common)


def _cut(polygon: list[Point], start: Point, end: Point) -> list[Point]:
    """What of a polygon lies on the inner side of a line."""

    def beyond(point: Point) -> float:
        return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])

    left: list[Point] = []
    for k, point in enumerate(polygon):
        before = polygon[k - 1]
        here, there = beyond(point), beyond(before)
        if (here >= 0) != (there >= 0):
            share = there / (there - here)
            left.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
        if here >= 0:
            left.append(point)
    return left


def _area(polygon: list[Point]) -> float:
    following = [*polygon[1:], *polygon[:1]]
    return 0.5 * sum(x * v - y * u for (x, y), (u, v) in zip(polygon, following, strict=True))
