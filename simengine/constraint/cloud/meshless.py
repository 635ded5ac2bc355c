"""Equations of one's own on scattered points: solved at once, or marched through time."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from scipy.sparse import csr_array

from simengine.constraint.cloud.collocation import Collocation
from simengine.constraint.cloud.points import PointSet
from simengine.constraint.spectral.domain import Fixed, Flux
from simengine.constraint.spectral.expression import At, Value
from simengine.solve.solution import Result, Solution, SolveError
from simengine.solve.sparse_lu import SparseFactors

RICHER = 2  # degrees more of the answer that tells the error
_GAMMA = 1 - math.sqrt(0.5)  # of the march: Alexander's L-stable scheme of second order (1977)
_ITERATIONS = 30
Start = float | Callable[[Any], torch.Tensor] | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PointField:
    """Fields at scattered points.

    Attributes:
        collocation: The points and what held there.
        values: (fields, N + G), or at all steps (steps + 1, fields, N + G): those beyond the sides are the last ones.
        times: Of the steps; None for an equation without time [s].
        result: How the solve ended.
        finer: The same by stencils of a higher degree, from which the error is told; None without.
    """

    collocation: Collocation
    values: torch.Tensor
    times: torch.Tensor | None
    result: Result
    finer: "PointField | None" = None

    def __repr__(self) -> str:
        own = self.collocation
        told = "" if self.finer is None else f", error {self.error():.2g}"
        return f"PointField({self.result.name}, {', '.join(own.fields)} at {len(own.cloud)} points{told})"

    def at(self, field: str, t: float | None = None) -> torch.Tensor:
        """A field at the points, (N,); of the end of the run if no moment is given, linear between steps.

        Raises:
            ValueError: The field is unknown, or the moment lies outside the run.
        """
        fields = self.collocation.fields
        if field not in fields:
            raise ValueError(f"{field!r} is no field; known: {', '.join(fields)}")
        return self._seen(field, t)[..., : len(self.collocation.cloud)]

    def _seen(self, field: str, t: float | None) -> torch.Tensor:
        i = self.collocation.fields.index(field)
        if self.times is None:
            return self.values[i]
        last = float(self.times[-1])
        moment = last if t is None else float(t)
        if not -1e-9 * last <= moment <= last * (1 + 1e-9):
            raise ValueError(f"t: the run goes from 0 to {last:g}, and {moment:g} is asked for")
        place = moment / last * (len(self.times) - 1)
        k = min(max(int(place), 0), len(self.times) - 2)
        return self.values[k, i] + (place - k) * (self.values[k + 1, i] - self.values[k, i])

    def __call__(self, field: str, /, t: float | None = None, **places: Any) -> torch.Tensor:
        """A field at places x, y, ... between the points, of any one shape."""
        cloud = self.collocation.cloud
        if set(places) != set(cloud.axes):
            raise ValueError(f"places: expected {', '.join(cloud.axes)}, got {', '.join(places) or 'none'}")
        tensors = torch.broadcast_tensors(*(torch.as_tensor(places[a], dtype=torch.float64) for a in cloud.axes))
        where = torch.stack([x.flatten() for x in tensors], 1)
        self.at(field, t)
        own = self.collocation
        return own.seen.sampled(self._seen(field, t), where, own.degree).reshape(tensors[0].shape)

    def error(self, field: str | None = None, t: float | None = None) -> float:
        """Estimate of the relative error in the mean square over the points, by stencils of a higher degree.

        Raises:
            ValueError: The solve was told to leave the estimate out.
        """
        if self.finer is None:
            raise ValueError("error: solved with estimate=False; leave that out")
        name = self.collocation.fields[0] if field is None else field
        with torch.no_grad():
            own, theirs = self.at(name, t), self.finer.at(name, t)
        return float((own - theirs).norm() / theirs.norm().clamp_min(1e-300))

    def check(self) -> "PointField":
        """This answer if its solve succeeded.

        Raises:
            SolveError: It did not.
        """
        if self.result is not Result.SUCCESS:
            what = f"equation: {self.result.name}: {self.result.remedy}"
            raise SolveError(what, Solution(self.values, self.result, {}))
        return self


class Meshless:
    """An equation at scattered points, by weights that reproduce polynomials among the nearest ones.

        plate = PointSet(points, sides={"rim": on_the_rim})
        problem = Meshless(lambda u, p: -div(p.k * u.x, p.k * u.y) - 1, plate, boundary=[Fixed(0)], numbers={"k": 2.0})
        found = problem.solve()
        found("u", x=0.5, y=0.5), found.error()

    Args:
        equation: As of `spectral.Spectral`: fields and p in, what is to vanish out. Second derivatives at most; the
            coefficients within a `div` are smooth.
        cloud: The points.
        fields: Names, in the order of the arguments.
        boundary: `Fixed` values and `Flux`es at sides of the points; a side of a `div` without a row is closed.
        numbers: Of the equation by name: numbers, or tensors with a value at each point; they keep their gradients.
    """

    def __init__(
        self,
        equation: Callable[..., Any],
        cloud: PointSet,
        *,
        fields: Sequence[str] = ("u",),
        boundary: Sequence[Fixed | Flux] = (),
        numbers: Mapping[str, Value] | None = None,
    ) -> None:
        self._given = {"fields": tuple(fields), "boundary": tuple(boundary), "numbers": dict(numbers or {})}
        self._equation = equation
        self.cloud: PointSet = cloud

    def _at(self, degree: int) -> Collocation:
        return Collocation(self._equation, self.cloud, degree=degree, **self._given)  # type: ignore[arg-type]

    def solve(
        self, *, degree: int = 4, start: Start = 0.0, estimate: bool = True, tolerance: float = 1e-10
    ) -> PointField:
        """The fields of an equation without time, by Newton's method.

        Args:
            degree: Of the polynomials that stencils reproduce: errors fall about as h^degree.
            start: Fields to start from: numbers or functions of p; a table where there are several fields.
            estimate: Solve again with `RICHER` degrees more to tell the error.
            tolerance: Of the last step, relative to the fields.

        Returns:
            The fields; gradients flow to the numbers that ask for them, once.
        """
        own = self._at(degree)
        if own.evolves:
            raise ValueError("equation: it holds a rate, u.t; use march")
        found = self._solved(own, _started(own, start), tolerance)
        if estimate:
            with torch.no_grad():
                found = dataclasses.replace(
                    found, finer=self._solved(self._at(degree + RICHER), found.values, tolerance)
                )
        return found

    def _solved(self, own: Collocation, u: torch.Tensor, tolerance: float) -> PointField:
        still = torch.zeros_like(u)
        u, result = _newton(
            lambda u: own.residual(u, still, 0.0), lambda u: own.linearised(u, still, 0.0)[0], u, tolerance
        )
        return PointField(own, u, None, result)

    def march(
        self,
        initial: Start,
        duration: float,
        steps: int,
        *,
        degree: int = 4,
        estimate: bool = True,
        tolerance: float = 1e-9,
    ) -> PointField:
        """The fields of an equation with rates, in equal steps of an L-stable scheme of second order.

        Args:
            initial: Fields at t = 0: numbers or functions of p; a table where there are several fields.
            duration: Of the run [s].
            steps: In time.
            degree: Of the polynomials that stencils reproduce.
            estimate: March again with `RICHER` degrees and twice the steps to tell the error.
            tolerance: Of the last step of Newton, relative to the fields.
        """
        found = self._marched(self._at(degree), initial, duration, steps, tolerance)
        if estimate:
            with torch.no_grad():
                finer = self._marched(self._at(degree + RICHER), initial, duration, 2 * steps, tolerance)
            found = dataclasses.replace(found, finer=finer)
        return found

    def _marched(self, own: Collocation, initial: Start, duration: float, steps: int, tolerance: float) -> PointField:
        if not own.evolves:
            raise ValueError("equation: it holds no rate, u.t; use solve")
        if not duration > 0 or steps < 1:
            raise ValueError(f"march: expected duration > 0 and steps >= 1, got {duration} and {steps}")
        dt, u = duration / steps, _started(own, initial)
        h, found, result, kept = _GAMMA * dt, [u], Result.SUCCESS, _Kept()

        def stage(base: torch.Tensor, guess: torch.Tensor, t: float) -> tuple[torch.Tensor, Result]:
            def matrix(v: torch.Tensor) -> csr_array:
                by_u, by_rate = own.linearised(v, (v - base.detach()) / h, t)
                return by_u + by_rate / h

            return _newton(lambda v: own.residual(v, (v - base) / h, t), matrix, guess.detach(), tolerance, kept)

        for k in range(steps):
            first, result = stage(u, u, (k + _GAMMA) * dt)
            if result is Result.SUCCESS:
                rate = (first - u) / h
                u, result = stage(u + (1 - _GAMMA) * dt * rate, first, (k + 1) * dt)
            if result is not Result.SUCCESS:
                break
            found.append(u)
        missing = [found[-1]] * (steps + 1 - len(found))
        times = torch.linspace(0.0, duration, steps + 1, dtype=torch.float64)
        return PointField(own, torch.stack([*found, *missing]), times, result)


def _started(own: Collocation, start: Start) -> torch.Tensor:
    fields = own.fields
    table = start if isinstance(start, Mapping) else dict.fromkeys(fields[:1], start)
    if set(table) != set(fields) and not (start == 0.0 and not isinstance(start, Mapping)):
        raise ValueError(f"start: expected a table of the fields {', '.join(fields)}")
    p = At(own.seen.places, 0.0, own.numbers)
    found = []
    for name in fields:
        value = table.get(name, 0.0)
        value = torch.as_tensor(value(p) if callable(value) else value, dtype=torch.float64)
        found.append(value.expand(len(own.seen)))
    return torch.stack(found)


@dataclasses.dataclass
class _Kept:
    """Factors of a Jacobian that serve as long as they divide the steps by ten."""

    factors: SparseFactors | None = None


def _newton(
    residual: Callable[[torch.Tensor], torch.Tensor],
    matrix: Callable[[torch.Tensor], csr_array],
    u: torch.Tensor,
    tolerance: float,
    kept: _Kept | None = None,
) -> tuple[torch.Tensor, Result]:
    """A root of as many equations as unknowns (F, N), differentiable once where the residual is."""
    kept, before = kept or _Kept(), math.inf
    with torch.no_grad():
        u = u.detach()
        for _ in range(_ITERATIONS):
            r = residual(u)
            if not bool(r.isfinite().all()):
                return u, Result.NONFINITE
            try:
                if kept.factors is None:
                    kept.factors = SparseFactors(matrix(u))
                step = kept.factors.solve(r)
            except ArithmeticError:
                return u, Result.SINGULAR
            if not bool(step.isfinite().all()):
                return u, Result.SINGULAR
            u, size = u - step, float(step.norm())
            if size <= tolerance * float(u.norm()) + 1e-300:
                break
            if size > 0.1 * before:
                kept.factors = None
            before = size
        else:
            return u, Result.MAX_ITERATIONS
    if torch.is_grad_enabled():
        r = residual(u)
        if r.requires_grad:
            u = u - SparseFactors(matrix(u)).applied(r)
    return u, Result.SUCCESS
