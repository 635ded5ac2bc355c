"""COCO's average precision: by hand, and against pycocotools on random sets."""

import contextlib
import io
import math

import numpy as np
import pytest

from simengine.dtn.coco import Found, Objects, coco_precision, match
from simengine.dtn.judgement import reliability


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_by_hand() -> None:
    objects = [Objects(boxes((0, 0, 10, 10), (50, 50, 60, 60)), np.array([1, 1]))]
    found = [
        Found(boxes((0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 58)), np.array([1, 1, 1]), np.array([0.9, 0.8, 0.7]))
    ]
    # recall 1/2 at precision 1 (points 0 to .50: 51), recall 1 at 2/3 (50 points); the third box overlaps by .8
    high, low = (51 + 50 * 2 / 3) / 101, 51 / 101
    figures = coco_precision(found, objects)
    assert figures["AP50"] == pytest.approx(high) and figures["AP75"] == pytest.approx(high)
    assert figures["AP"] == pytest.approx((7 * high + 3 * low) / 10)  # .5 to .8, then .85, .9, .95
    assert figures["AP_small"] == pytest.approx(figures["AP"]) and np.isnan(figures["AP_large"])


def test_a_crowd_takes_any_number_and_an_ignored_object_none_is_missed_of() -> None:
    objects = Objects(boxes((0, 0, 100, 100), (200, 0, 210, 10)), np.array([1, 1]), crowd=np.array([True, False]))
    inside = Found(boxes((0, 0, 10, 10), (50, 50, 60, 60), (200, 0, 210, 10)), np.ones(3), np.array([0.9, 0.8, 0.1]))
    matches = match(inside, objects, 1)
    assert matches.objects == 1
    assert matches.left_out[0].tolist() == [True, True, False] and matches.right[0].tolist() == [False, False, True]
    assert coco_precision([inside], [objects])["AP"] == pytest.approx(1.0)
    ignored = Objects(objects.boxes, objects.labels, ignore=np.array([False, True]))
    assert match(inside, ignored, 1).objects == 1
    assert coco_precision([inside], [ignored])["AP"] == 0.0


def random_set(seed: int) -> tuple[list[Found], list[Objects]]:
    """Pictures with several objects of three classes, of all sizes, crowds, ignored ones, ties and empty pictures."""
    rng = np.random.default_rng(seed)
    found, objects = [], []
    for _ in range(int(rng.integers(1, 8))):
        n = int(rng.integers(0, 7))
        corner, size = rng.uniform(0, 300, (n, 2)), np.exp(rng.uniform(np.log(6), np.log(200), (n, 2)))
        truth = np.round(np.concatenate([corner, corner + size], 1), 1)
        kinds = rng.integers(1, 4, n)
        area = (truth[:, 2:] - truth[:, :2]).prod(-1) * rng.uniform(0.5, 1.0, n)  # of a mask, less than of the box
        crowd = rng.random(n) < 0.15
        objects.append(Objects(truth, kinds, area, crowd, crowd))
        near = np.repeat(truth, rng.integers(0, 4, n), 0)
        near = near + rng.normal(0, 1, near.shape) * rng.choice([0, 1, 6], (len(near), 1))
        far = rng.uniform(0, 300, (int(rng.integers(0, 5)), 2))
        far = np.concatenate([far, far + rng.uniform(5, 150, far.shape)], 1)
        both = np.concatenate([near, far])
        both = np.concatenate([np.minimum(both[:, :2], both[:, 2:]), np.maximum(both[:, :2], both[:, 2:])], 1)
        found.append(Found(both, rng.integers(1, 4, len(both)), np.round(rng.random(len(both)), 1)))
    return found, objects


def by_pycocotools(found: list[Found], objects: list[Objects]) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def sized(b: np.ndarray) -> list[float]:
        return [b[0], b[1], b[2] - b[0], b[3] - b[1]]

    annotations, results = [], []
    for picture, (f, o) in enumerate(zip(found, objects, strict=True), 1):
        for k in range(len(o.labels)):
            entry = {"id": len(annotations) + 1, "image_id": picture, "category_id": int(o.labels[k])}
            assert o.area is not None and o.crowd is not None
            entry |= {"bbox": sized(o.boxes[k]), "area": float(o.area[k]), "iscrowd": int(o.crowd[k])}
            annotations.append(entry)
        for k in range(len(f.labels)):
            entry = {"image_id": picture, "category_id": int(f.labels[k])}
            results.append({**entry, "bbox": sized(f.boxes[k]), "score": float(f.scores[k])})
    data = {"info": {}, "images": [{"id": k + 1} for k in range(len(found))], "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {**data, "categories": [{"id": k, "name": str(k)} for k in (1, 2, 3)]}
        truth.createIndex()
        run = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    return dict(zip(names, run.stats[:6].tolist(), strict=True))


@pytest.mark.parametrize("sets", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_equal_to_pycocotools_on_random_sets(sets: int) -> None:
    compared, crowds = 0, 0
    for seed in range(sets):
        found, objects = random_set(seed)
        if not any(len(f.labels) for f in found):
            continue
        figures = coco_precision(found, objects)
        for name, value in by_pycocotools(found, objects).items():
            ours = figures[name]
            assert (np.isnan(ours) and value == -1) or ours == pytest.approx(value, abs=1e-6), (seed, name)
            compared += value >= 0
        crowds += sum(int(o.crowd.sum()) for o in objects if o.crowd is not None)
    assert compared > 4 * sets and crowds > sets


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"objects: expected boxes \(n, 4\), or turned ones \(n, 5\), and labels"):
        Objects(np.zeros((2, 4)), np.zeros(3))
    with pytest.raises(ValueError, match="expected finite corners"):
        Objects(boxes((10, 0, 0, 10)), np.zeros(1))
    with pytest.raises(ValueError, match="scores: expected a finite one"):
        Found(boxes((0, 0, 1, 1)), np.zeros(1), np.array([np.nan]))
    with pytest.raises(ValueError, match="crowd: expected one for each of 1 objects"):
        Objects(boxes((0, 0, 1, 1)), np.zeros(1), crowd=np.zeros(2))
    with pytest.raises(ValueError, match="found: expected one entry for each of 1 pictures"):
        coco_precision([], [Objects(boxes((0, 0, 1, 1)), np.zeros(1))])


def test_a_score_is_worth_what_it_hits() -> None:
    """By hand: two hits at .9 and .95, a duplicate at .92, one of four right at .25, one on a crowd left out."""
    box = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 60, 20]])
    objects = [Objects(box, np.zeros(3, int), crowd=np.array([False, False, True])), Objects(box[:1], np.zeros(1, int))]
    far = np.array([[80.0, 80, 90, 90]] * 3)
    found = [
        Found(box[[0, 1, 1, 2]], np.zeros(4, int), np.array([0.9, 0.95, 0.92, 0.97])),
        Found(np.concatenate([box[:1], far]), np.zeros(4, int), np.full(4, 0.25)),
    ]
    bins, error = reliability(found, objects)
    assert [(b.number, b.right.value) for b in bins] == [(4, 0.25), (3, pytest.approx(2 / 3))]
    assert bins[0].score == pytest.approx(0.25) and bins[1].score == pytest.approx(2.77 / 3)
    assert error == pytest.approx((4 * 0.0 + 3 * (2.77 / 3 - 2 / 3)) / 7)
    assert math.isnan(reliability([Found(box[:0], np.zeros(0, int), np.zeros(0))], [objects[1]])[1])


def test_a_calibrated_detector_shows_as_one() -> None:
    rng = np.random.default_rng(0)
    box = np.array([[0.0, 0, 10, 10]])
    scores = rng.uniform(0, 1, 3000)
    shifts = np.where(rng.uniform(0, 1, 3000) < scores, 0.0, 50.0)
    objects = [Objects(box, np.zeros(1, int))] * 3000
    found = [Found(box + shift, np.zeros(1, int), np.array([s])) for s, shift in zip(scores, shifts, strict=True)]
    bins, error = reliability(found, objects)
    assert len(bins) == 10 and error < 0.03  # ten bins of 300: a deviation of about .02 each
    assert sum(b.right.low <= b.score <= b.right.high for b in bins) >= 8
    squared = [Found(f.boxes, f.labels, f.scores**2) for f in found]
    assert reliability(squared, objects)[1] > 0.12  # the mean of s - s^2 is 1/6
