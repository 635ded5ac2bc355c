"""Miss rates over one condition at a time: cells, the worst of them, how far a tolerated rate reaches.

Whoever looks at many cells finds a bad one by chance. Beside the interval of each cell by itself stand bounds that hold
for all cells of the report together in 95 of 100 (Bonferroni); the worst cell and the reach are told by these.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simengine.dtn.intervals import IntervalEstimate, clustered_rate_interval
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, ReportTable

BINS = 4  # of a number of the labels


@dataclasses.dataclass(frozen=True)
class Cell:
    """Objects between two values of a number of the labels, or all of them at one value of an axis.

    Attributes:
        name: Of the number or the axis.
        low: Lower bound.
        high: Upper bound; the lower one where it is a value of an axis.
        lost: Missed objects of each picture, (n,).
        objects: Objects of each picture, (n,).
    """

    name: str
    low: float
    high: float
    lost: np.ndarray
    objects: np.ndarray

    def rate(self, comparisons: int = 1) -> IntervalEstimate:
        """The miss rate; its bounds hold for so many cells together."""
        return clustered_rate_interval(self.lost, self.objects, comparisons=comparisons)

    @property
    def place(self) -> str:
        """From where to where, in words."""
        return f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


def number_cells(
    numbers: Mapping[str, np.ndarray], use: np.ndarray, lost: np.ndarray, picture: np.ndarray, pictures: int
) -> list[Cell]:
    """Cells of each number with as many objects in each, as far as values do not repeat.

    Args:
        numbers: Of each object, (k,), by name.
        use: Which objects count, bool (k,).
        lost: Which are missed, bool (k,).
        picture: Of each, (k,).
        pictures: Their number.
    """
    cells = []
    for name, values in numbers.items():
        edges = np.unique(np.quantile(values[use], np.linspace(0, 1, BINS + 1)))
        for low, high in itertools.pairwise(edges):
            inside = use & (values >= low) & ((values < high) | (high == edges[-1]))
            if inside.any():
                counts = (np.bincount(picture[which], minlength=pictures) for which in (inside & lost, inside))
                cells.append(Cell(name, float(low), float(high), *counts))
    return cells


def reach(
    cells: Sequence[Cell], start: float, tolerated: float, *, comparisons: int, sure: bool
) -> tuple[float, float]:
    """The stretch of one condition about `start` in which no cell misses more than is tolerated.

    Args:
        cells: Of that condition.
        start: A value that lies in the best-known cell: the neutral value of an axis, the least of a number.
        tolerated: Miss rate.
        comparisons: Number of all cells of the report.
        sure: Whether the upper bound is meant, which holds for all cells together; else the rate found.

    Returns:
        The bounds; both are NaN where the cell at `start` misses more already.
    """
    ordered = sorted(cells, key=lambda cell: cell.low)
    rates = [cell.rate(comparisons) for cell in ordered]
    fine = [(r.high if sure else r.value) <= tolerated for r in rates]
    first = next(k for k, cell in enumerate(ordered) if cell.low <= start <= cell.high)
    if not fine[first]:
        return float("nan"), float("nan")
    left = right = first
    while left and fine[left - 1]:
        left -= 1
    while right + 1 < len(fine) and fine[right + 1]:
        right += 1
    return ordered[left].low, ordered[right].high


def tell_cells(
    by_name: Mapping[str, Sequence[Cell]], starts: Mapping[str, float], tolerated: float
) -> tuple[list[Block], dict[str, Any]]:
    """What a report tells of all cells, and the same as numbers.

    Args:
        by_name: Cells of each condition.
        starts: Of each condition, as in `reach`.
        tolerated: Miss rate whose reach is told.
    """
    every = [cell for cells in by_name.values() for cell in cells]
    m = len(every)
    together = {id(cell): cell.rate(m) for cell in every}
    worst = max(every, key=lambda cell: together[id(cell)].low)
    bound = together[id(worst)]
    rows = []
    for cell in every:
        alone, all_of_them = cell.rate(), together[id(cell)]
        bounds = f"[{all_of_them.low:.3f}, {all_of_them.high:.3f}]"
        rows.append((cell.name, cell.place, int(cell.objects.sum()), str(alone), bounds))
    stretches, reaches = [], {}
    for name, cells in by_name.items():
        ends = [reach(cells, starts[name], tolerated, comparisons=m, sure=sure) for sure in (False, True)]
        texts = ["none" if np.isnan(a) else f"{a:.4g} to {b:.4g}" for a, b in ends]
        stretches.append((name, *texts))
        reaches[name] = dict(zip(("found", "sure"), texts, strict=True))
    blocks: list[Block] = [
        f"The worst of {m} cells, by a lower bound that holds for all of them together: {worst.name} {worst.place}, "
        f"missed {bound.value:.3f}, at least {bound.low:.3f}, of {int(worst.objects.sum())} objects.",
        f"Where at most {tolerated:g} are missed, by the rates found, and by upper bounds that hold together:",
        ReportTable(("condition", "by the rates found", "surely"), stretches),
        ReportTable(("condition", "from, to", "objects", "missed [95 %, alone]", f"[95 %, all {m} together]"), rows),
    ]
    for name, cells in by_name.items():
        if len(cells) > 1:
            x = [(cell.low + cell.high) / 2 for cell in cells]
            rates = [cell.rate() for cell in cells]
            panel = {"missed": (x, [r.value for r in rates])}
            bands = {
                "95 %, alone": (x, [r.low for r in rates], [r.high for r in rates]),
                "95 %, together": (x, [together[id(c)].low for c in cells], [together[id(c)].high for c in cells]),
            }
            figure = curves({"missed": panel}, xlabel=name, bands={"missed": bands})
            blocks.append(Picture(figure, f"missed over {name}"))
    summary = {
        "cells": m,
        "worst_cell": {"name": worst.name, "from": worst.low, "to": worst.high, "missed_at_least": bound.low},
        "reach": {"tolerated": tolerated, **reaches},
    }
    return blocks, summary


def cells_csv(by_name: Mapping[str, Sequence[Cell]]) -> str:
    """A row for each cell, with the bounds of its miss rate by itself and of all together."""
    every = [cell for cells in by_name.values() for cell in cells]
    lines = ["condition,from,to,objects,missed,low,high,low_together,high_together"]
    for cell in every:
        alone, both = cell.rate(), cell.rate(len(every))
        numbers = (alone.value, alone.low, alone.high, both.low, both.high)
        place = f"{cell.low:.6g},{cell.high:.6g},{int(cell.objects.sum())}"
        lines.append(",".join([f'"{cell.name}"', place, *(f"{v:.5f}" for v in numbers)]))
    return "\n".join(lines) + "\n"
