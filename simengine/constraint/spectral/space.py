"""The functions that a field is made of: products along the axes, times what vanishes where the field is known."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from simengine.constraint.spectral.domain import SIDES, Domain, Fixed, Function, Places, derivatives, subsets
from simengine.constraint.spectral.expression import AXES, At, Value

_DEPENDENT = 1e-13  # of the largest eigenvalue: functions that rounding cannot tell from others are left out


class Space:
    """Functions of one field, orthonormal in the energy of the equation, and the lifting of what is known.

    Args:
        domain: Where.
        fixed: What is known of the field.
        size: Functions along each axis.
        points: Quadrature points along each axis.
        order: Derivatives in the inner product: 1 for an equation of second order, 0 for the square alone.

    Attributes:
        size: As given.
        places: Quadrature points, name -> (q,).
        weight: Their weights (q,).
        held_at_curve: Whether the field is known at the curve of the domain.
    """

    def __init__(
        self, domain: Domain, fixed: Sequence[Fixed], size: Sequence[int], points: Sequence[int], order: int
    ) -> None:
        self.domain: Domain = domain
        self.size: tuple[int, ...] = tuple(size)
        self.order: int = order
        self._rows = [(row.value, domain.sides(row.at)) for row in fixed]
        sides = list(itertools.chain.from_iterable(own for _, own in self._rows))
        for name in sides:
            if sides.count(name) > 1:
                raise ValueError(f"boundary: two values are known at {name}; leave one out")
        self._zero = [(f"{axis}0" in self._ends(sides), f"{axis}1" in self._ends(sides)) for axis in AXES]
        self._curve = domain.inside if "curve" in sides else None
        self.held_at_curve: bool = self._curve is not None
        self.places, self.weight = domain.quadrature(points)

    @staticmethod
    def _ends(sides: Iterable[str]) -> set[str]:
        return {f"{AXES[SIDES[s][0]]}{SIDES[s][1]}" for s in sides if s != "curve"}

    @cached_property
    def _mix(self) -> torch.Tensor:
        """Raw functions -> orthonormal ones, (n raw, n)."""
        gram = None
        for letters in {
            "",
            *("".join(c) for c in itertools.combinations_with_replacement(self.domain.axes, self.order)),
        }:
            raw = self._raw(self.places, letters)
            own = raw.T @ (self.weight[:, None] * raw)
            gram = own if gram is None else gram + own
        assert gram is not None
        scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()
        values, vectors = torch.linalg.eigh(scale[:, None] * gram * scale)
        held = values > _DEPENDENT * values[-1]
        return scale[:, None] * vectors[:, held] * values[held].rsqrt()

    def _raw(self, places: Places, letters: str) -> torch.Tensor:
        if self._curve is None:
            return self._enriched(places, letters)
        # the curve's function has no kinks at the points; the product rule does the rest
        return _times(self._curve, places, letters, lambda own: self._enriched(places, own))

    def _enriched(self, places: Places, letters: str) -> torch.Tensor:
        few = [math.ceil(n / 2) for n in self.size]
        parts = [self._products(places, letters, self.size)]
        for function in self.domain.enrichments:
            parts.append(_times(function, places, letters, lambda own: self._products(places, own, few)))
        return torch.cat(parts, 1)

    def _products(self, places: Places, letters: str, size: Sequence[int]) -> torch.Tensor:
        found = None
        for k, (name, axis) in enumerate(self.domain.axes.items()):
            x, back = torch.unique(places[name], return_inverse=True)
            along = axis.values(x, size[k], letters.count(name), self._zero[k])[back]
            found = along if found is None else (found[:, :, None] * along[:, None, :]).flatten(1)
        assert found is not None
        return found

    def functions(self, places: Places, letters: str = "") -> torch.Tensor:
        """A derivative of the functions at places (q,), shape (q, n)."""
        return self._raw(places, letters) @ self._mix

    def lifting(
        self, places: Places, letters: Iterable[str], t: Value, numbers: Mapping[str, Value]
    ) -> dict[str, torch.Tensor]:
        """Derivatives of what is added to the functions, (q,) each: it has the known values."""
        return derivatives(self._lift, places, letters, t, numbers)

    @cached_property
    def _lift(self) -> float | Function:
        values = [value for value, _ in self._rows]
        if all(not callable(v) for v in values) and len(set(values)) <= 1:
            return float(values[0]) if values else 0.0  # type: ignore[arg-type]
        if len(values) == 1:
            return values[0]
        distances = [self.domain.distance(sides) for _, sides in self._rows]

        def blended(p: At) -> torch.Tensor:
            """Each value, weighted by the distance to where the others hold (Rvachev's transfinite interpolation)."""
            total: Any = 0.0
            share: Any = 0.0
            for k, value in enumerate(values):
                weight: Any = 1.0
                for j, distance in enumerate(distances):
                    weight = weight * distance(p) if j != k else weight  # type: ignore[misc]
                total = total + weight * (value(p) if callable(value) else value)
                share = share + weight
            return total / share

        return blended

    def fitted(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients of the field nearest to values at the quadrature points (q,), shape (n,)."""
        root = self.weight.sqrt()[:, None]
        own = root * self.functions(self.places)
        return torch.linalg.lstsq(own, root * values[:, None], driver="gelsd").solution[:, 0]


def _times(function: Function, places: Places, letters: str, others: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """A derivative of a function of p times others, (q, n), by the product rule."""
    pairs = subsets(letters)
    own = derivatives(function, places, {a for a, _ in pairs})
    total = own[pairs[0][0]][:, None] * others(pairs[0][1])
    for a, b in pairs[1:]:
        total = total + own[a][:, None] * others(b)
    return total
