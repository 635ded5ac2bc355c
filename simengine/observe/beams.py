"""Beams of rays through a volume that turns: parallel, or from a point to a flat detector."""

import dataclasses
import math
from typing import Annotated, Literal

import torch

from simengine.scene.strict import Positive, Unit

Metres = Annotated[float, Unit("m")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelBeam:
    """Rays side by side.

    At angle t the detector's elements follow one another along (cos t, sin t) and the rays run along (-sin t, cos t);
    rows of a detector with several go down, against z, which is the axis of turning.

    Attributes:
        pitch: From one element to the next [m]; negative where they follow one another the other way.
        row_pitch: From one row to the next [m]; `pitch` where it is left out.
        axis_offset: Where the axis meets the detector, from its middle along the elements [m].
        row_offset: Where z = 0 meets the detector, from its middle upwards [m].
        turn: Which way the views turn the rays about the axis, seen from +z.
        first_angle: Added to all angles [degrees].
    """

    type: Literal["parallel"] = "parallel"
    pitch: Metres
    row_pitch: Metres | None = None
    axis_offset: Metres = 0.0
    row_offset: Metres = 0.0
    turn: Literal["counterclockwise", "clockwise"] = "counterclockwise"
    first_angle: float = 0.0

    def __post_init__(self) -> None:
        if self.pitch == 0.0:
            raise ValueError("pitch: expected the distance between two elements, got 0")

    def rays(
        self, angles: torch.Tensor, row: torch.Tensor, element: torch.Tensor, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Origins and unit directions of rays, (q, 3).

        Args:
            angles: Of their views, as in the file, (q,) [rad].
            row: Of the detector, (q,).
            element: Of the row, (q,).
            size: Rows and elements of the detector.
        """
        sense = 1.0 if self.turn == "counterclockwise" else -1.0
        t = sense * angles + math.radians(self.first_angle)
        u = (element - (size[1] - 1) / 2) * self.pitch - self.axis_offset
        row_pitch = abs(self.pitch) if self.row_pitch is None else self.row_pitch
        z = ((size[0] - 1) / 2 - row) * row_pitch - self.row_offset
        cos, sin, zero = t.cos(), t.sin(), torch.zeros_like(t)
        along = torch.stack((-sin, cos, zero), -1)
        return self._lines(torch.stack((u * cos, u * sin, z), -1), along)

    def _lines(self, place: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return place, along


@dataclasses.dataclass(frozen=True, kw_only=True)
class FanBeam(ParallelBeam):
    """Rays from a point to a flat detector; with several rows, a cone.

    The source stands at -`source_to_axis` along the rays of the parallel beam.

    Attributes:
        source_to_axis: From the source to the axis [m].
        source_to_detector: From the source to the detector [m].
    """

    type: Literal["fan"] = "fan"  # type: ignore[assignment]
    source_to_axis: Positive
    source_to_detector: Positive

    def _lines(self, place: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        source = -self.source_to_axis * along
        to = place + (self.source_to_detector - self.source_to_axis) * along - source
        return source, to / to.norm(dim=-1, keepdim=True)
