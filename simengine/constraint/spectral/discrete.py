"""An equation on given functions: its residual tested with them, and the derivatives of that."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from simengine.constraint.spectral.domain import SIDES, Domain, Fixed, Flux
from simengine.constraint.spectral.expression import AXES, At, Divergence, SpectralSymbol, Value
from simengine.constraint.spectral.space import Space
from simengine.solve.least_squares.system import load_forward_mode

Key = tuple[int, str]  # field and letters of a derivative
Boundary = Fixed | Flux
Numbers = Mapping[str, Value]


class _Asked:
    """Stands for all values, and keeps which were asked for."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value
        self.keys: set[Key] = set()

    def __call__(self, key: Key) -> torch.Tensor:
        self.keys.add(key)
        return self.value


def _of(look: Callable[[Key], torch.Tensor], field: int) -> Callable[[str], torch.Tensor]:
    return lambda letters: look((field, letters))


@dataclasses.dataclass(frozen=True)
class SpectralEquation:
    """A user's equation: what is to vanish, for each field, as a function of the fields and p.

    Attributes:
        function: Of symbols and p.
        domain: Where it holds.
        fields: Names.
        boundary: What is known at sides.
    """

    function: Callable[..., Any]
    domain: Domain
    fields: tuple[str, ...]
    boundary: tuple[Boundary, ...]

    def used(self, numbers: Numbers) -> tuple[list[Key], list[Value | None]]:
        """Which derivatives of which fields the function asks for, and by what its equations multiply a divergence."""
        one = torch.full((1, 2), 0.5, dtype=torch.float64)
        seen = _Asked(one)
        places = {name: 0 * one + (a.low + a.high) / 2 for name, a in self.domain.axes.items()}
        found = self._called(seen, At(places, 0 * one, numbers))
        for _, letters in seen.keys:
            if letters != "t" and not set(letters) <= set(self.domain.axes):
                raise ValueError(f"equation: a derivative {letters!r}, in a domain of {', '.join(self.domain.axes)}")
        return sorted(seen.keys), [part.scale if isinstance(part, Divergence) else None for part in found]

    def _called(self, look: Callable[[Key], torch.Tensor], p: At) -> list[Any]:
        symbols = [SpectralSymbol(name, _of(look, i)) for i, name in enumerate(self.fields)]
        found = self.function(*symbols, p)
        parts = list(found) if isinstance(found, tuple | list) else [found]
        if len(parts) != len(self.fields):
            raise ValueError(f"equation: expected {len(self.fields)} residuals, one for each field, got {len(parts)}")
        return [part.value if isinstance(part, SpectralSymbol) else part for part in parts]


class Discrete:
    """Residual and Jacobian at stages of time, in the dual norm of the functions' energy.

    Args:
        equation: What holds.
        size: Functions along each axis.
        numbers: Of the equation; those with gradients keep them.

    Attributes:
        spaces: One for each field.
        slices: Where the coefficients of each field are.
        count: Coefficients in all.
    """

    def __init__(self, equation: SpectralEquation, size: Sequence[int], numbers: Numbers) -> None:
        load_forward_mode()
        self.equation: SpectralEquation = equation
        self.numbers = numbers
        self.used, self.scales = equation.used(numbers)
        self.evolves: bool = any(letters == "t" for _, letters in self.used)
        domain = equation.domain
        highest = max((len(letters) for _, letters in self.used if letters != "t"), default=0)
        highest = max(highest, 2 if any(scale is not None for scale in self.scales) else 0)
        self.order: int = 0 if self.evolves else (highest + 1) // 2
        points = domain.points(size)
        fixed = [
            [row for row in equation.boundary if isinstance(row, Fixed) and row.field in (None, name)]
            for name in equation.fields
        ]
        self.spaces: list[Space] = [Space(domain, rows, size, points, self.order) for rows in fixed]
        self.places: dict[str, torch.Tensor] = self.spaces[0].places
        self.weight: torch.Tensor = self.spaces[0].weight
        self.matrices: dict[tuple[int, str], torch.Tensor] = {
            (i, letters): self.spaces[i].functions(self.places, "" if letters == "t" else letters)
            for i, letters in {*self.used, *((i, "") for i in range(len(self.spaces)))}
        }
        ends = torch.tensor([0, *(self.matrices[i, ""].shape[1] for i in range(len(self.spaces)))]).cumsum(0).tolist()
        self.slices: list[slice] = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.count: int = ends[-1]
        for name, scale, space in zip(equation.fields, self.scales, self.spaces, strict=True):
            if scale is not None and domain.inside is not None and not space.held_at_curve:
                raise ValueError(
                    f"boundary: {name} is free at the curve of `inside`, and its equation holds a `div`: what flows "
                    "through a curve is not offered; add a Fixed value at the curve"
                )
        self._tests = self._made_tests()
        self._sides = [
            _Side(self, row, name, points)
            for row in equation.boundary
            if isinstance(row, Flux)
            for name in domain.sides(row.at)
        ]

    def _made_tests(self) -> list[list[torch.Tensor]]:
        """For each equation the weighted tests of its value, and, if it holds a divergence, of its flux."""
        found = []
        for i, scale in enumerate(self.scales):
            tests = [self.weight[:, None] * self.matrices[i, ""]]
            if scale is not None:
                tests += [
                    -self.weight[:, None] * self.spaces[i].functions(self.places, a) for a in self.equation.domain.axes
                ]
            found.append(tests)
        return found

    def liftings(self, t: torch.Tensor) -> dict[Key, torch.Tensor]:
        """What is added to the functions at moments t (S,); each (S or 1, q)."""
        found: dict[Key, list[torch.Tensor]] = {}
        for i, space in enumerate(self.spaces):
            letters = {"", *(a for j, a in self.used if j == i)}
            for moment in t:
                for a, value in space.lifting(self.places, letters, moment, self.numbers).items():
                    found.setdefault((i, a), []).append(value)
        return {key: torch.stack(values) for key, values in found.items()}

    def _outputs(self, values: Sequence[torch.Tensor], t: torch.Tensor) -> list[torch.Tensor]:
        """Values and fluxes of all equations at the points, each (S, q)."""
        table = dict(zip(self.used, values, strict=True))
        p = At(self.places, t[:, None], self.numbers)
        shape = (len(t), len(self.weight))
        found: list[torch.Tensor] = []
        for part in self.equation._called(table.__getitem__, p):
            pieces = [part.rest, *(part.scale * f for f in part.flux)] if isinstance(part, Divergence) else [part]
            found += [torch.as_tensor(piece, dtype=torch.float64).expand(shape) for piece in pieces]
        return found

    def _values(self, y: torch.Tensor, rate: torch.Tensor, lifted: Mapping[Key, torch.Tensor]) -> list[torch.Tensor]:
        return [
            (rate if letters == "t" else y)[:, self.slices[i]] @ self.matrices[i, letters].T + lifted[i, letters]
            for i, letters in self.used
        ]

    def residual(
        self, y: torch.Tensor, rate: torch.Tensor, t: torch.Tensor, lifted: Mapping[Key, torch.Tensor]
    ) -> torch.Tensor:
        """The tested residual (S, N) of coefficients and their rates (S, N) at moments t (S,)."""
        outputs = iter(self._outputs(self._values(y, rate, lifted), t))
        parts = [sum(next(outputs) @ test for test in tests) for tests in self._tests]
        r = torch.cat(parts, 1)  # type: ignore[arg-type]
        for side in self._sides:
            r = side.added(r, y, t)
        return r

    def linearised(
        self, y: torch.Tensor, rate: torch.Tensor, t: torch.Tensor, lifted: Mapping[Key, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of the residual by coefficients and by their rates, (S, N, N) each."""
        with torch.no_grad():
            by_y = y.new_zeros(len(y), self.count, self.count)
            by_rate = torch.zeros_like(by_y)
            values = [v.detach() for v in self._values(y, rate, lifted)]
            for k, (j, letters) in enumerate(self.used):
                slopes = _slopes(lambda v: self._outputs(v, t), values, k)
                into, column, at = by_rate if letters == "t" else by_y, self.slices[j], iter(slopes)
                matrix = self.matrices[j, letters]
                for i, tests in enumerate(self._tests):
                    for test in tests:
                        slope = next(at)
                        if bool((slope != 0).any()):
                            into[:, self.slices[i], column] += _sandwich(test, slope, matrix)
            for side in self._sides:
                side.linearise(by_y, y, t)
            return by_y, by_rate


def _slopes(
    function: Callable[[list[torch.Tensor]], list[torch.Tensor]], values: list[torch.Tensor], k: int
) -> list[torch.Tensor]:
    """Pointwise derivatives of all outputs by input k: residuals see the fields point by point."""

    def moved(v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function([*values[:k], v, *values[k + 1 :]]))

    return list(torch.func.jvp(moved, (values[k],), (torch.ones_like(values[k]),))[1])


def _sandwich(test: torch.Tensor, slope: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """test^T diag(slope) matrix for each stage (S, n, m)."""
    if bool((slope == slope[:1]).all()):
        return (test.T @ (slope[0][:, None] * matrix)).expand(len(slope), -1, -1)
    return torch.stack([test.T @ (s[:, None] * matrix) for s in slope])


class _Side:
    """What flows through a side, tested there."""

    def __init__(self, own: Discrete, row: Flux, side: str, points: Sequence[int]) -> None:
        names = own.equation.fields
        if row.field is None and len(names) > 1:
            raise ValueError(f"boundary: a Flux needs `field`, one of {', '.join(names)}")
        field = names[0] if row.field is None else row.field
        if field not in names or side not in SIDES:
            raise ValueError(
                f"boundary: a Flux of {field} at {side}; fields are {', '.join(names)}, sides {', '.join(SIDES)}"
            )
        self.own, self.row, self.i = own, row, names.index(field)
        scale = own.scales[self.i]
        if scale is None:
            raise ValueError(f"boundary: a Flux of {field} needs `div(...)` in its equation: it is the flux of that")
        self._scale = scale
        self.places, weight = own.equation.domain.side(side, points)
        seen = _Asked(torch.full((1, len(weight)), 0.5, dtype=torch.float64))
        self._call(seen, torch.zeros(1, dtype=torch.float64))
        self.used = sorted(seen.keys)
        self.matrices = {(j, a): own.spaces[j].functions(self.places, a) for j, a in self.used}
        self.test = weight[:, None] * own.spaces[self.i].functions(self.places)

    def _call(self, look: Callable[[Key], torch.Tensor], t: torch.Tensor) -> torch.Tensor:
        names = self.own.equation.fields
        symbols = [SpectralSymbol(name, _of(look, j)) for j, name in enumerate(names)]
        found = self.row.value(*symbols, At(self.places, t[:, None], self.own.numbers))
        found = self._scale * (found.value if isinstance(found, SpectralSymbol) else found)
        shape = (len(t), len(next(iter(self.places.values()))))
        return torch.as_tensor(found, dtype=torch.float64).expand(shape)

    def _values(self, y: torch.Tensor, t: torch.Tensor) -> list[torch.Tensor]:
        own, found = self.own, []
        for j, a in self.used:
            lifted = torch.stack([own.spaces[j].lifting(self.places, [a], s, own.numbers)[a] for s in t])
            found.append(y[:, own.slices[j]] @ self.matrices[j, a].T + lifted)
        return found

    def _flux(self, values: list[torch.Tensor], t: torch.Tensor) -> torch.Tensor:
        return self._call(dict(zip(self.used, values, strict=True)).__getitem__, t)

    def added(self, r: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        part = self._flux(self._values(y, t), t) @ self.test
        own = self.own.slices[self.i]
        return torch.cat([r[:, : own.start], r[:, own] + part, r[:, own.stop :]], 1)

    def linearise(self, by_y: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> None:
        values = [v.detach() for v in self._values(y, t)]
        for k, key in enumerate(self.used):
            (slope,) = _slopes(lambda v: [self._flux(v, t)], values, k)
            by_y[:, self.own.slices[self.i], self.own.slices[key[0]]] += _sandwich(self.test, slope, self.matrices[key])


__all__ = ["AXES", "Boundary", "Discrete", "Numbers", "SpectralEquation"]
