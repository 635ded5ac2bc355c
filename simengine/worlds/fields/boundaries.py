"""What happens at the ends of a box: rows that give the value at a face, and what flows in through it."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch

from simengine.scene.strict import NonNegative, Positive, nearest

SIDES = {"left": (0, 0), "right": (0, 1), "bottom": (1, 0), "top": (1, 1)}  # axis, and 1 for its far end
_SEVERAL = ("both", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractBoundary:
    """A row of a side.

    Attributes:
        at: left, right, bottom, top; `both` for left and right, `all` for every side. At scattered points the name of
            one of their sides, or `all`.
        field: Whose row it is; None for all fields.
    """

    at: str
    field: str | None = None

    def sides(self, axes: int) -> list[tuple[int, int]]:
        """Axis and end of each side that it holds at."""
        if self.at == "all":
            return [side for side in SIDES.values() if side[0] < axes]
        return [(0, 0), (0, 1)] if self.at == "both" else [SIDES[self.at]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dirichlet(AbstractBoundary):
    """The value at the face is known.

    Attributes:
        value: In the unit of the field [unit of the value].
    """

    type: Literal["dirichlet"] = "dirichlet"
    value: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Periodic(AbstractBoundary):
    """What leaves at one side enters at the other."""

    type: Literal["periodic"] = "periodic"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractInflow(AbstractBoundary, abc.ABC):
    """A row that tells what flows in."""

    @abc.abstractmethod
    def flux(self, world: Any, share: Any) -> tuple[Any, Any]:
        """Coefficient a and constant b of what flows in, b - a u, u being the value at the face."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neumann(AbstractInflow):
    """What flows in is known.

    Attributes:
        inflow: Per area, in the unit of diffusivity times gradient [unit of diffusivity times gradient].
    """

    type: Literal["neumann"] = "neumann"
    inflow: float = 0.0

    def flux(self, world: Any, share: Any) -> tuple[Any, Any]:
        """It does not hang on the field."""
        return 0.0, self.inflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robin(AbstractInflow):
    """D du/dn + coefficient (u - value) = 0.

    Attributes:
        coefficient: Of what leaves, in the unit of diffusivity over length [unit of diffusivity over length].
        value: Of the field outside [unit of the value].
    """

    type: Literal["robin"] = "robin"
    coefficient: NonNegative = 0.0
    value: float = 0.0

    def flux(self, world: Any, share: Any) -> tuple[Any, Any]:
        """Proportional to the difference to outside."""
        return self.coefficient, self.coefficient * self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convection(AbstractInflow):
    """k dT/dn = h (ambient - T), with the h and the ambient of the equation's `convection`."""

    type: Literal["convection"] = "convection"

    def flux(self, world: Any, share: Any) -> tuple[Any, Any]:
        """Proportional to the difference to the air."""
        own = world.convection
        return own.h, own.h * own.ambient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(AbstractInflow):
    """Power that enters through a face, switched; it is added to the flux of other rows of that side.

    Attributes:
        power: While it is on [W].
        area: That it enters through [m2].
        on: Times of switching: on, off, on, ...; none for always on [s].
    """

    type: Literal["source"] = "source"
    power: float
    area: Positive
    on: tuple[float, ...] = ()

    def flux(self, world: Any, share: Any) -> tuple[Any, Any]:
        """The share of the step in which it is on."""
        return 0.0, self.power / self.area * share

    def shares(self, edges: torch.Tensor) -> torch.Tensor:
        """Share of each step in which the source is on, (steps, worlds or 1, 1), for the edges of the steps (n,)."""
        start, stop = edges[:-1, None, None], edges[1:, None, None]
        if not self.on:
            return torch.ones_like(start)
        times = [torch.as_tensor(t, dtype=torch.float64).reshape(1, -1, 1) for t in self.on]
        if len(times) % 2:
            times.append(edges[-1].reshape(1, 1, 1))
        total = torch.zeros_like(start)
        for on, off in zip(times[::2], times[1::2], strict=True):
            total = total + (torch.minimum(stop, off) - torch.maximum(start, on)).clamp_min(0.0)
        return total / (stop - start)


Boundary = Dirichlet | Periodic | Neumann | Robin | Convection | Source


class BoundaryRows:
    """The rows of every side and field of a world, ready for the steps of its march.

    Args:
        world: The equation that holds the rows, its numbers floats or (worlds, 1).
        names: Of the fields.
        edges: Of the steps in time, (steps + 1,).

    Attributes:
        periodic: Axes that close on themselves.
    """

    def __init__(self, world: Any, names: Sequence[str], edges: torch.Tensor) -> None:
        axes = len(world.domain)
        self._world = world
        self._rows: dict[tuple[str, int, int], list[AbstractBoundary]] = {}
        self._shares = {id(row): row.shares(edges) for row in world.boundary if isinstance(row, Source)}
        self.periodic: set[int] = {
            side[0] for row in world.boundary if isinstance(row, Periodic) for side in row.sides(axes)
        }
        for row in world.boundary:
            for name in names if row.field is None else (row.field,):
                for axis, end in row.sides(axes):
                    self._rows.setdefault((name, axis, end), []).append(row)

    def face(
        self, name: str, axis: int, end: int, u: torch.Tensor, k: Any, h: float, step: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Value at the face beside cells of value u (worlds, n), and what flows in, with k the diffusivity there.

        Args:
            name: Of the field.
            axis: Of the side.
            end: 1 for its far end.
            u: Values of the cells.
            k: Diffusivity: a function of the value at the face.
            h: Width of a cell [m].
            step: Number of the step in time; numbers (n,) where u holds a row for each time of one world.
        """
        a: Any = 0.0
        b: Any = 0.0
        for row in self._rows.get((name, axis, end), ()):
            if isinstance(row, Dirichlet):
                value = row.value + torch.zeros_like(u)
                return value, k(value) * (value - u) * (2 / h)
            assert isinstance(row, AbstractInflow), "a periodic side has no face"
            share = self._shares[id(row)][step] if isinstance(row, Source) else None
            if share is not None and share.ndim == 3:  # a row of u for each time of one world
                share = share[:, 0]
            own_a, own_b = row.flux(self._world, share)
            a, b = a + own_a, b + own_b
        slope = k(u) * (2 / h)
        value = (slope * u + b) / (slope + a)
        return value, b - a * value


def checked(world: Any, names: Sequence[str]) -> None:
    """Refuse rows that contradict one another.

    Raises:
        ValueError: A side does not exist, a field is unknown, or a known value stands beside other rows.
    """
    if world.points is not None:
        _checked_at_points(world, names)
        return
    axes = len(world.domain)
    seen: dict[tuple[str, int, int], list[tuple[int, AbstractBoundary]]] = {}
    for index, row in enumerate(world.boundary):
        if row.field is not None and row.field not in names:
            raise ValueError(f"boundary.{index}.field: {row.field!r} is no field; known: {', '.join(names)}")
        if row.at not in (*SIDES, *_SEVERAL):
            raise ValueError(f"boundary.{index}.at: {row.at!r} is no side; {nearest(row.at, (*SIDES, *_SEVERAL))}")
        if any(axis >= axes for axis, _ in row.sides(axes)):
            raise ValueError(f"boundary.{index}.at: a domain of one dimension has no {row.at}; use left or right")
        if isinstance(row, Periodic) and row.at in SIDES:
            raise ValueError(f"boundary.{index}.at: a periodic row holds at two sides; use both or all")
        if isinstance(row, Convection) and getattr(world, "convection", None) is None:
            raise ValueError(f"boundary.{index}: a row of convection takes h and ambient from `convection`; add it")
        for name in names if row.field is None else (row.field,):
            for axis, end in row.sides(axes):
                seen.setdefault((name, axis, end), []).append((index, row))
    for rows in seen.values():
        if len(rows) > 1 and any(isinstance(row, Dirichlet | Periodic) for _, row in rows):
            index = next(i for i, row in rows if isinstance(row, Dirichlet | Periodic))
            others = ", ".join(str(i) for i, _ in rows if i != index)
            raise ValueError(f"boundary.{index}: a known value or a closed side stands alone; remove row {others}")


def _checked_at_points(world: Any, names: Sequence[str]) -> None:
    """The same at scattered points, whose sides are known once they are read."""
    for index, row in enumerate(world.boundary):
        if row.field is not None and row.field not in names:
            raise ValueError(f"boundary.{index}.field: {row.field!r} is no field; known: {', '.join(names)}")
        if isinstance(row, Periodic | Source):
            raise ValueError(f"boundary.{index}.type: {row.type!r} holds on boxes; at points take another row")
        if isinstance(row, Convection) and getattr(world, "convection", None) is None:
            raise ValueError(f"boundary.{index}: a row of convection takes h and ambient from `convection`; add it")
