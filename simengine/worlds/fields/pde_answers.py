"""What a solved equation answers: its fields at places and times, its ends and integrals over time."""

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from simengine.scene.asks import Ask, Fields, Series
from simengine.scene.base import AbstractRun, SceneError
from simengine.scene.strict import nearest
from simengine.worlds.fields.boundaries import BoundaryRows
from simengine.worlds.fields.coefficients import evaluated
from simengine.worlds.fields.local import AXES, CellGrid

if TYPE_CHECKING:
    from simengine.worlds.fields.pde import PDEWorld

_SIDES = {"left": 0, "right": 1}
_ROUNDING = 1e-9  # of an axis: a place that is meant to be its end


@dataclasses.dataclass(frozen=True)
class FieldRun(AbstractRun):
    """Fields at all steps; linear in between, in time and space.

    Attributes:
        world: Whose run it is.
        grid: Its cells.
        fields: (steps + 1, fields, cells).
    """

    world: "PDEWorld"
    grid: CellGrid
    fields: torch.Tensor

    def sample(self, ask: Ask) -> torch.Tensor:
        """Fields and series over time."""
        if isinstance(ask, Fields):
            return self._values(ask)
        if isinstance(ask, Series):
            if ask.against != "time":
                raise SceneError(f"an equation is solved in time; it cannot be driven through {ask.against!r}")
            row, share = self._moment(ask.values)
            columns = []
            for name in ask.names:
                series = self._series(name)
                columns.append(series[row] + share * (series[row + 1] - series[row]))
            return torch.stack(columns, -1)
        raise SceneError(f"an equation does not answer {type(ask).__name__}")

    def _moment(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The step before each time, and the share of the way to the next."""
        steps = len(self.fields) - 1
        place = times * (steps / self.world.pde.lasts)
        row = place.detach().floor().clamp(0, steps - 1).to(torch.int64)
        return row, (place - row).clamp(0.0, 1.0)

    def _field(self, name: str) -> int:
        names = list(self.world.pde.units())
        if name not in names:
            raise SceneError(f"{name!r} is no field of this world; {nearest(name, names)}")
        return names.index(name)

    def _values(self, ask: Fields) -> torch.Tensor:
        axes = len(self.grid.counts)
        if ask.x.shape[-1] != axes:
            given = ask.x.shape[-1]
            raise SceneError(f"places of {given} coordinates in a domain of {axes}; give {' and '.join(AXES[:axes])}")
        if ask.times is None:
            raise SceneError("a field hangs on time; name a column t")
        row, share = self._moment(ask.times)
        corners = [self._beside(axis, ask.x[:, axis]) for axis in range(axes)]
        columns = []
        for name in ask.names:
            k = self._field(name)
            table = self._padded(k)
            total = torch.zeros(len(ask.x), dtype=torch.float64)
            for when, weight in ((row, 1 - share), (row + 1, share)):
                for corner in range(2**axes):
                    index, w = [when], weight
                    for axis, (left, part) in enumerate(corners):
                        far = corner >> axis & 1
                        index.append(left + far)
                        w = w * (part if far else 1 - part)
                    total = total + w * table[tuple(index)]
            columns.append(total)
        return torch.stack(columns, -1)

    def _nodes(self, axis: int) -> torch.Tensor:
        """Places of the padded table along an axis: the lower end, the centres, the upper end."""
        (low, high), h, n = self.grid.domain[axis], self.grid.h[axis], self.grid.counts[axis]
        centres = low + (torch.arange(n, dtype=torch.float64) + 0.5) * h
        ends = (low - h / 2, high + h / 2) if axis in self.grid.periodic else (low, high)
        return torch.cat([torch.tensor([ends[0]]).double(), centres, torch.tensor([ends[1]]).double()])

    def _beside(self, axis: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = self.grid.domain[axis]
        if axis in self.grid.periodic:
            x = low + (x - low).remainder(high - low)
        slack = _ROUNDING * (high - low)
        if bool((x.detach() < low - slack).any() or (x.detach() > high + slack).any()):
            raise SceneError(
                f"a place at {float(x.detach().min()):.6g} to {float(x.detach().max()):.6g} m lies beyond the domain "
                f"[{low:g}, {high:g}]; is the file in another unit?"
            )
        nodes = self._nodes(axis)
        left = (torch.searchsorted(nodes, x.detach().contiguous()) - 1).clamp(0, len(nodes) - 2)
        return left, ((x - nodes[left]) / (nodes[left + 1] - nodes[left])).clamp(0.0, 1.0)

    def _padded(self, k: int) -> torch.Tensor:
        """A field with its values at the ends of each axis, (steps + 1, cells + 2 of each axis)."""
        table = self.fields[:, k].reshape(-1, *self.grid.counts)
        if len(self.grid.counts) == 1 and not self.grid.periodic:
            ends = self._faces[k]
            return torch.cat([ends[0][0][:, None], table, ends[1][0][:, None]], 1)
        for axis in range(len(self.grid.counts)):
            dim, n = axis + 1, self.grid.counts[axis]

            def at(i: int, table: torch.Tensor = table, dim: int = dim) -> torch.Tensor:
                return table.narrow(dim, i, 1)

            if axis in self.grid.periodic:
                ends_of = (at(n - 1), at(0))
            else:
                inner = min(1, n - 1)
                ends_of = (1.5 * at(0) - 0.5 * at(inner), 1.5 * at(n - 1) - 0.5 * at(n - 1 - inner))
            table = torch.cat([ends_of[0], table, ends_of[1]], dim)
        return table

    @cached_property
    def _faces(self) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Field, end -> value at the face and what flows in there, (steps + 1,) each."""
        equation, names = self.world.pde, tuple(self.world.pde.units())
        steps = len(self.fields) - 1
        edges = torch.linspace(0.0, equation.lasts, steps + 1, dtype=torch.float64)
        rows = BoundaryRows(equation, names, edges)
        step = (torch.arange(steps + 1) - 1).clamp_min(0)  # the step that ends there
        found = []
        for k, name in enumerate(names):
            ends = []
            for end in (0, 1):
                u = self.fields[:, k, -1 if end else 0][:, None]
                place = torch.full_like(u, self.grid.domain[0][end])

                def conductance(
                    value: torch.Tensor, name: str = name, place: torch.Tensor = place
                ) -> "torch.Tensor | float":
                    found: torch.Tensor | float = evaluated(equation.diffusivity(), {name: value, "x": place})
                    return found

                value, inflow = rows.face(name, 0, end, u, conductance, self.grid.h[0], step)
                ends.append((value.expand_as(u)[:, 0], inflow.expand_as(u)[:, 0]))
            found.append(ends)
        return found

    def _series(self, name: str) -> torch.Tensor:
        """A scalar at all steps, (steps + 1,)."""
        known = self.world.scalars()
        field, _, what = name.partition(".")
        if name not in known or not what:
            raise SceneError(f"{name!r} is no scalar of this world; {nearest(name, [k for k in known if '.' in k])}")
        k = self._field(field)
        if what == "integral":
            volume = 1.0
            for h in self.grid.h:
                volume *= h
            return self.fields[:, k].sum(-1) * volume
        value, inflow = self._faces[k][_SIDES[what.rpartition(".")[2]]]
        return -inflow if what.startswith("outflow") else value
