"""The equations of a scene at scattered points, by stencils, and what they answer there."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.constraint.cloud.meshless import Meshless, PointField
from simengine.constraint.cloud.stencils import stencil_weights
from simengine.constraint.spectral.domain import Fixed, Flux
from simengine.constraint.spectral.expression import Divergence, SpectralSymbol, div
from simengine.scene.asks import Ask, Fields
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.strict import nearest
from simengine.solve.solution import Result
from simengine.worlds.fields.boundaries import AbstractInflow, Dirichlet
from simengine.worlds.fields.coefficients import evaluated
from simengine.worlds.fields.equations import AbstractEquation, Numbers, OwnEquation

if TYPE_CHECKING:
    from simengine.worlds.fields.pde import PDEWorld

_BEYOND = 3.0  # times the widest gap between neighbours: a place so far from all points is none of the domain


class _AtPoints:
    """What `Local` is on cells: fields, rates and divergences of a moment, point by point."""

    def __init__(self, names: tuple[str, ...], symbols: tuple[SpectralSymbol, ...], p: Any, axes: tuple[str, ...]):
        self.names, self.t = names, p.t
        self.places: Mapping[str, torch.Tensor] = {axis: getattr(p, axis) for axis in axes}
        self._symbols = dict(zip(names, symbols, strict=True))

    def value(self, name: str) -> torch.Tensor:
        """A field."""
        return self._symbols[name].value

    def rate(self, name: str) -> Any:
        """Its time derivative."""
        return self._symbols[name].t

    def at(self) -> dict[str, torch.Tensor]:
        """Fields and places by name, as tables take them."""
        where = {**{name: symbol.value for name, symbol in self._symbols.items()}, **self.places}
        return {name: value.reshape(1, -1) for name, value in where.items()}

    def divergence(self, name: str, coefficient: Any) -> Divergence:
        """div(k grad u)."""
        k = _flat(evaluated(coefficient, self.at()))
        return div(*(k * getattr(self._symbols[name], axis) for axis in self.places))


def _flat(value: Any) -> Any:
    """Tables answer (1, points)."""
    return value.reshape(-1) if isinstance(value, torch.Tensor) and value.ndim == 2 else value


def _flat_part(part: Any) -> Any:
    return Divergence(part.flux, _flat(part.rest), part.scale) if isinstance(part, Divergence) else _flat(part)


def meshless(equation: AbstractEquation) -> Meshless:
    """The equation at the points of its scene.

    Raises:
        SceneError: A row is at no side, or cannot hold at points.
    """
    assert equation.points is not None
    cloud, names = equation.points.cloud(), tuple(equation.units())
    rows: list[Fixed | Flux] = []
    for index, row in enumerate(equation.boundary):
        if row.at != "all" and row.at not in cloud.sides:
            known = nearest(row.at, cloud.sides) if cloud.sides else "the points name no side"
            raise SceneError(f"pde.boundary.{index}.at: {row.at!r} is no side of the points, or all; {known}")
        if isinstance(row, Dirichlet):
            rows.append(Fixed(row.value, at=row.at, field=row.field))
            continue
        assert isinstance(row, AbstractInflow), "refused by the equation"
        a, b = row.flux(equation, None)
        for k, name in enumerate(names):
            if row.field in (None, name):
                rows.append(Flux(lambda *u, k=k, a=a, b=b: b - a * u[k].value, at=row.at, field=name))

    def function(*given: Any) -> list[Any]:
        *symbols, p = given
        at: Any = _AtPoints(names, tuple(symbols), p, cloud.axes)
        if isinstance(equation, OwnEquation):
            own = Numbers(equation, at)
            own.__dict__.update({name: _flat(value) for name, value in vars(own).items()})
            found = type(equation).function(*symbols, own)
        else:
            found = equation.residual(at)
        return [_flat_part(part) for part in (found if isinstance(found, tuple | list) else (found,))]

    return Meshless(function, cloud, fields=names, boundary=rows)


def solved_at_points(world: "PDEWorld", *, gradient: bool = False, estimate: bool = False) -> "PointRun":
    """Solve or march the equation of a world at its points.

    Raises:
        SceneError: Points, rows and equation do not fit one another.
        Refused: There is no solution.
    """
    equation = world.pde
    assert equation.points is not None
    problem, degree = meshless(equation), equation.points.degree
    axes = problem.cloud.axes

    def begins(k: int) -> Any:
        return lambda p: world.initial_at({axis: getattr(p, axis) for axis in axes}, 1)[0, k]

    start = {name: begins(k) for k, name in enumerate(equation.units())}
    try:
        with torch.set_grad_enabled(gradient):
            if equation.duration is None:
                found = problem.solve(degree=degree, start=start, estimate=estimate)
            else:
                duration, steps = float(equation.duration), equation.cells[0]
                found = problem.march(start, duration, steps, degree=degree, estimate=estimate)
    except ValueError as error:
        told = {"use march": "give duration and cells", "use solve": "leave duration and cells out"}
        text = str(error)
        for python, scene in told.items():
            text = text.replace(python, scene)
        raise SceneError(f"pde: {text}") from None
    if found.result is not Result.SUCCESS:
        raise Refused(f"the equation at points: {found.result.name}: {found.result.remedy}")
    return PointRun(found)


@dataclasses.dataclass(frozen=True)
class PointRun(AbstractRun):
    """Fields at scattered points, at all steps; linear in between in time, by the stencils of the equation in space.

    Attributes:
        found: Fields and points.
    """

    found: PointField

    def sample(self, ask: Ask) -> torch.Tensor:
        """Fields at places and times."""
        if not isinstance(ask, Fields):
            raise SceneError("an equation at scattered points answers fields at places (samples, profiles)")
        own, found = self.found.collocation, self.found
        x, axes = ask.x.detach(), own.cloud.axes
        if ask.x.requires_grad:
            raise SceneError("places cannot be sought in a world at scattered points; give them")
        if x.shape[-1] != len(axes):
            raise SceneError(
                f"places of {x.shape[-1]} coordinates among points of {len(axes)}; give {' and '.join(axes)}"
            )
        self._refuse_outside(x)
        near = own.seen.neighbours(own.degree, x)
        weights = stencil_weights(own.seen.points, x, near, [""], own.degree)[""]
        columns = []
        for name in ask.names:
            if name not in own.fields:
                raise SceneError(f"{name!r} is no field of this world; {nearest(name, own.fields)}")
            k = own.fields.index(name)
            if found.times is None:
                columns.append((weights * found.values[k][near]).sum(-1))
                continue
            if ask.times is None:
                raise SceneError("a field hangs on time; name a column t")
            place = ask.times * ((len(found.times) - 1) / float(found.times[-1]))
            row = place.detach().floor().clamp(0, len(found.times) - 2).to(torch.int64)
            share = (place - row).clamp(0.0, 1.0)[:, None]
            before, after = (found.values[(row + j)[:, None], k, near] for j in (0, 1))
            columns.append((weights * ((1 - share) * before + share * after)).sum(-1))
        return torch.stack(columns, -1)

    def _refuse_outside(self, x: torch.Tensor) -> None:
        cloud = self.found.collocation.cloud
        apart = torch.cdist(x, cloud.points).amin(1)
        far = float(apart.max()) if len(apart) else 0.0
        if far > _BEYOND * float(cloud.nearest.max()):
            where = ", ".join(f"{float(v):.6g}" for v in x[int(apart.argmax())])
            raise SceneError(f"a place at ({where}) m lies {far:.3g} m from the nearest point; is it in another unit?")
