"""Fields on boxes: heat, diffusion with sorption, and equations of a user, by finite volumes and an implicit march."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch

from simengine.scene.address import numbers, replaced, value_at
from simengine.scene.asks import Ask, Fields, Series
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError
from simengine.scene.strict import OneOf, nearest, resolve_path
from simengine.worlds.fields.at_points import PointRun, solved_at_points
from simengine.worlds.fields.boundaries import BoundaryRows, Dirichlet, Robin
from simengine.worlds.fields.coefficients import CellValues, Piecewise, array_of
from simengine.worlds.fields.equations import EQUATIONS, AbstractEquation
from simengine.worlds.fields.local import CellGrid
from simengine.worlds.fields.march import GridMarch, MarchError
from simengine.worlds.fields.pde_answers import FieldRun
from simengine.worlds.fields.scattered import PointsFile
from simengine.worlds.fields.series import SeriesMarch, TaylorSeries

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

_FIXED = ("pde.domain", "pde.points", "pde.duration", "pde.march")  # numbers that worlds which march together share


@dataclasses.dataclass(frozen=True, kw_only=True)
class PDEWorld(AbstractWorld):
    """A partial differential equation on a box, or at scattered points.

    Attributes:
        pde: The equation, its box or points, and its sides.
    """

    kind: ClassVar[str] = "pde"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Fields, Series))
    together: ClassVar[int] = 16
    pde: Annotated[AbstractEquation, OneOf("equation", lambda: EQUATIONS)]

    def prepare(self, asks: Sequence[Ask]) -> "PDEWorld":
        """The world itself, its cells being frozen already; an ask beyond the run is told."""
        if beyond := self._beyond(asks):
            raise SceneError(beyond)
        return self

    def _beyond(self, asks: Sequence[Ask]) -> str | None:
        """What to say if a time lies beyond the run."""
        latest = max((float(t.detach().max()) for ask in asks if (t := _times(ask)) is not None and len(t)), default=0)
        duration = self.pde.lasts
        if self.pde.duration is None or latest <= duration * (1 + 1e-9):
            return None
        return (
            f"pde.duration: the run ends at {duration:.6g} s, and {latest:.6g} s is asked for; raise it, or cut "
            f"the observation by `within`"
        )

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "FieldRun | PointRun":
        """March through the whole duration, in float64."""
        return self.solve_many([self], asks, gradient=gradient)[0]

    def solve_many(
        self, worlds: Sequence[AbstractWorld], asks: Sequence[Ask], *, gradient: bool = False
    ) -> "list[FieldRun | PointRun]":
        """The runs of worlds that differ from this one in numbers only: one march for all of them.

        Raises:
            Refused: A time that is sought lies beyond the run, or the march has no next row.
        """
        if beyond := self._beyond(asks):
            raise Refused(beyond)
        if self.pde.points is not None:
            return [solved_at_points(world, gradient=gradient) for world in worlds]  # type: ignore[arg-type]
        return [*self._marched(worlds, gradient)]

    def _marched(self, worlds: Sequence[AbstractWorld], gradient: bool = False) -> list[FieldRun]:
        """The same on the cells of a box."""
        duration = self.pde.lasts
        fields = set(self.fields())
        tables = [{k: n for k, n in numbers(world).items() if k not in fields} for world in worlds]
        shared = all(
            table[key].value == tables[0][key].value for table in tables for key in table if key.startswith(_FIXED)
        ) and all(value_at(world, key) is value_at(worlds[0], key) for world in worlds for key in fields)
        if not shared and len(worlds) > 1:
            return [run for world in worlds for run in self._marched([world], gradient)]
        held: dict[str, Any] = {}
        for key in tables[0]:
            values = [table[key].value for table in tables]
            if not all(isinstance(v, float) and v == values[0] for v in values):
                held[key] = torch.stack([torch.as_tensor(v, dtype=torch.float64).reshape(1) for v in values])
        first = worlds[0]
        together: PDEWorld = replaced(first, held) if held else first  # type: ignore[assignment]
        equation = together.pde
        grid = self.grid()
        edges = torch.linspace(0.0, duration, self.pde.cells[0] + 1, dtype=torch.float64)
        rows, steps, way = BoundaryRows(equation, tuple(equation.units()), edges), self.pde.cells[0], self.pde.march
        march: GridMarch | SeriesMarch = (
            SeriesMarch(equation, grid, rows, steps, way, keep=gradient)
            if isinstance(way, TaylorSeries)
            else GridMarch(equation, grid, rows, steps, keep=gradient)
        )
        try:
            with torch.set_grad_enabled(gradient):
                found = march.run(together.initial_at(grid.centres(), len(worlds)))
        except MarchError as error:
            raise Refused(str(error)) from None
        return [FieldRun(world, grid, found[:, k]) for k, world in enumerate(worlds)]  # type: ignore[arg-type]

    def grid(self) -> CellGrid:
        """Its cells."""
        names = tuple(self.pde.units())
        edges = torch.zeros(2, dtype=torch.float64)
        periodic = BoundaryRows(self.pde, names, edges).periodic
        return CellGrid(
            tuple((float(a), float(b)) for a, b in self.pde.domain), self.pde.cells[1:], frozenset(periodic)
        )

    def initial_at(self, places: Mapping[str, torch.Tensor], worlds: int) -> torch.Tensor:
        """Fields at t = 0 at places of cells or points, (worlds, fields, cells)."""
        names = tuple(self.pde.units())
        shape = (worlds, len(names), len(places["x"]))
        initial: Any = self.pde.initial
        if initial == "ambient" and getattr(self.pde, "convection", None) is not None:
            initial = self.pde.convection.ambient  # type: ignore[attr-defined]
        if isinstance(initial, str):
            if initial not in self.functions:
                known = nearest(initial, self.functions) if self.functions else "a script defines functions"
                raise SceneError(f"pde.initial: {initial!r} is no function of the script; {known}")
            found = self.functions[initial](*places.values())
            parts = [found[name] for name in names] if isinstance(found, Mapping) else [found]
            if len(parts) != len(names):
                raise SceneError(f"pde.initial: {initial} is to return a table of the fields {', '.join(names)}")
            return torch.stack([torch.as_tensor(p, dtype=torch.float64).expand(shape[2]) for p in parts])[None].expand(
                shape
            )
        if isinstance(initial, Piecewise):
            if initial.of not in places:
                raise SceneError(f"pde.initial.of: expected {' or '.join(places)}, got {initial.of!r}")
            return initial(places[initial.of][None]).unsqueeze(1).expand(shape)
        return torch.as_tensor(initial, dtype=torch.float64).reshape(-1, 1, 1).expand(shape)

    def traced(self) -> frozenset[str]:
        """All numbers but those of the box, and the fields."""
        return frozenset(key for key in numbers(self) if not key.startswith(_FIXED)) | frozenset(self.fields())

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """The coefficients on cells of their own."""
        own = {field.name: getattr(self.pde, field.name) for field in dataclasses.fields(self.pde)}
        return {f"pde.{name}.values": table.cells for name, table in own.items() if isinstance(table, CellValues)}

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """The box."""
        return tuple((float(low), float(high)) for low, high in self.pde.domain)

    def field_at(self, key: str) -> torch.Tensor:
        """What the table of a coefficient tells."""
        table: CellValues = value_at(self, key.rpartition(".")[0])
        return table.field(key)

    def figures(self, key: str, field: torch.Tensor) -> dict[str, torch.Tensor]:
        """The field, x to the right and y up; a line as a row."""
        return {key: field.T.flip(0) if field.ndim == 2 else field[None]}

    def truth(self, key: str, reference: Mapping[str, Any]) -> torch.Tensor | None:
        """The mean in each cell of what a .npy tells, { file }; its counts are multiples of those of the cells.

        Raises:
            SceneError: There is no such file, or its cells do not fit.
        """
        if "file" not in reference:
            raise SceneError(f"reference.{key}: expected {{ file }}, a .npy of the true field")
        fine = array_of(resolve_path(str(reference["file"]), self.directory), f"reference.{key}.file")
        shape = self.fields()[key]
        if fine.ndim != len(shape) or any(a % b for a, b in zip(fine.shape, shape, strict=True)):
            raise SceneError(f"reference.{key}.file: {list(fine.shape)} cells are no multiples of {list(shape)}")
        split = [part for a, b in zip(fine.shape, shape, strict=True) for part in (b, a // b)]
        return fine.reshape(split).mean(tuple(range(1, 2 * len(shape), 2)))

    def beside(self, key: str, field: torch.Tensor, reference: Mapping[str, Any]) -> dict[str, float]:
        """ln(found/true), root mean square and largest."""
        true = self.truth(key, reference)
        assert true is not None
        off = (field / true).log()
        return {"rms of ln(found/true)": float(off.square().mean().sqrt()), "largest": float(off.abs().max())}

    def sizes(self) -> Mapping[str, float]:
        """Of the box, and of the fields as far as initial and boundary values tell."""
        lengths = [float(high) - float(low) for low, high in self.pde.domain]
        if self.pde.points is not None:
            places = self.pde.points.cloud().points
            lengths = (places.amax(0) - places.amin(0)).tolist()
        size = {"m": max(lengths), "s": self.pde.lasts or 1.0, "1": 1.0}
        told = [row.value for row in self.pde.boundary if isinstance(row, Dirichlet | Robin)]
        told += [self.pde.initial] if isinstance(self.pde.initial, float) else []
        largest = max((abs(float(value)) for value in told), default=0.0)
        return {**dict.fromkeys(self.pde.units().values(), largest), **size} if largest else size

    def abscissas(self) -> Mapping[str, str]:
        """Time and place."""
        return {**super().abscissas(), **dict.fromkeys(("x", "y", "z"), "m")}

    def scalars(self) -> Mapping[str, str]:
        """The fields; in one dimension their values at the ends and what flows out there; their integrals."""
        found = dict(self.pde.units())
        if self.pde.points is not None:
            return found
        box = "m" if len(self.pde.domain) == 1 else "m^2"
        for name, unit in self.pde.units().items():
            found[f"{name}.integral"] = f"{unit} {box}"
            if len(self.pde.domain) == 1:
                for side in ("left", "right"):
                    found[f"{name}.{side}"] = unit
                    found[f"{name}.outflow.{side}"] = ""
        return found

    def refined(self, factor: float) -> "PDEWorld":
        """Cells or points and steps, each times `factor`.

        Raises:
            SceneError: The points are those of a file.
        """
        if isinstance(self.pde.points, PointsFile):
            raise SceneError(
                "pde.points: those of a file have no finer ones; give an outline, or another file by --set"
            )
        points = None if self.pde.points is None else self.pde.points.refined(factor)
        cells = tuple(max(2, round(n * factor)) for n in self.pde.cells)
        return dataclasses.replace(self, pde=dataclasses.replace(self.pde, cells=cells, points=points))

    def build(self, *, device: str | None = None) -> AbstractEquation:
        """The equation."""
        return self.pde

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Cells, and how far the fields at the end lie from those of half the cells and steps.

        At points how many there are, and the difference to stencils of a higher degree and half the steps.
        """
        if self.pde.points is not None:
            at = solved_at_points(self, estimate=True).found
            told = {f"error of {name} (relative)": at.error(name) for name in self.pde.units()}
            cloud = at.collocation.cloud
            return {
                "points": len(cloud),
                "steps": self.pde.cells[0] if self.pde.cells else 0,
                **{f"points on {name}": len(own) for name, own in cloud.sides.items()},
                **told,
            }
        figures: dict[str, Any] = {
            "unknowns": len(self.pde.units()) * self.grid().centres()["x"].numel(),
            "steps": self.pde.cells[0],
        }
        if min(self.pde.cells) >= 8:
            half = self.refined(0.5)
            fine, coarse = self._marched([self])[0], half._marched([half])[0]
            x = torch.stack(list(coarse.grid.centres().values()), 1)
            ends = torch.full((len(x),), self.pde.lasts, dtype=torch.float64)
            for name, unit in self.pde.units().items():
                ask = Fields(names=(name,), x=x, times=ends)
                # the scheme is of second order: a third of the difference is the error of the finer one
                error = float((fine.sample(ask) - coarse.sample(ask)).abs().max()) / 3
                figures[f"error of {name} [{unit}]"] = error
        return figures

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve; write the fields at all steps."""
        if self.pde.points is not None:
            return self._run_at_points(out)
        found = self._marched([self])[0]
        grid = found.grid
        edges = torch.linspace(0.0, self.pde.lasts, self.pde.cells[0] + 1, dtype=torch.float64)
        fields = {name: found.fields[:, k].reshape(-1, *grid.counts) for k, name in enumerate(self.pde.units())}
        out.write("fields.npz", {"time": edges, **grid.centres(), **fields})
        return {
            "steps": self.pde.cells[0],
            **{f"{name} at the end": [float(f[-1].min()), float(f[-1].max())] for name, f in fields.items()},
        }

    def _run_at_points(self, out: "RunDirectory") -> dict[str, Any]:
        found = solved_at_points(self).found
        cloud, times = found.collocation.cloud, found.times
        fields = {name: found.values[..., k, : len(cloud)] for k, name in enumerate(self.pde.units())}
        side = torch.zeros(len(cloud), dtype=torch.int64)
        for number, own in enumerate(cloud.sides.values(), 1):
            side[own] = number
        clock = {} if times is None else {"time": times}
        out.write("fields.npz", {**clock, **cloud.places, "side": side, **fields})
        last = {name: f if times is None else f[-1] for name, f in fields.items()}
        return {
            "points": len(cloud),
            "sides": ", ".join(f"{k} {name}" for k, name in enumerate(cloud.sides, 1)),
            **{f"{name} at the end": [float(f.min()), float(f.max())] for name, f in last.items()},
        }


def _times(ask: Ask) -> torch.Tensor | None:
    if isinstance(ask, Fields):
        return ask.times
    return ask.values if isinstance(ask, Series) and ask.against == "time" else None
