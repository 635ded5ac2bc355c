"""The shipped equations on boxes, and those of a user: the table `[pde]` of a scene."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.scene.strict import Count, NonNegative, Positive, Range, Unit
from simengine.worlds.fields.boundaries import Boundary, Convection, checked
from simengine.worlds.fields.coefficients import CellValues, Freundlich, Piecewise, constant, evaluated
from simengine.worlds.fields.local import AXES, Local
from simengine.worlds.fields.scattered import Outline, PointsFile
from simengine.worlds.fields.series import ImplicitSteps, TaylorSeries

POINT_AXES = ("x", "y", "z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractEquation(abc.ABC):
    """A box or points, what the fields begin with, and what happens at the sides.

    Attributes:
        equation: Its name.
        domain: Lower and upper end of each axis [m].
        points: Where it holds instead of in a box: scattered points.
        duration: Of the run; at points an equation without rates has none [s].
        cells: Steps in time, then cells along each axis; at points the steps alone.
        initial: Value at t = 0: a number, { of = "x", knots, values }, or the name of a function of the script that
            takes the places and returns the field, or a table of fields [unit of the value].
        boundary: Rows of the sides; a side without a row lets nothing through.
        march: Through time: `implicit`, or `taylor`, the series that follow from the equation.
    """

    domain: tuple[tuple[float, float], ...] = ()
    points: PointsFile | Outline | None = None
    duration: Positive | None = None
    cells: tuple[Count, ...] = ()
    initial: float | str | Piecewise = 0.0
    boundary: tuple[Boundary, ...] = ()
    march: ImplicitSteps | TaylorSeries = dataclasses.field(default_factory=ImplicitSteps)

    def __post_init__(self) -> None:
        if self.points is not None:
            self._check_at_points()
            return
        if not self.domain:
            raise ValueError("domain: say where, as in [[0.0, 1.0]], or give points")
        if not 1 <= len(self.domain) <= len(AXES):
            raise ValueError(f"domain: expected 1 or {len(AXES)} axes, as in [[0.0, 1.0]], got {len(self.domain)}")
        if self.duration is None:
            raise ValueError("duration: say how long the run is, in seconds")
        for low, high in self.domain:
            if not low < high:
                raise ValueError(f"domain: expected [lower, upper], got {[low, high]}")
        if len(self.cells) != len(self.domain) + 1:
            raise ValueError(f"cells: expected {len(self.domain) + 1} counts, time first, got {list(self.cells)}")
        checked(self, tuple(self.units()))
        known = (*self.units(), *AXES[: len(self.domain)])
        for field in dataclasses.fields(self):
            table = getattr(self, field.name)
            if isinstance(table, Piecewise) and table.of not in known:
                raise ValueError(f"{field.name}.of: {table.of!r} is no field and no axis; known: {', '.join(known)}")
            if isinstance(table, CellValues):
                if len(table.cells) != len(self.domain):
                    raise ValueError(
                        f"{field.name}.cells: expected {len(self.domain)} counts, one for each axis of the domain, got "
                        f"{list(table.cells)}"
                    )
                object.__setattr__(self, field.name, dataclasses.replace(table, box=self.domain))

    def _check_at_points(self) -> None:
        assert self.points is not None
        if self.domain:
            raise ValueError("domain: the points say where; leave it out")
        if len(self.cells) != (self.duration is not None):
            told = "[STEPS] beside duration" if self.duration is not None else "none without duration"
            raise ValueError(f"cells: at points expected {told}, got {list(self.cells)}")
        if isinstance(self.march, TaylorSeries):
            raise ValueError("march.type: 'taylor' goes through time on boxes; at points leave it out")
        checked(self, tuple(self.units()))
        known = (*self.units(), *POINT_AXES[: self.points.axes or len(POINT_AXES)])
        for field in dataclasses.fields(self):
            table = getattr(self, field.name)
            if isinstance(table, CellValues):
                raise ValueError(f"{field.name}.type: 'cells' divide a box; at points give a number or a table")
            if isinstance(table, Piecewise) and table.of not in known:
                raise ValueError(f"{field.name}.of: {table.of!r} is no field and no axis; known: {', '.join(known)}")

    @property
    def lasts(self) -> float:
        """Duration; 0 of an equation without one [s]."""
        return 0.0 if self.duration is None else float(self.duration)

    @abc.abstractmethod
    def units(self) -> Mapping[str, str]:
        """Name and unit of each field."""

    def linear(self) -> bool:
        """Whether the residual is linear in the fields, with a matrix that does not change in time."""
        return False

    @abc.abstractmethod
    def diffusivity(self) -> Any:
        """What the flux through a side is a multiple of the gradient by."""

    @abc.abstractmethod
    def residual(self, at: Local) -> Sequence[torch.Tensor]:
        """What is to vanish in each cell, for each field (worlds, cells)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceLoss:
    """What a thin body loses to the air around it.

    Attributes:
        h: Coefficient [W/(m^2 K)].
        perimeter_per_area: Of the cross-section; 2/R for a round rod [1/m].
        ambient: Temperature of the air [K].
    """

    h: NonNegative
    perimeter_per_area: NonNegative = 0.0
    ambient: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heat(AbstractEquation):
    """C T_t = div(k grad T) - h p (T - ambient) + source.

    Attributes:
        conductivity: k, a number, a table over T or the place, or { type = "cells", cells, values } [W/(m K)].
        heat_capacity: C, density times specific heat [J/(m^3 K)].
        convection: What is lost along the sides of a thin body.
        heating: Heat set free in the body [W/m^3].
    """

    equation: Literal["heat"] = "heat"
    conductivity: Positive | Piecewise | CellValues
    heat_capacity: Positive
    convection: SurfaceLoss | None = None
    heating: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.initial, str) and self.initial == "ambient" and self.convection is None:
            raise ValueError("initial: there is no ambient temperature without `convection`; give a number")

    def units(self) -> Mapping[str, str]:
        """The temperature."""
        return {"T": "K"}

    def linear(self) -> bool:
        """Unless the conductivity hangs on T."""
        return constant(self.conductivity)

    def diffusivity(self) -> Any:
        """The conductivity."""
        return self.conductivity

    def residual(self, at: Local) -> Sequence[torch.Tensor]:
        """Of the heat balance [W/m^3]."""
        found = self.heat_capacity * at.rate("T") - at.divergence("T", self.conductivity) - self.heating
        if self.convection is not None:
            own = self.convection
            found = found + own.h * own.perimeter_per_area * (at.value("T") - own.ambient)
        return (found,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SorptionEquation(AbstractEquation):
    """R(c) c_t = div(D grad c) - decay R(c) c.

    Attributes:
        D: Diffusivity, a number, a table over the place, or { type = "cells", cells, values } [m^2/s].
        retardation: R, a number, a table over c, or { type = "freundlich", ... } [1].
        decay: Rate at which it decays [1/s].
    """

    equation: Literal["diffusion_sorption"] = "diffusion_sorption"
    D: Positive | Piecewise | CellValues
    retardation: Positive | Piecewise | Freundlich = 1.0
    decay: NonNegative = 0.0

    def units(self) -> Mapping[str, str]:
        """The concentration."""
        return {"c": "kg/m^3"}

    def linear(self) -> bool:
        """Where neither coefficient hangs on c."""
        return constant(self.retardation) and constant(self.D)

    def diffusivity(self) -> Any:
        """D."""
        return self.D

    def residual(self, at: Local) -> Sequence[torch.Tensor]:
        """Of the mass balance [kg/(m^3 s)]."""
        held = evaluated(self.retardation, at.at())
        return (held * (at.rate("c") + self.decay * at.value("c")) - at.divergence("c", self.D),)


class Symbol:
    """A field in a user's equation: `c`, and its derivatives `c.t`, `c.x`, `c.xx`, `c.y`, `c.yy`; takes arithmetic.

    Derivatives in space are central differences of the cells, (worlds, cells).
    """

    def __init__(self, name: str, at: Local, diffusivity: Any) -> None:
        self._name, self._at, self._diffusivity = name, at, diffusivity

    @property
    def value(self) -> torch.Tensor:
        """The field itself."""
        return self._at.value(self._name)

    @property
    def t(self) -> torch.Tensor:
        """Its rate."""
        return self._at.rate(self._name)

    def __getattr__(self, name: str) -> torch.Tensor:
        if name[:1] in AXES[: len(self._at.grid.counts)] and name in (name[:1], 2 * name[:1]):
            axis, h = AXES.index(name[0]), self._at.grid.h[AXES.index(name[0])]
            low, high = (self._at.beside(self._name, axis, end, self._diffusivity) for end in (0, 1))
            return (high - low) / (2 * h) if len(name) == 1 else (high - 2 * self.value + low) / h**2
        raise AttributeError(f"{self._name}.{name}: a field has t, x, xx (and y, yy in two dimensions)")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return function(*(a.value if isinstance(a, Symbol) else a for a in args), **(kwargs or {}))


def _delegated(name: str) -> Callable[..., Any]:
    def method(self: Symbol, *others: Any) -> Any:
        return getattr(self.value, name)(*(o.value if isinstance(o, Symbol) else o for o in others))

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "abs"):
    setattr(Symbol, f"__{_name}__", _delegated(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Symbol, f"__{_name}__", _delegated(f"__{_name}__"))


class Numbers:
    """Numbers of a user's equation by name, with the place `x`, `y` and the moment `t`; tables are looked up."""

    def __init__(self, equation: "OwnEquation", at: Local) -> None:
        where = at.at()
        numbers = {name: evaluated(getattr(equation, name), where) for name in type(equation).named}
        self.__dict__.update({**at.places, "t": at.t, **numbers})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnEquation(AbstractEquation):
    """An equation of one's own; `equation` makes the class from a function."""

    fields: ClassVar[Mapping[str, str]] = {}
    named: ClassVar[Mapping[str, str]] = {}
    function: ClassVar[Callable[..., Any]]
    equation: str = ""

    def units(self) -> Mapping[str, str]:
        """As declared."""
        return type(self).fields

    def diffusivity(self) -> Any:
        """The number `D`, 1 where there is none."""
        return getattr(self, "D", 1.0)

    def residual(self, at: Local) -> Sequence[torch.Tensor]:
        """What the function returns."""
        symbols = [Symbol(name, at, self.diffusivity()) for name in at.names]
        found = type(self).function(*symbols, Numbers(self, at))
        return found if isinstance(found, tuple | list) else (found,)


EQUATIONS: dict[str, type[AbstractEquation]] = {"heat": Heat, "diffusion_sorption": SorptionEquation}


def equation(
    name: str, *, fields: Mapping[str, str], numbers: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function an equation that scenes can name.

        @se.equation("burgers", fields={"u": "m/s"}, numbers={"D": "m2/s"})
        def burgers(u, p):
            return u.t + u * u.x - p.D * u.xx

    Args:
        name: As `pde.equation` names it.
        fields: Name -> unit of each field; they are the function's first arguments.
        numbers: Name -> unit of each number; the last argument holds them, and x, y, t. A scene may give any of them as
            a table { of, knots, values } over a field or a place, which is looked up in each cell: a reaction or a
            conductivity that nobody knows as a formula. Robin and Neumann rows take the number `D` for the
            diffusivity at a side.

    Returns:
        The function, unchanged. It returns what is to be 0 in each cell, one for each field.
    """
    numbers = numbers or {}
    if clash := ({*fields, *numbers} & {"x", "y", "t"}) | (set(fields) & set(numbers)):
        raise ValueError(f"equation {name!r}: {sorted(clash)[0]!r} names two things; rename the field or number")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        kinds = {key: Annotated[float, Range(), Unit(unit)] | Piecewise for key, unit in numbers.items()}
        space = {
            "__annotations__": kinds,
            "__module__": __name__,
            "__doc__": function.__doc__ or OwnEquation.__doc__,
            "fields": dict(fields),
            "named": dict(numbers),
            "function": staticmethod(function),
        }
        made = type(name, (OwnEquation,), space)
        EQUATIONS[name] = dataclasses.dataclass(frozen=True, kw_only=True)(made)
        return function

    return decorate


__all__ = ["EQUATIONS", "AbstractEquation", "Convection", "Heat", "OwnEquation", "SorptionEquation", "equation"]
