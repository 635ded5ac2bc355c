"""How often the intervals that detectors' reports print hold the truth, over simulated sets of pictures.

`simengine bench detector_intervals [sets=500] [seconds=...] --write docs/results/dtn.md`: a row for each figure and
kind of pictures, a column for each number of pictures. The truth is that of a set of many pictures drawn alike. With
`seconds` what is left after so many seconds of CPU is left out.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from simengine.dtn.coco import OVERLAPS, Found, Objects
from simengine.dtn.evaluation import (
    DetectionTable,
    average_precision,
    coco_average_precision,
    miss_rate,
    precision_gap,
)
from simengine.dtn.intervals import IntervalEstimate, clustered_rate_interval, rate_interval
from simengine.dtn.judgement import (
    WeightedPrecision,
    lost_objects,
    missed_interval,
    precision_interval,
    recall_average,
    reliability,
)

PICTURES = (24, 100, 300)
MANY, MANY_SEVERAL = 60_000, 20_000
SCORE = 0.5
CELLS = 20  # that a report looks at together
PLACE = 40.0  # side of the places that things stand in [px], four by three in a picture


def table(pictures: int, kind: str, generator: torch.Generator) -> DetectionTable:
    """Pictures with at most one object, two thirds with one; hits and false alarms with scores of their own.

    Args:
        pictures: Number.
        kind: `"usual"`, `"ties"` of six scores, `"empty"`: half without an object, `"clustered"`: some pictures are
            hard for all in them, `"poor"` or `"good"`: what is found.
        generator: Of all that is drawn.
    """

    def normal(number: int) -> torch.Tensor:
        return torch.randn(number, generator=generator)

    shown = torch.rand(pictures, generator=generator) < (0.5 if kind == "empty" else 2 / 3)
    shown[0] = True
    hard = normal(pictures) if kind == "clustered" else torch.zeros(pictures)  # of the picture, for all in it
    rate = {"good": 0.97, "poor": 0.45}.get(kind, 0.85)
    odds = torch.logit(torch.tensor(rate)) + 1.5 * hard
    hit = (shown & (torch.rand(pictures, generator=generator) < torch.sigmoid(odds))).nonzero().flatten()
    many = {"good": 0.1, "poor": 1.0}.get(kind, 0.5)
    number = torch.poisson((many * torch.exp(0.8 * hard - 0.32 * hard.var(correction=0))), generator=generator)
    false = torch.arange(pictures).repeat_interleave(number.long())
    score = torch.sigmoid(torch.cat([1 + normal(len(hit)) + 0.5 * hard[hit], normal(len(false)) - 1]))
    if kind == "ties":
        score = (5 * score).round() / 5
    picture = torch.cat([hit, false])
    mixed = torch.randperm(len(picture), generator=generator)
    own = torch.Generator().manual_seed(generator.initial_seed() + 1)  # so that nothing else hangs on the overlaps
    fit = 1 - 0.5 * torch.rand(len(hit), generator=own).square()  # overlap of a hit, .5 to 1
    iou = torch.cat([fit, torch.full((len(false),), 0.1)])
    order = mixed[score[mixed].argsort(descending=True, stable=True)]
    return DetectionTable(picture[order], score[order], iou[order], pictures, shown)


def pair(pictures: int, kind: str, generator: torch.Generator) -> tuple[DetectionTable, DetectionTable]:
    """Two pipelines of the same pictures: the second loses a tenth of the hits, and nothing else differs."""
    first = table(pictures, kind, generator)
    lost = torch.rand(len(first.score), generator=generator) < 0.1
    worse = torch.where(lost, 0.1, first.iou)
    return first, DetectionTable(first.picture, first.score, worse, first.pictures, first.shown)


Set = tuple[list[Found], list[Objects]]


def several(pictures: int, kind: str, random: np.random.Generator) -> Set:
    """Pictures with up to twelve things of two classes, two and a half on average, and false alarms.

    Args:
        pictures: Number.
        kind: As of `table`.
        random: What all is drawn from.
    """
    found, objects = [], []
    for _ in range(pictures):
        hard = random.normal() if kind == "clustered" else 0.0
        empty = random.random() < (0.5 if kind == "empty" else 0.2)
        places = random.permutation(12)
        number = 0 if empty else 1 + min(random.poisson(1.5), 8)
        alarms = min(random.poisson(0.6 * np.exp(0.8 * hard - 0.32 * hard**2 * (kind == "clustered"))), 12 - number)
        places = places[: number + alarms]
        corner = np.stack([places % 4, places // 4], 1) * PLACE + 8.0
        boxes = np.concatenate([corner, corner + 20.0], 1)
        labels = random.integers(0, 2, len(places))
        real = np.arange(len(places)) < number
        odds = 1.5 - 0.6 * labels + 1.2 * hard
        seen = ~real | (random.random(len(places)) < 1 / (1 + np.exp(-odds)))
        scores = 1 / (1 + np.exp(-(random.normal(size=len(places)) + np.where(real, 1 + 0.5 * hard, -0.8))))
        if kind == "ties":
            scores = (5 * scores).round() / 5
        drawn = boxes + random.normal(size=boxes.shape) * 0.9
        objects.append(Objects(boxes[real], labels[real]))
        found.append(Found(drawn[seen], labels[seen], scores[seen]))
    return found, objects


def right_share(some: Set) -> IntervalEstimate | None:
    """Of detections with scores from .6 to .7 the share that is right; None without one."""
    return next((b.right for b in reliability(*some)[0] if 0.6 <= b.score < 0.7), None)


def coco_value(many: DetectionTable) -> float:
    """Its value alone, without resampling."""
    one = torch.ones(1, many.pictures)
    right = [many.correct(threshold) for threshold in OVERLAPS]
    return float(torch.stack([recall_average(r, ~r, many.picture, many.objects, one) for r in right]).mean())


SINGLE: dict[str, tuple[Callable[..., Any], Callable[[Any], IntervalEstimate], Callable[[Any], float]]] = {
    "AP@.5": (table, average_precision, lambda many: float(many.average_precision())),
    "AP@[.5:.95]": (table, coco_average_precision, coco_value),
    "missed": (table, miss_rate, lambda many: float(many.missed().double().mean())),
    "gap, gain": (
        pair,
        lambda two: precision_gap(*two),
        lambda many: float(many[1].average_precision() - many[0].average_precision()),
    ),
}


def single_row(name: str, kind: str, sets: int) -> dict[str, Any]:
    """Coverage of a figure of pictures with at most one object [%]."""
    draw, estimate, value = SINGLE[name]
    truth = value(draw(MANY, kind, torch.Generator().manual_seed(1)))
    row: dict[str, Any] = {"name": f"{name}, {kind}"}
    for pictures in PICTURES:
        held = 0
        for number in range(sets):
            found = estimate(draw(pictures, kind, torch.Generator().manual_seed(10_000 + number)))
            held += found.low <= truth <= found.high
        row[f"{pictures} pictures"] = f"{100 * held / sets:.1f}"
    return row


def several_rows(kind: str, sets: int) -> list[dict[str, Any]]:
    """Coverage of the figures of pictures with several things [%]."""
    many = several(MANY_SEVERAL, kind, np.random.default_rng(1))
    one, large = torch.ones(1, len(many[0]), dtype=torch.float64), right_share(many)
    assert large is not None  # of so many pictures
    truth = {
        "AP@.5": float(WeightedPrecision(*many, thresholds=(0.5,))(one)),
        "AP@[.5:.95]": float(WeightedPrecision(*many)(one)),
        "missed": float(np.concatenate(lost_objects(*many, score=SCORE)).mean()),
        "right, of scores .6 to .7": large.value,
    }
    rows: dict[str, dict[str, Any]] = {name: {"name": f"{name}, several things, {kind}"} for name in truth}
    for pictures in PICTURES:
        held, printed = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
        for number in range(sets):
            some = several(pictures, kind, np.random.default_rng(10_000 + number))
            found = (
                precision_interval(*some, thresholds=(0.5,)),
                precision_interval(*some),
                missed_interval(lost_objects(*some, score=SCORE), some[1]),
                right_share(some),
            )
            for name, interval in zip(truth, found, strict=True):
                if interval is not None:
                    printed[name] += 1
                    held[name] += interval.low <= truth[name] <= interval.high
        for name, count in held.items():
            rows[name][f"{pictures} pictures"] = f"{100 * count / printed[name]:.1f}"
    return list(rows.values())


def together_row(kind: str, sets: int) -> dict[str, Any]:
    """How often the miss rates of CELLS cells hold all at once, as a report's do, each of so many pictures [%].

    Args:
        kind: `"usual"`: at most one object a picture, exact intervals; `"clustered"`: five a picture, whose odds share
            a normal number of standard deviation 1.5.
        sets: Number.
    """
    random = np.random.default_rng(3)

    def clusters(pictures: int) -> np.ndarray:
        return random.binomial(5, 1 / (1 + np.exp(1.0 - 1.5 * random.normal(size=pictures))))

    truth = float(clusters(1_000_000).mean()) / 5 if kind == "clustered" else 0.2
    row: dict[str, Any] = {"name": f"missed, {CELLS} cells together, {kind}"}
    for pictures in PICTURES:
        held = 0
        for _ in range(sets):
            found = [
                clustered_rate_interval(clusters(pictures), [5] * pictures, comparisons=CELLS)
                if kind == "clustered"
                else rate_interval(int(random.binomial(pictures, truth)), pictures, comparisons=CELLS)
                for _ in range(CELLS)
            ]
            held += all(one.low <= truth <= one.high for one in found)
        row[f"{pictures} pictures"] = f"{100 * held / sets:.1f}"
    return row


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the table."""
    torch.set_num_threads(1)
    options = dict(argument.split("=", 1) for argument in arguments)
    sets, seconds = int(options.get("sets", "500")), float(options.get("seconds", "inf"))
    kinds = ("usual", "ties", "empty", "clustered", "poor", "good")
    rows: list[dict[str, Any]] = []
    tasks = [lambda n=name, k=kind: [single_row(n, k, sets)] for name in SINGLE for kind in kinds]
    tasks += [lambda k=kind: [together_row(k, sets)] for kind in ("usual", "clustered")]
    tasks += [lambda k=kind: several_rows(k, sets) for kind in ("usual", "clustered")]
    for task in tasks:
        if time.process_time() > seconds:
            break
        rows += task()
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    for entry in main(sys.argv[1:]):
        print(entry)
