"""Boxes of equal cells, and what an equation sees in each of them: values, neighbours, derivatives, fluxes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from simengine.worlds.fields.boundaries import BoundaryRows
from simengine.worlds.fields.coefficients import Value, constant, evaluated

AXES = ("x", "y")
Side = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class CellGrid:
    """Equal cells of a box.

    Attributes:
        domain: Lower and upper end of each axis [m].
        counts: Cells along each axis.
        periodic: Axes that close on themselves.
    """

    domain: tuple[tuple[float, float], ...]
    counts: tuple[int, ...]
    periodic: frozenset[int]

    @property
    def h(self) -> tuple[float, ...]:
        """Width of a cell along each axis [m]."""
        return tuple((high - low) / n for (low, high), n in zip(self.domain, self.counts, strict=True))

    def centres(self) -> dict[str, torch.Tensor]:
        """Places of the cells by axis, (cells,) [m]."""
        axes = [
            low + (torch.arange(n, dtype=torch.float64) + 0.5) * h
            for (low, _), n, h in zip(self.domain, self.counts, self.h, strict=True)
        ]
        mesh = torch.meshgrid(*axes, indexing="ij")
        return {name: own.reshape(-1) for name, own in zip(AXES, mesh, strict=False)}

    def sides(self) -> list[Side]:
        """Axis and end of every side."""
        return [(axis, end) for axis in range(len(self.counts)) for end in (0, 1)]

    def neighbours(self) -> dict[Side, tuple[torch.Tensor, torch.Tensor | None]]:
        """For each side the neighbour of each cell (cells,), and which cells have none there; None where all do."""
        index = torch.arange(torch.Size(self.counts).numel()).reshape(self.counts)
        found: dict[Side, tuple[torch.Tensor, torch.Tensor | None]] = {}
        for axis, end in self.sides():
            place = torch.arange(self.counts[axis]) + (1 if end else -1)
            outside = (place < 0) | (place >= self.counts[axis])
            if axis in self.periodic:
                picked, missing = index.index_select(axis, place % self.counts[axis]), None
            else:
                picked = index.index_select(axis, place.clamp(0, self.counts[axis] - 1))
                shape = [1] * len(self.counts)
                shape[axis] = -1
                missing = outside.reshape(shape).expand(self.counts).reshape(-1)
            found[axis, end] = (picked.reshape(-1), missing)
        return found


@dataclasses.dataclass(frozen=True)
class CellGeometry:
    """What is the same at every moment.

    Attributes:
        grid: The box.
        rows: What happens at its sides.
        names: Of the fields.
        missing: Side -> which cells have no neighbour there, as `Grid.neighbours`.
        places: Axis -> coordinates of the cells, (cells,) [m].
    """

    grid: CellGrid
    rows: BoundaryRows
    names: tuple[str, ...]
    missing: Mapping[Side, torch.Tensor | None]
    places: Mapping[str, torch.Tensor]


class Local:
    """Fields of a moment, cell by cell; what is asked of it stays differentiable in own values and neighbours.

    Args:
        cells: What is the same at every moment.
        u: Values (worlds, fields, cells).
        beside: Side -> values of the neighbours there, (worlds, fields, cells).
        rate: Time derivatives (worlds, fields, cells) [1/s].
        t: The moment [s].
        step: Number of the step in time.
    """

    def __init__(
        self,
        cells: CellGeometry,
        u: torch.Tensor,
        beside: Mapping[Side, torch.Tensor],
        rate: torch.Tensor,
        *,
        t: float,
        step: int,
    ) -> None:
        self.grid: CellGrid = cells.grid
        self.rows: BoundaryRows = cells.rows
        self.names: tuple[str, ...] = cells.names
        self.t: float = t
        self.step: int = step
        self.places: Mapping[str, torch.Tensor] = cells.places
        self._u, self._beside, self._rate, self._missing = u, beside, rate, cells.missing

    def value(self, name: str) -> torch.Tensor:
        """A field, (worlds, cells)."""
        return self._u[:, self.names.index(name)]

    def rate(self, name: str) -> torch.Tensor:
        """Its time derivative."""
        return self._rate[:, self.names.index(name)]

    def at(self) -> dict[str, torch.Tensor]:
        """Fields and places by name: what coefficients hang on."""
        places = {name: place[None] for name, place in self.places.items()}
        return {**{name: self.value(name) for name in self.names}, **places}

    def divergence(self, name: str, coefficient: Any) -> torch.Tensor:
        """div(k grad u) by what flows in through the faces, k taken at the faces."""
        u, total = self.value(name), None
        fixed = not constant(coefficient) or not isinstance(coefficient, float | torch.Tensor)
        for (axis, end), beside in self._beside.items():
            h, other = self.grid.h[axis], beside[:, self.names.index(name)]
            k = self._at_face(name, coefficient, (u + other) / 2, axis, end) if fixed else coefficient
            inward = k * (other - u) / h
            inward = self._with_rows(name, axis, end, u, coefficient, inward)
            total = inward / h if total is None else total + inward / h
        assert total is not None
        return total

    def _at_face(self, name: str, coefficient: Any, value: torch.Tensor, axis: int, end: int) -> Value:
        at = {**self.at(), name: value}
        half = self.grid.h[axis] / 2
        at[AXES[axis]] = (self.places[AXES[axis]] + (half if end else -half)).expand_as(value)
        return evaluated(coefficient, at)

    def _with_rows(
        self, name: str, axis: int, end: int, u: torch.Tensor, coefficient: Any, inward: torch.Tensor
    ) -> torch.Tensor:
        missing = self._missing[axis, end]
        if missing is None:
            return inward
        _, flux = self.rows.face(
            name,
            axis,
            end,
            u,
            lambda value: self._at_face(name, coefficient, value, axis, end),
            self.grid.h[axis],
            self.step,
        )
        return torch.where(missing, flux, inward)

    def beside(self, name: str, axis: int, end: int, diffusivity: Any) -> torch.Tensor:
        """The neighbours' values; beyond a side the value that makes the mean of the two that of the face."""
        u, other = self.value(name), self._beside[axis, end][:, self.names.index(name)]
        missing = self._missing[axis, end]
        if missing is None:
            return other
        face, _ = self.rows.face(name, axis, end, u, lambda value: diffusivity, self.grid.h[axis], self.step)
        return torch.where(missing, 2 * face - u, other)
