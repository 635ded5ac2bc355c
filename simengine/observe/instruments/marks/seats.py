"""Where marks are seen first, and so where on the body they sit."""

import dataclasses
from typing import Any

import torch

from simengine.scene.instrument import Measured

AXES = ("x", "y", "z")
_FRESH = 1e-9  # of the span of the times: the first frame is the start


@dataclasses.dataclass(frozen=True)
class Seats:
    """Where marks are seen first, in the world.

    Attributes:
        positions: Where each is seen first, (k, 3) [m].
        times: When, in the file's time, (k,) [s]; minus infinity for those that sit where they were told to.
        places: Where on the body at rest that is, (k, 3) [m]; None until a run has told, and then as `positions`.
    """

    positions: torch.Tensor
    times: torch.Tensor
    places: Any = None

    def __post_init__(self) -> None:
        if self.places is None:
            object.__setattr__(self, "places", self.positions)


def first_seen(measured: Measured, start: float) -> tuple[torch.Tensor, list[float | None]]:
    """Position of each mark in its first frame from `start` on (k, 3), axes not measured at 0, and its time [s].

    A mark that is never seen stands at NaN, its time is None.
    """
    count = len(measured.labels)
    table = measured.values.reshape(-1, count, len(measured.names))
    times = measured.at["time"].reshape(-1, count)[:, 0]
    from_start = times >= start - _FRESH * float((times.max() - times.min()).clamp_min(1e-30))
    first = torch.full((count, 3), torch.nan, dtype=torch.float64)
    when: list[float | None] = [None] * count
    columns = [AXES.index(axis) for axis in measured.names]
    for k in range(count):
        rows = (from_start & ~table[:, k].isnan().any(1)).nonzero()[:, 0]
        if len(rows):
            first[k] = 0.0
            first[k, columns] = table[rows[0], k]
            when[k] = float(times[rows[0]])
    return first, when
