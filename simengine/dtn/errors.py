"""What kind of error a detection is, and what each kind costs (TIDE: Bolya et al., ECCV 2020)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from simengine.dtn.coco import Found, Matches, Objects, match, overlaps, precision_at_recalls

KINDS = ("class", "loose", "both", "duplicate", "alarm", "missed")
FOREGROUND, BACKGROUND = 0.5, 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class PictureErrors:
    """Errors of one picture.

    Attributes:
        kind: Of each detection, shape (k,): "" where it is right or in a crowd, else `"class"`: it overlaps an object
            of another class well; `"loose"`: it overlaps one of its class by .1 to .5; `"both"`: one of another class
            by that; `"duplicate"`: a better one has the object; `"alarm"`: it overlaps none.
        cause: The object that it should have been, shape (k,); -1 for none.
        had: Which objects a right detection has, shape (n,).
        missed: Which objects no detection has, not even one in error about class or place, shape (n,).
    """

    kind: np.ndarray
    cause: np.ndarray
    had: np.ndarray
    missed: np.ndarray


def picture_errors(found: Found, objects: Objects, *, foreground: float = FOREGROUND) -> PictureErrors:
    """Tell the errors of one picture apart.

    Args:
        found: Detections.
        objects: Objects.
        foreground: Smallest overlap of a right detection.
    """
    none = np.zeros(len(objects.labels), dtype=bool)
    crowd = np.asarray(none if objects.crowd is None else objects.crowd, dtype=bool)
    out = np.asarray(none if objects.ignore is None else objects.ignore, dtype=bool) | crowd
    seen, truth = np.asarray(found.boxes, dtype=np.float64), np.asarray(objects.boxes, dtype=np.float64)
    iou = overlaps(seen, truth, crowd)
    kind = np.full(len(seen), "", dtype=object)
    cause = np.full(len(seen), -1)
    same = np.asarray(found.labels)[:, None] == np.asarray(objects.labels)[None]
    taken = np.zeros(len(truth), dtype=bool)
    for k in np.argsort(-np.asarray(found.scores), kind="stable"):
        able = np.where(same[k] & ~taken & ~out & (iou[k] >= foreground), iou[k], -1.0)
        if able.size and able.max() >= 0:
            taken[able.argmax()] = True
        elif not (same[k] & out & (iou[k] >= foreground)).any():
            kind[k] = "alarm"
    for k in np.flatnonzero(kind == "alarm"):
        own = np.where(same[k] & ~out, iou[k], 0.0)
        other = np.where(~same[k] & ~out, iou[k], 0.0)
        best_own, best_other = own.max(initial=0.0), other.max(initial=0.0)
        if best_own >= foreground:
            kind[k], cause[k] = "duplicate", own.argmax()
        elif best_own >= BACKGROUND:
            kind[k], cause[k] = "loose", own.argmax()
        elif best_other >= foreground:
            kind[k], cause[k] = "class", other.argmax()
        elif best_other >= BACKGROUND:
            kind[k], cause[k] = "both", other.argmax()
    excused = np.zeros(len(truth), dtype=bool)
    excused[cause[np.isin(kind, ("class", "loose"))]] = True
    return PictureErrors(kind, cause, taken, ~out & ~taken & ~excused)


@dataclasses.dataclass(frozen=True)
class ErrorTable:
    """Errors of a set of pictures.

    Attributes:
        count: Number of each kind.
        cost: By how much AP at the overlap of a right detection grows when the errors of one kind alone are mended.
        precision: That AP, the mean over the classes.
    """

    count: dict[str, int]
    cost: dict[str, float]
    precision: float


def error_table(
    found: Sequence[Found], objects: Sequence[Objects], *, foreground: float = FOREGROUND, most: int = 100
) -> ErrorTable:
    """Count the errors by kind, and what each kind costs.

    Mended means: a wrong class or a loose box is the object's, unless a detection has that already, when it is left
    out; what is wrong in both, a duplicate or a false alarm is left out; a missed object is not asked for.

    Args:
        found: Detections of each picture.
        objects: Objects of each picture.
        foreground: Smallest overlap of a right detection.
        most: Largest number of detections of a class in a picture.

    Raises:
        ValueError: There are not as many pictures of one as of the other.
    """
    pairs = list(zip(found, objects, strict=True))
    errors = [picture_errors(f, o, foreground=foreground) for f, o in pairs]
    classes = sorted({int(v) for o in objects for v in o.labels})

    def precision(mend: Callable[[Found, Objects, PictureErrors], tuple[Found, Objects]]) -> float:
        mended = [mend(f, o, e) for (f, o), e in zip(pairs, errors, strict=True)]

        def of(label: int) -> float:
            matches: list[Matches] = [match(f, o, label, most=most, thresholds=(foreground,)) for f, o in mended]
            return float(precision_at_recalls(matches)[0])

        values = np.array([of(label) for label in classes])
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else float("nan")

    whole = precision(lambda f, o, _: (f, o))
    count = {name: sum(int((e.kind == name).sum()) for e in errors) for name in KINDS[:-1]}
    count["missed"] = sum(int(e.missed.sum()) for e in errors)
    cost = {name: precision(functools.partial(_mended, name=name)) - whole for name in KINDS}
    return ErrorTable(count, cost, whole)


def _mended(found: Found, objects: Objects, errors: PictureErrors, name: str) -> tuple[Found, Objects]:
    """A picture without the errors of one kind."""
    if name == "missed":
        none = np.zeros(len(objects.labels), dtype=bool)
        ignore = (none if objects.ignore is None else np.asarray(objects.ignore, dtype=bool)) | errors.missed
        return found, dataclasses.replace(objects, ignore=ignore)
    wrong, keep = errors.kind == name, errors.kind != name
    boxes, labels = np.array(found.boxes, dtype=np.float64), np.array(found.labels)
    if name in ("class", "loose"):
        keep = keep.copy()
        had = errors.had.copy()
        for k in sorted(np.flatnonzero(wrong), key=lambda k: -float(found.scores[k])):
            thing = errors.cause[k]
            if had[thing]:
                continue
            had[thing] = keep[k] = True
            labels[k] = objects.labels[thing]
            if name == "loose":
                boxes[k] = objects.boxes[thing]
    return Found(boxes[keep], labels[keep], np.asarray(found.scores)[keep]), objects
