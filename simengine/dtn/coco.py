"""Average precision as COCO counts it: 101 points of recall, ten overlaps, sizes, several objects, crowds, ignored.

Written from the definitions of COCO's detection task (Lin et al., ECCV 2014; https://cocodataset.org/#detection-eval);
equal to pycocotools to 1e-6 on random sets (`tests/dtn/test_coco.py`).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

OVERLAPS = tuple(0.5 + 0.05 * k for k in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)
TURNED = 5  # numbers of a turned box; see `simengine.dtn.turned.boxes`
# Areas [pixels squared] of small, medium and large objects
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What one picture shows.

    Attributes:
        boxes: Corners (x0, y0, x1, y1) [pixels], shape (n, 4); or turned boxes (middle, sides, angle), shape (n, 5).
        labels: Class of each, shape (n,).
        area: Of each [pixels squared], by which it is small, medium or large, shape (n,); that of its box if None.
        crowd: Which stand for a crowd, shape (n,); none if None. Detections in one are neither right nor wrong.
        ignore: Which are neither missed nor found, shape (n,); none if None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    area: np.ndarray | None = None
    crowd: np.ndarray | None = None
    ignore: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check("objects", self.boxes, self.labels)
        for name in ("area", "crowd", "ignore"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != np.shape(self.labels):
                raise ValueError(f"{name}: expected one for each of {len(self.labels)} objects, got {np.shape(value)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a detector finds in one picture.

    Attributes:
        boxes: Corners (x0, y0, x1, y1) [pixels], shape (k, 4); or turned boxes where the objects are, shape (k, 5).
        labels: Class of each, shape (k,).
        scores: Of each, shape (k,).
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        _check("detections", self.boxes, self.labels)
        if np.shape(self.scores) != np.shape(self.labels) or not np.isfinite(self.scores).all():
            raise ValueError(f"scores: expected a finite one for each of {len(self.labels)} boxes")


def _check(name: str, boxes: np.ndarray, labels: np.ndarray) -> None:
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, TURNED) or np.shape(labels) != (len(boxes),):
        raise ValueError(
            f"{name}: expected boxes (n, 4), or turned ones (n, 5), and labels (n,), got {boxes.shape} and "
            f"{np.shape(labels)}"
        )
    if boxes.shape[1] == TURNED:
        if not np.isfinite(boxes).all() or (boxes[:, 2:4] < 0).any():
            raise ValueError(f"{name}: expected finite turned boxes (x, y, width, height, angle), sides 0 or more")
    elif not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{name}: expected finite corners (x0, y0, x1, y1) with x1 >= x0 and y1 >= y0")


def overlaps(found: np.ndarray, boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union, shape (k, n); over the area of the found box where the object is a crowd.

    Raises:
        ValueError: Of found boxes and objects one is turned and the other not.
    """
    if found.shape[1] != boxes.shape[1] and len(found) and len(boxes):
        raise ValueError("boxes: turned ones and upright ones do not compare; turn an upright one by an angle of 0")
    if TURNED in (found.shape[1], boxes.shape[1]):
        return _turned_overlaps(found, boxes, crowd)
    low = np.maximum(found[:, None, :2], boxes[None, :, :2])
    high = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (found, boxes)]
    union = np.where(crowd[None], areas[0][:, None], areas[0][:, None] + areas[1][None] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _turned_overlaps(found: np.ndarray, boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    if not (len(found) and len(boxes)):
        return np.zeros((len(found), len(boxes)))
    import torch

    from simengine.dtn.turned.boxes import turned_iou

    a, b = torch.from_numpy(found)[:, None], torch.from_numpy(boxes)[None]
    iou = turned_iou(a, b).numpy()
    areas = extents(found)[:, None], extents(boxes)[None]
    common = iou * (areas[0] + areas[1]) / (1 + iou)
    over_found = np.divide(common, areas[0], out=np.zeros_like(common), where=areas[0] > 0)
    return np.where(crowd[None], over_found, iou)


def extents(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes, upright (n, 4) or turned (n, 5) [pixels squared], shape (n,)."""
    return (boxes[:, 2:4] if boxes.shape[1] == TURNED else boxes[:, 2:] - boxes[:, :2]).prod(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one class in one picture, best first, at each overlap.

    Attributes:
        scores: Shape (k,).
        right: Which match an object that counts, shape (overlaps, k).
        left_out: Which are neither right nor wrong, shape (overlaps, k).
        objects: Number of objects that count.
    """

    scores: np.ndarray
    right: np.ndarray
    left_out: np.ndarray
    objects: int


def match(
    found: Found,
    objects: Objects,
    label: int,
    area: tuple[float, float] = AREAS["all"],
    *,
    most: int = 100,
    thresholds: Sequence[float] = OVERLAPS,
) -> Matches:
    """Match one picture and class: the best detection takes the object that it overlaps most, each object once.

    Objects that do not count (crowds, ignored ones, those of another size) are taken only where no other is left, and
    crowds any number of times.

    Args:
        found: Detections.
        objects: Objects.
        label: The class.
        area: Range of areas that count [pixels squared]; both ends belong to it.
        most: Largest number of detections.
        thresholds: Smallest overlaps of a match.
    """
    own = np.asarray(objects.labels) == label
    boxes = np.asarray(objects.boxes, dtype=np.float64)[own]
    none = np.zeros(len(own), dtype=bool)
    crowd = np.asarray(objects.crowd if objects.crowd is not None else none, dtype=bool)[own]
    out = np.asarray(objects.ignore if objects.ignore is not None else none, dtype=bool)[own] | crowd
    size = extents(boxes) if objects.area is None else np.asarray(objects.area)[own]
    out = out | (size < area[0]) | (size > area[1])
    order = np.argsort(out, kind="stable")  # those that count first
    boxes, crowd, out = boxes[order], crowd[order], out[order]

    own = np.asarray(found.labels) == label
    scores, seen = np.asarray(found.scores)[own], np.asarray(found.boxes, dtype=np.float64)[own]
    best = np.argsort(-scores, kind="stable")[:most]
    scores, seen = scores[best], seen[best]
    iou = overlaps(seen, boxes, crowd)
    right = np.zeros((len(thresholds), len(seen)), dtype=bool)
    left_out = np.zeros_like(right)
    for row, threshold in enumerate(thresholds):
        taken = np.zeros(len(boxes), dtype=bool)
        for k in range(len(seen)):
            chosen = _choose(iou[k], min(threshold, 1 - 1e-10), taken & ~crowd, out)
            if chosen is None:
                continue
            taken[chosen] = True
            right[row, k], left_out[row, k] = not out[chosen], out[chosen]
    extent = extents(seen)
    elsewhere = (extent < area[0]) | (extent > area[1])
    left_out |= ~right & elsewhere[None]
    return Matches(scores, right, left_out, int((~out).sum()))


def _choose(iou: np.ndarray, threshold: float, taken: np.ndarray, out: np.ndarray) -> int | None:
    """The object that a detection takes; of equal overlaps the last."""
    for group in (~out, out):
        able = group & ~taken & (iou >= threshold)
        if able.any():
            values = np.where(able, iou, -1.0)
            return int(len(values) - 1 - values[::-1].argmax())
    return None


def precision_at_recalls(matches: Sequence[Matches]) -> np.ndarray:
    """Mean over 101 points of recall of the interpolated precision, at each overlap; NaN where no object counts."""
    number = sum(m.objects for m in matches)
    rows = len(matches[0].right) if matches else len(OVERLAPS)
    if not number:
        return np.full(rows, np.nan)
    order = np.argsort(-np.concatenate([m.scores for m in matches]), kind="stable")
    right = np.concatenate([m.right for m in matches], 1)[:, order]
    wrong = ~right & ~np.concatenate([m.left_out for m in matches], 1)[:, order]
    result = np.zeros(rows)
    for row in range(rows):
        hits, alarms = right[row].cumsum(), wrong[row].cumsum()
        recall = hits / number
        precision = hits / np.maximum(hits + alarms, np.finfo(np.float64).tiny)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        result[row] = envelope[np.searchsorted(recall, RECALLS, side="left")].mean()
    return result


def coco_precision(
    found: Sequence[Found], objects: Sequence[Objects], *, labels: Sequence[int] | None = None, most: int = 100
) -> dict[str, float]:
    """The six figures of average precision of COCO, means over the classes that have objects.

    Args:
        found: Detections of each picture.
        objects: Objects of each picture.
        labels: Classes to count; all that the objects have if None.
        most: Largest number of detections of a class in a picture.

    Returns:
        `AP` over overlaps .5 to .95, `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large`; NaN where no object counts.

    Raises:
        ValueError: There are not as many pictures of one as of the other.
    """
    if len(found) != len(objects):
        raise ValueError(f"found: expected one entry for each of {len(objects)} pictures, got {len(found)}")
    classes = sorted({int(v) for o in objects for v in o.labels}) if labels is None else list(labels)

    def table(area: tuple[float, float]) -> np.ndarray:
        rows = [
            precision_at_recalls([match(f, o, label, area, most=most) for f, o in zip(found, objects, strict=True)])
            for label in classes
        ]
        return np.array(rows).reshape(len(classes), len(OVERLAPS))

    def mean(values: np.ndarray) -> float:
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else float("nan")

    whole = table(AREAS["all"])
    figures = {"AP": mean(whole), "AP50": mean(whole[:, 0]), "AP75": mean(whole[:, 5])}
    return figures | {f"AP_{name}": mean(table(AREAS[name])) for name in ("small", "medium", "large")}
