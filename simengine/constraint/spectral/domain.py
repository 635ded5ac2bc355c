"""Where an equation holds, and what is known at the edges."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from simengine.constraint.spectral.axes import AbstractAxis, Interval
from simengine.constraint.spectral.expression import AXES, At, Value

SIDES = {"left": (0, 0), "right": (0, 1), "bottom": (1, 0), "top": (1, 1), "back": (2, 0), "front": (2, 1)}
Function = Callable[[Any], torch.Tensor]
Places = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A value that is known at sides: the functions vanish there, and a lifting that has it is added.

    Attributes:
        value: A number, or a function of p (p.x, p.y, p.t and the numbers of the equation), defined everywhere.
        at: Sides (left, right, bottom, top, back, front), `curve` for that of the domain's `inside`; `all` for all.
        field: Whose; None for all fields.
    """

    value: float | Function = 0.0
    at: str | Sequence[str] = "all"
    field: str | None = None


@dataclasses.dataclass(frozen=True)
class Flux:
    """What is within the equation's `div`, at a side, along the outward normal; it may depend on the fields there.

    With div(k u.x, k u.y) a wall that takes up h u has `Flux(lambda u, p: -p.h * u, at="left")`: k du/dn = -h u.

    Attributes:
        value: Function of the fields and p.
        at: A side, several, or `all`.
        field: Whose equation; None for the only one.
    """

    value: Callable[..., Any]
    at: str | Sequence[str] = "all"
    field: str | None = None


class Domain:
    """A box, or the part of it where a function is positive.

        Domain(x=(0.0, 1.0), y=Circle(0.0, 1.0))
        Domain(x=(-1.0, 1.0), y=(-1.0, 1.0), inside=lambda p: p.x**2 + p.y**2 - 0.25)       # a hole

    Args:
        inside: Function of p.x, p.y, ...: positive within, 0 on the curve, smooth near it but for corners.
        points: Quadrature points per function along each axis: 1.5 for a box, which products of three functions need,
            2.5 where a curve cuts it; more where coefficients jump within.
        enrichments: Functions of p that the fields have in them and no polynomial has; half as many functions along
            each axis are added times each. `lambda p: f(p).abs()` bends where f vanishes, as a field does where a
            coefficient jumps; a power of the distance to it serves a corner.
        axes: x, y, z: (low, high), `Interval`, or `Circle` for a coordinate that closes on itself.

    Attributes:
        axes: Name -> axis.
        inside: As given.
        enrichments: As given.
    """

    def __init__(
        self,
        *,
        inside: Function | None = None,
        points: float | None = None,
        enrichments: Sequence[Function] = (),
        **axes: AbstractAxis | tuple[float, float],
    ) -> None:
        if not axes or tuple(axes) != AXES[: len(axes)]:
            raise ValueError(f"domain: expected axes x, or x and y, or x, y and z, got {', '.join(axes) or 'none'}")
        self.axes: dict[str, AbstractAxis] = {
            name: axis if isinstance(axis, AbstractAxis) else Interval(*axis) for name, axis in axes.items()
        }
        self.inside = inside
        self.enrichments: tuple[Function, ...] = tuple(enrichments)
        self._points = points or (1.5 if inside is None else 2.5)

    def points(self, size: Sequence[int]) -> list[int]:
        """Quadrature points along each axis for so many functions."""
        return [math.ceil(self._points * n) + 3 for n in size]

    def sides(self, at: str | Sequence[str]) -> list[str]:
        """Names of the sides, `curve` among them, that `at` means.

        Raises:
            ValueError: A side does not exist.
        """
        own = [
            name
            for name, (axis, _) in SIDES.items()
            if axis < len(self.axes) and isinstance(self.axes[AXES[axis]], Interval)
        ]
        own += ["curve"] if self.inside is not None else []
        asked = own if at == "all" else [at] if isinstance(at, str) else list(at)
        for name in asked:
            if name not in own:
                raise ValueError(f"at: {name!r} is no side of this domain; known: {', '.join(own) or 'none'}, or all")
        return asked

    def quadrature(self, counts: Sequence[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Places within the domain and their weights, (q,) each."""
        lines = [axis.quadrature(n) for axis, n in zip(self.axes.values(), counts, strict=True)]
        grids = torch.meshgrid(*[x for x, _ in lines], indexing="ij")
        weight = lines[0][1]
        for _, w in lines[1:]:
            weight = weight[..., None] * w
        places = {name: g.flatten() for name, g in zip(self.axes, grids, strict=True)}
        return self._within(places, weight.flatten())

    def side(self, side: str, counts: Sequence[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Places on a side of the box and their weights."""
        normal, end = SIDES[side]
        lines = []
        for k, (axis, n) in enumerate(zip(self.axes.values(), counts, strict=True)):
            if k == normal:
                place = torch.tensor([axis.high if end else axis.low], dtype=torch.float64)
                lines.append((place, torch.ones_like(place)))
            else:
                lines.append(axis.quadrature(n))
        grids = torch.meshgrid(*[x for x, _ in lines], indexing="ij")
        weight = lines[0][1]
        for _, w in lines[1:]:
            weight = weight[..., None] * w
        places = {name: g.flatten() for name, g in zip(self.axes, grids, strict=True)}
        return self._within(places, weight.flatten(), f"on the side {side}")

    def _within(
        self, places: dict[str, torch.Tensor], weight: torch.Tensor, where: str = "in the box"
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if self.inside is None:
            return places, weight
        held = self.inside(At(places, 0.0, {})) > 0
        if not bool(held.any()):
            raise ValueError(f"inside: it is positive nowhere {where}")
        return {name: x[held] for name, x in places.items()}, weight[held]

    def distance(self, sides: Iterable[str]) -> Function | None:
        """A function that vanishes at these sides and is positive within; None for none."""
        own = list(sides)
        if not own:
            return None

        def product(p: Any) -> torch.Tensor:
            found: Any = 1.0
            for name in own:
                if name == "curve":
                    assert self.inside is not None
                    found = found * self.inside(p)
                    continue
                axis, end = SIDES[name]
                line, x = self.axes[AXES[axis]], getattr(p, AXES[axis])
                found = found * ((line.high - x) if end else (x - line.low)) / line.length
            return found

        return product


def derivatives(
    function: float | Function,
    places: Places,
    letters: Iterable[str],
    t: Value = 0.0,
    numbers: Mapping[str, Value] | None = None,
) -> dict[str, torch.Tensor]:
    """Derivatives of a function of p at places, by reverse mode; letters as of `Symbol`, t for the rate."""
    wanted = list(letters)
    some = next(iter(places.values()))
    if not callable(function):
        flat = torch.full_like(some, float(function)) if not isinstance(function, torch.Tensor) else function + 0 * some
        return {name: flat if name == "" else torch.zeros_like(some) for name in wanted}
    with torch.enable_grad():
        seen = {name: x.detach().clone().requires_grad_() for name, x in places.items()}
        moment = (torch.zeros_like(some) + t).requires_grad_()
        value = torch.as_tensor(function(At(seen, moment, numbers or {})), dtype=torch.float64) + 0 * some
        known: dict[str, torch.Tensor] = {"": value}

        def found(name: str) -> torch.Tensor:
            if name not in known:
                before = found(name[:-1])
                by = moment if name[-1] == "t" else seen[name[-1]]
                slope = None
                if before.requires_grad:
                    (slope,) = torch.autograd.grad(before.sum(), by, create_graph=True, allow_unused=True)
                known[name] = torch.zeros_like(some) if slope is None else slope
            return known[name]

        result = {name: found(name) for name in wanted}
    keep = any(isinstance(v, torch.Tensor) and v.requires_grad for v in (numbers or {}).values())
    return result if keep else {name: value.detach() for name, value in result.items()}


def subsets(letters: str) -> list[tuple[str, str]]:
    """All ways to deal letters to two factors: the terms of the product rule."""
    if not letters:
        return [("", "")]
    rest = subsets(letters[1:])
    return [(letters[0] + a, b) for a, b in rest] + [(a, letters[0] + b) for a, b in rest]
