"""An equation of one's own on functions that need no training: solved at once, or marched through time."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from simengine.constraint.spectral.answer import Expansion, chained, sharpened
from simengine.constraint.spectral.discrete import Boundary, Discrete, SpectralEquation
from simengine.constraint.spectral.domain import Domain, Fixed, Flux, Function, derivatives
from simengine.constraint.spectral.expression import Value
from simengine.constraint.spectral.march import SpectralMarch
from simengine.constraint.spectral.roots import root

RICHER = 1.3  # functions along each axis of the solve that tells the error, beside those of the answer


class Spectral:
    """An equation on a domain.

        def equation(u, p):
            return -div(p.k * u.x, p.k * u.y) - 1

        problem = Spectral(equation, Domain(x=(0.0, 1.0), y=(0.0, 1.0)), boundary=[Fixed(0.0)], numbers={"k": 2.0})
        found = problem.solve(12)
        found("u", x=0.5, y=0.5), found.error()

    Args:
        equation: Function of the fields and p that returns what is to vanish, for each field: sums and products of
            u, u.t, u.x, u.xx, u.xy, ..., torch functions of them, and `div(...)` of a flux. p holds the numbers, the
            places x, y, z and the moment t.
        domain: Where.
        fields: Names, in the order of the arguments.
        boundary: `Fixed` values and `Flux`es; a side of a `div` without a row lets nothing through.
        numbers: Of the equation by name; tensors keep their gradients.
    """

    def __init__(
        self,
        equation: Callable[..., Any],
        domain: Domain,
        *,
        fields: Sequence[str] = ("u",),
        boundary: Sequence[Boundary] = (),
        numbers: Mapping[str, Value] | None = None,
    ) -> None:
        for row in boundary:
            if not isinstance(row, Fixed | Flux):
                raise TypeError(f"boundary: expected Fixed or Flux, got {type(row).__name__}")
            if row.field is not None and row.field not in fields:
                raise ValueError(f"boundary: {row.field!r} is no field; known: {', '.join(fields)}")
            domain.sides(row.at)
        self.numbers: dict[str, Value] = dict(numbers or {})
        for name in self.numbers:
            if name in (*domain.axes, "t", *fields):
                raise ValueError(f"numbers: {name!r} names an axis, the time or a field; rename it")
        self.equation: SpectralEquation = SpectralEquation(equation, domain, tuple(fields), tuple(boundary))

    def solve(
        self,
        size: int | Sequence[int],
        *,
        start: Function | Mapping[str, Function] | None = None,
        estimate: bool = True,
        tolerance: float = 1e-10,
        max_iterations: int = 50,
    ) -> Expansion:
        """The fields of an equation without time, by Newton's method.

        Args:
            size: Functions along each axis.
            start: Fields to start from, functions of p; what is known at the sides if None.
            estimate: Solve again on two richer sets of functions to tell the error, and give the combination of the
                functions that is nearest to the richest; else Galerkin's, which is nearest in the energy.
            tolerance: Of the last step, relative to the fields.
            max_iterations: Of Newton.

        Returns:
            The fields; gradients flow to the numbers that ask for them, once.
        """
        discrete = Discrete(self.equation, self._sizes(size), self.numbers)
        if discrete.evolves:
            raise ValueError("equation: it holds a rate, u.t; use march")
        found = [self._solved(discrete, self._start(discrete, start), tolerance, max_iterations)]
        for factor in (RICHER, RICHER**2) if estimate else ():
            richer = Discrete(self.equation, self._sizes(size, factor), self.numbers)
            with torch.no_grad():
                values = [found[-1](name, **richer.places) for name in self.equation.fields]
                begun = self._fitted(richer, values, 0.0)
            found.append(self._solved(richer, begun, tolerance, max_iterations))
        return sharpened(chained(found))

    def _solved(self, discrete: Discrete, y: torch.Tensor, tolerance: float, most: int) -> Expansion:
        still, now = torch.zeros(1, discrete.count, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        lifted = discrete.liftings(now)

        def residual(y: torch.Tensor) -> torch.Tensor:
            return discrete.residual(y[None], still, now, lifted)[0]

        def jacobian(y: torch.Tensor) -> torch.Tensor:
            return discrete.linearised(y[None], still, now, lifted)[0][0]

        found = root(residual, jacobian, y, tolerance=tolerance, max_iterations=most)
        return Expansion(discrete, found.value, found.result, found.stats)

    def march(
        self,
        initial: Function | float | Mapping[str, Function | float],
        duration: float,
        size: int | Sequence[int],
        *,
        tolerance: float = 1e-4,
        stages: int = 3,
        estimate: bool = True,
        window: float | None = None,
    ) -> Expansion:
        """The fields of an equation with rates, in windows as long as its residual between the stages allows.

        Args:
            initial: Fields at t = 0: functions of p, or numbers; a table where there are several fields.
            duration: Of the run.
            size: Functions along each axis.
            tolerance: Largest residual between the stages of a window, relative to the rates so far.
            stages: Of each window (Radau IIA: order 2 stages - 1, and what is stiff is damped).
            estimate: March again with richer functions and a tenth of the tolerance to tell the error, and give the
                combination of the functions that is nearest to that answer.
            window: Longest window; the duration if None.
        """
        sizes = self._sizes(size)
        own = self._marched(Discrete(self.equation, sizes, self.numbers), initial, duration, tolerance, stages, window)
        if not estimate:
            return own
        richer = Discrete(self.equation, self._sizes(size, RICHER), self.numbers)
        again = self._marched(richer, initial, duration, tolerance / 10, stages, window)
        return sharpened(chained([own, again]))

    def _marched(
        self, discrete: Discrete, initial: Any, duration: float, tolerance: float, stages: int, window: float | None
    ) -> Expansion:
        if not discrete.evolves:
            raise ValueError("equation: it holds no rate, u.t; use solve")
        if not duration > 0:
            raise ValueError(f"duration: expected more than 0, got {duration}")
        march = SpectralMarch(discrete, stages=stages, tolerance=tolerance)
        windows, result, stats = march.run(self._start(discrete, initial), duration, window or duration)
        return Expansion(discrete, windows, result, stats)

    def _sizes(self, size: int | Sequence[int], factor: float = 1.0) -> list[int]:
        axes = self.equation.domain.axes
        sizes = [size] * len(axes) if isinstance(size, int) else list(size)
        if len(sizes) != len(axes) or min(sizes) < 1:
            raise ValueError(f"size: expected a number of functions for each of {', '.join(axes)}, got {sizes}")
        return [n if factor == 1 else max(n + 2, math.ceil(factor * n)) for n in sizes]

    def _start(self, discrete: Discrete, start: Any) -> torch.Tensor:
        fields = self.equation.fields
        if start is None:
            return torch.zeros(discrete.count, dtype=torch.float64)
        if not isinstance(start, Mapping):
            if len(fields) > 1:
                raise ValueError(f"start: expected a table of the fields {', '.join(fields)}")
            start = {fields[0]: start}
        if set(start) != set(fields):
            raise ValueError(f"start: expected a table of the fields {', '.join(fields)}, got {', '.join(start)}")
        values = [derivatives(start[name], discrete.places, [""], 0.0, self.numbers)[""] for name in fields]
        return self._fitted(discrete, values, 0.0)

    def _fitted(self, discrete: Discrete, values: Sequence[torch.Tensor], t: float) -> torch.Tensor:
        parts = []
        for space, value in zip(discrete.spaces, values, strict=True):
            parts.append(space.fitted(value - space.lifting(discrete.places, [""], t, self.numbers)[""]))
        return torch.cat(parts)
