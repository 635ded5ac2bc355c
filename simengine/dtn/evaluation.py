"""Average precision by cells of camera and weather, with their intervals; at most one object in a picture."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from simengine.dtn.checks import (
    check_convention,
    check_corners,
    check_inside,
    check_pictures,
    check_truth,
    evaluation_mode,
)
from simengine.dtn.coco import OVERLAPS
from simengine.dtn.detector import shown
from simengine.dtn.errors import BACKGROUND, FOREGROUND
from simengine.dtn.intervals import (
    IntervalEstimate,
    difference_interval,
    jackknife,
    rate_interval,
    share_interval,
    spread,
)
from simengine.dtn.judgement import recall_average
from simengine.dtn.protocol import Detector, box_iou


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionTable:
    """All detections of a set of pictures, best first.

    Attributes:
        picture: Index of the picture of each detection, shape (k,).
        score: Shape (k,).
        iou: Overlap with the object of that picture, shape (k,).
        pictures: Number of pictures.
        shown: Which pictures show the object, shape (pictures,); all of them if None. The others can only be mistaken.
    """

    picture: torch.Tensor
    score: torch.Tensor
    iou: torch.Tensor
    pictures: int
    shown: torch.Tensor | None = None

    @property
    def objects(self) -> torch.Tensor:
        """1 for pictures that show the object, else 0, shape (pictures,)."""
        return torch.ones(self.pictures) if self.shown is None else self.shown.float()

    def part(self, pictures: torch.Tensor) -> "DetectionTable":
        """The table of some of the pictures, shape (m,), integers."""
        place = torch.full((self.pictures,), -1).scatter(0, pictures, torch.arange(len(pictures)))
        keep = place[self.picture] >= 0
        shown = None if self.shown is None else self.shown[pictures]
        return DetectionTable(place[self.picture][keep], self.score[keep], self.iou[keep], len(pictures), shown)

    def correct(self, threshold: float) -> torch.Tensor:
        """Which detections count as the object: the best of each picture that overlaps it by at least `threshold`."""
        hit = self.iou >= threshold
        rank = torch.where(hit, torch.arange(len(hit)), len(hit))
        first = torch.full((self.pictures,), len(hit)).scatter_reduce(0, self.picture, rank, "amin")
        return hit & (rank == first[self.picture])

    def average_precision(
        self, threshold: float = 0.5, *, weight: torch.Tensor | None = None, interpolated: bool = True
    ) -> torch.Tensor:
        """Area under the precision-recall curve.

        Args:
            threshold: Smallest overlap of a correct detection.
            weight: How often each picture counts, shape (..., n); ones if None.
            interpolated: The precision is the best one from each recall on, as usual; else that at it.
        """
        weight = torch.ones(self.pictures) if weight is None else weight
        seen = weight[..., self.picture].double()
        good = self.correct(threshold).double() * seen
        recall = good.cumsum(-1) / (weight * self.objects).double().sum(-1, keepdim=True).clamp(min=1e-12)
        precision = good.cumsum(-1) / seen.cumsum(-1).clamp(min=1e-12)
        if interpolated:
            precision = precision.flip(-1).cummax(-1).values.flip(-1)
        step = torch.diff(recall, dim=-1, prepend=torch.zeros_like(recall[..., :1]))
        return (step * precision).sum(-1)

    def missed(self, *, score: float = 0.5, threshold: float = 0.5) -> torch.Tensor:
        """Which of the pictures with the object have no detection above `score` on it, shape (number of them,)."""
        found = torch.zeros(self.pictures, dtype=torch.bool)
        found[self.picture[(self.score >= score) & (self.iou >= threshold)]] = True
        return ~found[self.objects > 0]


def checked_predict(
    detector: Detector, images: torch.Tensor, kind: int | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Boxes and scores of `detector.predict(images)` in evaluation mode, of one label unless `kind` is None.

    Raises:
        ValueError: Names what was expected and what came.
    """
    result = []
    for boxes, labels, scores in checked_detections(detector, images):
        keep = torch.ones(len(scores), dtype=torch.bool) if kind is None else labels == kind
        result.append((boxes[keep], scores[keep]))
    return result


Checked = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes, labels, scores of a picture


def checked_detections(detector: Detector, images: torch.Tensor) -> list[Checked]:
    """Boxes, labels and scores of `detector.predict(images)` in evaluation mode.

    Raises:
        ValueError: Names what was expected and what came.
    """
    result = [_checked(entry, "boxes", 4) for entry in _predicted(detector, images)]
    check_corners("predict", torch.cat([boxes for boxes, *_ in result]), (images.shape[2], images.shape[3]))
    return result


def checked_turned(detector: Detector, images: torch.Tensor) -> list[Checked]:
    """Turned boxes (k, 5), labels and scores of a detector that finds such; see `simengine.dtn.turned.boxes`.

    Raises:
        ValueError: Names what was expected and what came, or the detector finds upright boxes alone.
    """
    found = _predicted(detector, images)
    if any(isinstance(entry, Mapping) and "turned" not in entry for entry in found):
        raise ValueError("predict: the detector finds upright boxes alone; expected turned (k, 5) beside them")
    return [_checked(entry, "turned", 5) for entry in found]


def _predicted(detector: Detector, images: torch.Tensor) -> list[Any]:
    check_pictures(images)
    with evaluation_mode(detector):
        found = detector.predict(images)
    if not isinstance(found, list) or len(found) != len(images):
        raise ValueError(f"predict: expected a list of {len(images)} detections, got {type(found).__name__}")
    return found


def _checked(entry: Any, key: str, numbers: int) -> Checked:
    if not (isinstance(entry, Mapping) and {key, "labels", "scores"} <= set(entry)):
        raise ValueError(f"predict: expected dicts with {key}, labels and scores, got {entry!r:.80}")
    values = [entry[name] for name in (key, "labels", "scores")]
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise ValueError(f"predict: expected tensors, got {', '.join(type(value).__name__ for value in values)}")
    boxes, labels, scores = (value.detach().cpu() for value in values)
    if boxes.shape != (len(scores), numbers) or not bool(torch.isfinite(boxes).all()):
        raise ValueError(f"predict: expected finite {key} (k, {numbers}), got {tuple(boxes.shape)}")
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"predict: expected scores in [0, 1], got {low:g}..{high:g}")
    if len(labels) != len(scores):
        raise ValueError(f"predict: expected a label for each of {len(scores)} boxes, got {len(labels)}")
    return boxes.float(), labels, scores.float()


def detect(
    detector: Detector, batches: Iterable[torch.Tensor], boxes: torch.Tensor, *, kind: int | None = None
) -> DetectionTable:
    """Run a detector over pictures.

    Args:
        detector: Its `predict` is used.
        batches: Encoded pictures (b, 3, h, w), batch by batch.
        boxes: True boxes (x0, y0, x1, y1) [pixels] of all pictures, shape (n, 4); of no area where there is no object.
        kind: Label of the object; detections of others are left out. None takes every detection for the object.

    Raises:
        ValueError: The detector returns what is no list of detections, or as many pictures as boxes do not come.
    """
    check_truth(boxes)
    boxes = boxes.cpu()  # what is found is counted there, wherever the detector runs
    picture, score, iou, best, count, size = [], [], [], [], 0, (0, 0)
    for images in batches:
        check_pictures(images)
        size = images.shape[2], images.shape[3]
        check_inside(boxes[count : count + len(images)], size, first=count)
        for found, scores in checked_predict(detector, images, kind):
            if count == len(boxes):
                raise ValueError(f"boxes: expected one for every picture, got {len(boxes)} for more pictures")
            picture += [count] * len(scores)
            score.append(scores)
            iou.append(box_iou(found, boxes[count]))
            if len(scores) and bool(shown(boxes[count])):
                best.append(torch.stack([found[scores.argmax()], boxes[count].float()]))
            count += 1
    if count != len(boxes) or not count:
        raise ValueError(f"boxes: expected one for every picture, at least one, got {len(boxes)} for {count} pictures")
    if best:
        check_convention(torch.stack([b[0] for b in best]), torch.stack([b[1] for b in best]), size)
    scores = torch.cat(score)
    order = scores.argsort(descending=True, stable=True)
    index = torch.tensor(picture, dtype=torch.long)[order]
    return DetectionTable(index, scores[order], torch.cat(iou)[order], count, shown(boxes))


def average_precision(table: DetectionTable, threshold: float = 0.5) -> IntervalEstimate:
    """AP with its interval.

    Args:
        table: What was found in which picture.
        threshold: Overlap from which a box is a hit, intersection over union in (0, 1].

    Raises:
        ValueError: No picture shows the object.
    """
    found = spread(lambda weight: table.average_precision(threshold, weight=weight), table.objects)
    return share_interval(found, float(table.objects.sum()))


def miss_rate(table: DetectionTable, *, score: float = 0.5, threshold: float = 0.5) -> IntervalEstimate:
    """Share of the objects without a detection above `score` that overlaps them by `threshold`, with its interval.

    Args:
        table: What was found in which picture.
        score: In [0, 1].
        threshold: Intersection over union in (0, 1].
    """
    missed = table.missed(score=score, threshold=threshold)
    return rate_interval(int(missed.sum()), len(missed))


def coco_average_precision(table: DetectionTable, thresholds: Sequence[float] = OVERLAPS) -> IntervalEstimate:
    """AP as COCO counts it, over 101 points of recall and the mean of overlaps .5 to .95, with its interval.

    Raises:
        ValueError: No picture shows the object.
    """
    right = [table.correct(threshold) for threshold in thresholds]

    def mean(weight: torch.Tensor) -> torch.Tensor:
        rows = [recall_average(one, ~one, table.picture, table.objects, weight) for one in right]
        return torch.stack(rows).mean(0)

    return share_interval(spread(mean, table.objects), float(table.objects.sum()))


def error_kinds(table: DetectionTable, *, score: float = 0.0) -> dict[str, int]:
    """Number of errors by TIDE's kinds, of detections of at least a score; classes are not told apart here.

    Returns:
        `loose`, `duplicate`, `alarm`, `missed`; see `simengine.dtn.errors`.
    """
    sure = table.score >= score
    good = DetectionTable(table.picture[sure], table.score[sure], table.iou[sure], table.pictures, table.shown)
    right = good.correct(FOREGROUND)
    duplicate = ~right & (good.iou >= FOREGROUND)
    loose = (good.iou >= BACKGROUND) & (good.iou < FOREGROUND)
    had = torch.zeros(table.pictures, dtype=torch.bool)
    had[good.picture[right | loose]] = True
    missed = ~had & (table.objects > 0)
    alarm = good.iou < BACKGROUND
    figures = {"loose": loose, "duplicate": duplicate, "alarm": alarm, "missed": missed}
    return {name: int(which.sum()) for name, which in figures.items()}


def precision_gap(predicted: DetectionTable, rendered: DetectionTable, threshold: float = 0.5) -> IntervalEstimate:
    """AP in full renders less AP in predicted pictures of the same views; the interval is of the paired difference.

    Its width is that of curves without interpolation: the largest values that make up an interpolated one hide part of
    how the difference varies.

    Args:
        predicted: What was found in predicted pictures.
        rendered: What was found in full renders, view by view the same.
        threshold: Intersection over union in (0, 1].
    """

    def gap(weight: torch.Tensor, *, interpolated: bool = True) -> torch.Tensor:
        first, second = (
            table.average_precision(threshold, weight=weight, interpolated=interpolated)
            for table in (rendered, predicted)
        )
        return first - second

    deviation, slope = jackknife(functools.partial(gap, interpolated=False), predicted.objects)
    found = dataclasses.replace(spread(gap, predicted.objects), deviation=deviation)
    return difference_interval(found, float(predicted.objects.sum()), slope)


def cells(
    table: DetectionTable, conditions: Mapping[str, tuple[torch.Tensor, Sequence[float]]], threshold: float = 0.5
) -> list[tuple[str, int, IntervalEstimate]]:
    """AP by intervals of one condition, or of several together.

    Args:
        table: Detections.
        conditions: By name: its value in each picture, shape (n,), and the increasing bounds of its intervals.
        threshold: Smallest overlap of a correct detection.

    Returns:
        Name of the cell, number of pictures that show the object, AP; cells without such pictures are left out.
    """
    rows = []
    for bounds in itertools.product(*(itertools.pairwise(edges) for _, edges in conditions.values())):
        inside = torch.ones(table.pictures, dtype=torch.bool)
        for (values, _), (low, high) in zip(conditions.values(), bounds, strict=True):
            inside &= (values >= low) & (values < high)
        number = int((table.objects * inside).sum())
        if not number:
            continue
        name = ", ".join(_cell(name, low, high) for name, (low, high) in zip(conditions, bounds, strict=True))
        rows.append((name, number, average_precision(table.part(inside.nonzero().flatten()), threshold)))
    return rows


def _cell(name: str, low: float, high: float) -> str:
    low, high = round(low, 5), round(high, 5)
    return f"{name} {low:g}" if low == high else f"{name} {low:g} to {high:g}"
