"""A detector judged on pictures with several objects of several classes: AP with intervals, misses, error kinds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from simengine.dtn.coco import OVERLAPS, RECALLS, Found, Matches, Objects, coco_precision, match, overlaps
from simengine.dtn.errors import ErrorTable, error_table
from simengine.dtn.intervals import IntervalEstimate, clustered_rate_interval, share_interval, spread


def counted(objects: Objects) -> np.ndarray:
    """Which objects count: no crowds, none that is ignored, bool (n,)."""
    none = np.zeros(len(objects.labels), dtype=bool)
    crowd = none if objects.crowd is None else np.asarray(objects.crowd, dtype=bool)
    ignore = none if objects.ignore is None else np.asarray(objects.ignore, dtype=bool)
    return ~(crowd | ignore)


def assignment(found: Found, objects: Objects, *, overlap: float = 0.5) -> np.ndarray:
    """Which detection has each object, (n,); -1 for none. The best score chooses first, each object goes once.

    Args:
        found: Detections of a picture.
        objects: What it shows; those that do not count go to nobody.
        overlap: Smallest overlap (IoU) of a detection with its object.
    """
    who = np.full(len(objects.labels), -1)
    free = counted(objects)
    iou = overlaps(np.asarray(found.boxes, dtype=np.float64), np.asarray(objects.boxes, dtype=np.float64), ~free)
    for k in np.argsort(-np.asarray(found.scores), kind="stable"):
        able = free & (who < 0) & (np.asarray(objects.labels) == found.labels[k]) & (iou[k] >= overlap)
        if able.any():
            who[np.where(able, iou[k], -1.0).argmax()] = k
    return who


def above(found: Found, score: float) -> Found:
    """The detections of at least a score."""
    keep = np.asarray(found.scores) >= score
    return Found(np.asarray(found.boxes)[keep], np.asarray(found.labels)[keep], np.asarray(found.scores)[keep])


class WeightedPrecision:
    """AP as COCO counts it, with weights of the pictures: what resampling asks for.

    Args:
        found: Detections of each picture.
        objects: What each shows.
        thresholds: Overlaps that are averaged over.
    """

    def __init__(
        self, found: Sequence[Found], objects: Sequence[Objects], *, thresholds: Sequence[float] = OVERLAPS
    ) -> None:
        self.objects: torch.Tensor = torch.tensor([float(counted(o).sum()) for o in objects], dtype=torch.float64)
        self.parts = []
        for label in sorted({int(v) for o in objects for v, c in zip(o.labels, counted(o), strict=True) if c}):
            matches = [match(f, o, label, thresholds=thresholds) for f, o in zip(found, objects, strict=True)]
            self.parts.append(_stacked(matches))

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """Mean over classes and overlaps, from how often each picture counts, (r, n), to (r,)."""
        rows = [
            recall_average(good, bad, picture, number, weight)
            for right, wrong, picture, number in self.parts
            for good, bad in zip(right, wrong, strict=True)
        ]
        return torch.stack(rows).nanmean(0)


def recall_average(
    right: torch.Tensor, wrong: torch.Tensor, picture: torch.Tensor, number: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean over 101 points of recall of the interpolated precision, (r,); NaN where no object counts.

    Args:
        right: 1 for the right detections of a class, best first, (k,).
        wrong: 1 for the wrong ones; what is neither is left out.
        picture: Of each, (k,).
        number: Objects of each picture, (n,).
        weight: How often each picture counts, (r, n).
    """
    weight = weight.double()
    total, seen = weight @ number.double(), weight[:, picture]
    hits, alarms = (right.double() * seen).cumsum(1), (wrong.double() * seen).cumsum(1)
    recall = hits / total[:, None].clamp(min=1e-12)
    precision = hits / (hits + alarms).clamp(min=1e-12)
    envelope = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
    points = torch.tensor(RECALLS, dtype=torch.float64).expand(len(weight), -1).contiguous()
    place = torch.searchsorted(recall.contiguous(), points)
    own = torch.nn.functional.pad(envelope, (0, 1)).gather(1, place).mean(1)
    return torch.where(total > 0, own, torch.nan)


def _stacked(matches: Sequence[Matches]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right and wrong (overlaps, k), best first, the picture of each (k,), and the objects of each picture (n,)."""
    order = np.argsort(-np.concatenate([m.scores for m in matches]), kind="stable")
    right = np.concatenate([m.right for m in matches], 1)[:, order]
    wrong = ~right & ~np.concatenate([m.left_out for m in matches], 1)[:, order]
    picture = np.repeat(np.arange(len(matches)), [len(m.scores) for m in matches])[order]
    number = torch.tensor([float(m.objects) for m in matches], dtype=torch.float64)
    return torch.from_numpy(right).double(), torch.from_numpy(wrong).double(), torch.from_numpy(picture), number


@dataclasses.dataclass(frozen=True)
class ScoreBin:
    """Detections whose scores lie in a part of [0, 1].

    Attributes:
        number: Of detections.
        score: Their mean.
        right: Share of them that are right, with its interval.
    """

    number: int
    score: float
    right: IntervalEstimate


def reliability(
    found: Sequence[Found], objects: Sequence[Objects], *, overlap: float = 0.5, bins: int = 10
) -> tuple[list[ScoreBin], float]:
    """How far a score is the probability that a detection is right.

    Detections on what does not count, crowds and ignored objects, are left out. A duplicate is wrong.

    Args:
        found: Detections of each picture, all scores.
        objects: What each picture shows.
        overlap: Smallest overlap (IoU) of a hit.
        bins: Equal parts of [0, 1]; those without a detection are left out.

    Returns:
        The bins, and the expected calibration error, the mean over detections of |share right - mean score| of their
        bin (Kueppers et al., CVPR Workshops 2020, over the score alone); NaN without a detection.
    """
    counts, rights = np.zeros((len(found), bins), dtype=int), np.zeros((len(found), bins), dtype=int)
    total = np.zeros(bins)
    for k, (f, o) in enumerate(zip(found, objects, strict=True)):
        for label in sorted({int(v) for v in f.labels}):
            m = match(f, o, label, thresholds=(overlap,))
            use = ~m.left_out[0]
            place = np.minimum((np.asarray(m.scores)[use] * bins).astype(int), bins - 1)
            np.add.at(counts[k], place, 1)
            np.add.at(rights[k], place, m.right[0][use].astype(int))
            np.add.at(total, place, np.asarray(m.scores)[use])
    rows, error = [], 0.0
    for b in np.flatnonzero(counts.sum(0)):
        number = int(counts[:, b].sum())
        rows.append(ScoreBin(number, total[b] / number, clustered_rate_interval(rights[:, b], counts[:, b])))
        error += number * abs(rows[-1].right.value - rows[-1].score)
    return rows, error / counts.sum() if counts.any() else float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """How well a detector does on a set of pictures.

    Attributes:
        precision: AP at the overlap of a hit, with its interval; None where no object counts.
        mean_precision: AP over overlaps .5 to .95, with its interval.
        by_size: COCO's other figures by name; NaN where no object is of that size.
        missed: Share of the objects without a detection of at least `score`, with its interval.
        errors: Kinds of errors and what they cost.
        alarms: Detections of at least `score` that are no object, in each picture, (n,).
        lost: Which objects are missed, in each picture.
        score: From which on a detection counts as found.
        overlap: Of a hit.
    """

    precision: IntervalEstimate
    mean_precision: IntervalEstimate
    by_size: dict[str, float]
    missed: IntervalEstimate
    errors: ErrorTable
    alarms: np.ndarray
    lost: tuple[np.ndarray, ...]
    score: float
    overlap: float


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """How well a detector does on one class.

    Attributes:
        objects: Number of them that count.
        precision: AP at the overlap of a hit, with its interval.
        mean_precision: AP over overlaps .5 to .95, with its interval.
        missed: Share without a detection of at least the score, with its interval.
    """

    objects: int
    precision: IntervalEstimate
    mean_precision: IntervalEstimate
    missed: IntervalEstimate


def by_class(
    found: Sequence[Found], objects: Sequence[Objects], *, score: float = 0.5, overlap: float = 0.5
) -> dict[int, ClassFigures]:
    """The figures of each class by itself; those of which no object counts are left out.

    Args:
        found: Detections of each picture, all scores.
        objects: What each picture shows.
        score: From which on a detection counts as found.
        overlap: Smallest overlap (IoU) of a hit.
    """
    labels = sorted({int(v) for o in objects for v, c in zip(o.labels, counted(o), strict=True) if c})
    figures = {}
    for label in labels:
        some = [_found_of(f, label) for f in found], [_objects_of(o, label) for o in objects]
        figures[label] = ClassFigures(
            objects=sum(int(counted(o).sum()) for o in some[1]),
            precision=precision_interval(*some, thresholds=(overlap,)),
            mean_precision=precision_interval(*some),
            missed=missed_interval(lost_objects(*some, score=score, overlap=overlap), some[1]),
        )
    return figures


def precision_interval(
    found: Sequence[Found], objects: Sequence[Objects], *, thresholds: Sequence[float] = OVERLAPS
) -> IntervalEstimate:
    """AP as COCO counts it, with its interval; of as many independent objects as pictures show some.

    Args:
        found: Detections of each picture, all scores.
        objects: What each picture shows.
        thresholds: Overlaps that are averaged over.

    Raises:
        ValueError: No object counts.
    """
    statistic = WeightedPrecision(found, objects, thresholds=thresholds)
    return share_interval(spread(statistic, statistic.objects), float((statistic.objects > 0).sum()))


def lost_objects(
    found: Sequence[Found], objects: Sequence[Objects], *, score: float = 0.5, overlap: float = 0.5
) -> tuple[np.ndarray, ...]:
    """Which objects of each picture have no detection of at least `score` that overlaps them by `overlap`."""
    pairs = zip(found, objects, strict=True)
    return tuple(counted(o) & (assignment(above(f, score), o, overlap=overlap) < 0) for f, o in pairs)


def missed_interval(lost: Sequence[np.ndarray], objects: Sequence[Objects]) -> IntervalEstimate:
    """The share of lost objects among those that count, with its interval.

    Args:
        lost: Of each picture, which of its objects are lost.
        objects: What each picture shows.

    Raises:
        ValueError: No object counts.
    """
    return clustered_rate_interval([int(v.sum()) for v in lost], [int(counted(o).sum()) for o in objects])


def _found_of(found: Found, label: int) -> Found:
    own = np.asarray(found.labels) == label
    return Found(np.asarray(found.boxes)[own], np.asarray(found.labels)[own], np.asarray(found.scores)[own])


def _objects_of(objects: Objects, label: int) -> Objects:
    own = np.asarray(objects.labels) == label
    names = [f.name for f in dataclasses.fields(objects) if getattr(objects, f.name) is not None]
    return Objects(**{name: np.asarray(getattr(objects, name))[own] for name in names})


def judge(found: Sequence[Found], objects: Sequence[Objects], *, score: float = 0.5, overlap: float = 0.5) -> Judgement:
    """Judge detections.

    Args:
        found: Detections of each picture, all scores.
        objects: What each picture shows.
        score: From which on a detection counts as found.
        overlap: Smallest overlap (IoU) of a hit.

    Raises:
        ValueError: There are not as many pictures of one as of the other, or no object counts.
    """
    if len(found) != len(objects):
        raise ValueError(f"found: expected one entry for each of {len(objects)} pictures, got {len(found)}")
    if not any(counted(o).any() for o in objects):
        raise ValueError("labels: no object counts, so that there is nothing to find")
    lost, alarms = lost_objects(found, objects, score=score, overlap=overlap), []
    for f, o in zip(found, objects, strict=True):
        sure = above(f, score)
        labels = sorted({int(v) for v in (*sure.labels, *o.labels)})
        wrong = 0
        for label in labels:
            m = match(sure, o, label, thresholds=(overlap,))
            wrong += int((~m.right & ~m.left_out).sum())
        alarms.append(wrong)
    figures = coco_precision(found, objects)
    return Judgement(
        precision=precision_interval(found, objects, thresholds=(overlap,)),
        mean_precision=precision_interval(found, objects),
        by_size={name: figures[name] for name in ("AP75", "AP_small", "AP_medium", "AP_large")},
        missed=missed_interval(lost, objects),
        errors=error_table(found, objects, foreground=overlap),
        alarms=np.array(alarms),
        lost=lost,
        score=score,
        overlap=overlap,
    )
