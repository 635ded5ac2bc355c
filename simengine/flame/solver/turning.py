"""Where a flame goes out, or a mixing layer lights: turning points of solutions over a condition, and their gradients.

The solutions, burning or not, are followed along their path, on which the condition mu (a strain, a temperature) is
one more unknown (H. B. Keller, in "Applications of Bifurcation Theory", Academic Press 1977):

    F(y, mu) = 0,    c.y + d mu = s,

with (c, d) the direction of the path at the last point. mu(s) is largest (or least) at the turning point, where dF/dy
is singular and the bordered system is not. As mu does not change with s there, its derivative in any constant theta is
that at s held: -w.F_theta/w.F_mu, with w the left null vector of dF/dy.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.solver.adaptive import onto
from simengine.flame.solver.grid import GridProblem
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver
from simengine.solve.bordered import Bordered
from simengine.solve.solution import Result, Solution, SolveError

Family = Callable[[torch.Tensor], AbstractFlame]  # a condition () -> the flame under it
STEPS = 300  # of a path
FIRST, LONGEST = 0.03, 0.3  # steps of a path: root mean square of the changes over their scales, with that of mu
SHORT = 0.06  # longest step of streams that do not burn: another path begins next to where theirs turns
FAR = 30.0  # times the first condition, where the search for ignition ends
LEAST = 0.05  # scale of a condition that begins at 0, as the share of an agent does
MOST = 8  # Newton iterations of a step
COLD = 0.2  # of the temperature's rise, left where a path ends without a turning point
ASTRAY = 4.0  # a step over what was asked: it has come to another path
FLAT = 1e-6  # share of the condition in the direction of a path at its turning point: what gradients err by
TRACE, BARELY = 1e-14, 1e-2  # mass fraction that may be below 0 by rounding; share of the largest, by coarse grids
SHARES = tuple(3.0**-k for k in range(6, -1, -1))  # of a step, by which a turning point is sought nearby


@dataclasses.dataclass(frozen=True)
class TurningPoint:
    """A flame that is just not yet extinguished, or two streams that just do not yet ignite.

    Attributes:
        value: The condition there.
        solution: The flame there.
        null: Left null vector w of dF/dy, of the shape of the state.
        along: How far a flame near it has gone along the path, as a functional of the shape of the state.
        path: The condition and the largest temperature [K] of the flames on the way, (k, 2).
    """

    value: float
    solution: FlameSolution
    null: torch.Tensor
    along: torch.Tensor
    path: torch.Tensor

    def derivative(
        self, family: Callable[[torch.Tensor, torch.Tensor], AbstractFlame], theta: torch.Tensor
    ) -> torch.Tensor:
        """Of the condition at the turning point in the constants theta (p,); (p,).

        Args:
            family: Condition () and constants (p,) -> the flame.
            theta: The constants.
        """
        with torch.enable_grad():
            mu = torch.tensor(self.value, dtype=torch.float64, requires_grad=True)
            own = theta.detach().clone().requires_grad_()
            product = (self.null * under(self.problem, family(mu, own)).residual(self.solution.state)).sum()
            by_mu, by_theta = torch.autograd.grad(product, (mu, own))
        return -by_theta / by_mu

    @property
    def problem(self) -> GridProblem:
        """Its discretisation."""
        assert isinstance(self.solution.problem, GridProblem)
        return self.solution.problem


@dataclasses.dataclass(frozen=True)
class PathPoint:
    """A flame of the path.

    Attributes:
        problem: Its discretisation, of the flame under the condition.
        state: The flame.
        value: The condition mu.
        ahead: d state/ds.
        rate: d mu/ds.
        bordered: The system there.
        iterations: That it took.
    """

    problem: GridProblem
    state: torch.Tensor
    value: float
    ahead: torch.Tensor
    rate: float
    bordered: Bordered
    iterations: int

    @property
    def T(self) -> float:
        """The largest temperature [K]."""
        return float(self.state[..., self.problem.flame.fields.index("T")].max())

    @property
    def side(self) -> float:
        """Sign of the bordered determinant, which no path changes."""
        return float(self.bordered.factors.sign[0]) * math.copysign(1.0, self.rate)

    @property
    def below_nothing(self) -> bool:
        """Whether there is less than none of a species, as on a path behind the turning point of chains that branch."""
        species = self.state[..., self.problem.flame.fields.index("T") + 1 : -1].flatten(0, 1)
        least, most = species.amin(0), species.amax(0)
        return bool((least < -(TRACE + BARELY * most)).any())

    def apart(self, other: "PathPoint") -> float:
        """How far another flame on the same points lies from this one, as a step of a path."""
        far = ((self.state - other.state) / self.problem.scale).square().mean()
        return float((far + ((self.value - other.value) / max(abs(other.value), LEAST)) ** 2) ** 0.5)

    def along(self) -> tuple[torch.Tensor, float]:
        """The direction of the path as a functional (c, d): of a step along the path it is the length."""
        weight = torch.ones_like(self.state) / self.problem.scale**2 / self.state.numel()
        size = max(abs(self.value), LEAST)
        length = float((weight * self.ahead**2).sum() + (self.rate / size) ** 2) ** 0.5
        return weight * self.ahead / length, self.rate / size**2 / length


def extinction(
    start: FlameSolution, family: Family, value: float, solver: GridSolver, *, tolerance: float = 1e-7
) -> TurningPoint:
    """The turning point of the burning flames over a condition, above the one to start from or else below.

    Args:
        start: A burning flame, one condition, on a grid.
        family: Condition () -> the flame under it.
        value: The condition of `start`.
        solver: Its criteria adapt the grid on the way.
        tolerance: Of Newton's corrections, over the scales of the fields, and of the turning point, relative.

    Raises:
        SolveError: The path ends before it turns back.
    """
    problem = start.problem
    if not isinstance(problem, GridProblem) or start.state.shape[0] != 1:
        raise ValueError("start: a turning point is sought from one flame on a grid; solve it with GridSolver")
    reasons = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            zero = torch.zeros_like(start.state)
            point = corrected(problem, start.state.detach(), value, zero, sign, 0.0, family, tolerance)
            if point is None:
                raise lost("the flame to start from is no solution under this condition", start)
            lowest = float(point.state[..., point.problem.flame.fields.index("T")].min())
            cold = lowest + COLD * (point.T - lowest)
            found = followed(point, family, solver, tolerance, lambda at, cold=cold: cold > at.T, lit=True)  # type: ignore[misc]
            if isinstance(found, TurningPoint):
                return found
            reasons.append(f"the path of burning flames {found}")
    raise lost("; ".join(reasons), start)


def followed(
    point: PathPoint,
    family: Family,
    solver: GridSolver,
    tolerance: float,
    ended: Callable[[PathPoint], bool],
    *,
    lit: bool,
) -> TurningPoint | str:
    """The turning point of a path, or how the path ends without one."""
    # on the way the root of the tolerance will do for flames, not for radicals of which there are hardly any
    longest, crude = (LONGEST, tolerance**0.5) if lit else (SHORT, tolerance)
    step, path, begun = FIRST, [(point.value, point.T)], point.value
    for _ in range(STEPS):
        ahead = _moved(point, step, family, crude, positive=not lit)
        if ahead is None:
            step /= 3
            if step < 1e-4 * FIRST:
                break
            continue
        path.append((ahead.value, ahead.T))
        if ahead.rate * point.rate < 0:
            point = _turned(point, ahead, step, family, solver, tolerance)
            return _told(point, path)
        far = not lit and begun != 0 and not 1 / FAR < ahead.value / begun < FAR
        if far or ended(ahead):
            break
        step = min(step * (1.6 if ahead.iterations <= 4 else 1.0), longest)
        fresh = _on_new_grid(ahead, family, solver, crude)
        point = ahead if not lit and fresh.below_nothing else fresh
    return f"from {begun:.6g} ends at {path[-1][0]:.6g} without turning back"


def _told(point: PathPoint, path: Sequence[tuple[float, float]]) -> TurningPoint:
    """A turning point with its null vector."""
    null, _ = point.bordered.solve_transposed(torch.zeros_like(point.state), 1.0)
    solution = FlameSolution(point.problem.flame, point.problem, point.state)
    way = torch.tensor([*path, (point.value, point.T)], dtype=torch.float64)
    return TurningPoint(point.value, solution, null, point.along()[0], way)


def lost(reason: str, start: FlameSolution) -> SolveError:
    """Why there is no turning point."""
    return SolveError(f"no turning point: {reason}", Solution(start, Result.STAGNATED, {"obstacle": reason}))


def under(problem: GridProblem, flame: AbstractFlame) -> GridProblem:
    """The problem with another flame, its scales and bounds as they are."""
    other = copy.copy(problem)
    for known in ("_conditions", "_sides"):
        other.__dict__.pop(known, None)
    other.flame = flame
    return other


def corrected(
    problem: GridProblem,
    state: torch.Tensor,
    value: float,
    row: torch.Tensor,
    corner: float,
    further: float,
    family: Family,
    tolerance: float,
) -> PathPoint | None:
    """Newton on F = 0 and row.y + corner mu = `further` more than it is; None where it does not converge."""
    left, last = further, torch.inf
    for iteration in range(1, MOST + 1):
        here = under(problem, family(torch.tensor(value, dtype=torch.float64)))
        f, jacobian = here.linearise(state)
        change = 1e-6 * max(abs(value), LEAST)
        ends = [family(torch.tensor(value + s * change, dtype=torch.float64)) for s in (-1, 1)]
        before, behind = (under(problem, flame).residual(state) for flame in ends)
        bordered = Bordered(jacobian.factor(), (behind - before) / (2 * change), row, corner)
        step, more = bordered.solve(-f, left)
        left = 0.0
        size = max(float((step / problem.scale).abs().max()), abs(more) / max(abs(value), LEAST))
        frozen = bool((state + step)[..., problem.flame.fields.index("T")].min() <= 0)  # no gas has such rates
        if not size < 4 * last or size > 3 or frozen:  # NaN too
            return None
        state, value, last = state + step, value + more, size
        if size < tolerance:
            ahead, rate = bordered.solve(torch.zeros_like(state), 1.0)
            return PathPoint(here, state, value, ahead, rate, bordered, iteration)
    return None


def _moved(
    point: PathPoint, step: float, family: Family, tolerance: float, *, positive: bool = False
) -> PathPoint | None:
    """The flame that lies `step` further on the path; None where it lies elsewhere."""
    ahead = corrected(point.problem, point.state, point.value, *point.along(), step, family, tolerance)
    if ahead is None or ahead.apart(point) > ASTRAY * abs(step) or ahead.side != point.side:
        return None
    return None if positive and ahead.below_nothing else ahead


def _on_new_grid(point: PathPoint, family: Family, solver: GridSolver, tolerance: float) -> PathPoint:
    """The flame on a grid that suits it; as it is where it suits, or where the flame is not found there."""
    problem = solver.adapted(point.problem, point.state)[0]
    if not isinstance(problem, GridProblem):
        return point
    row, corner = point.along()
    _, row = onto(problem, point.problem, row)
    fine, state = onto(problem, point.problem, point.state)
    assert isinstance(fine, GridProblem)
    return corrected(fine, state, point.value, row, corner, 0.0, family, tolerance) or point


def _turned(
    before: PathPoint, behind: PathPoint, step: float, family: Family, solver: GridSolver, tolerance: float
) -> PathPoint:
    """The turning point between two flames, on a grid that suits it."""
    return _on_its_grid(_least_rate(before, behind, step, family, tolerance), step, family, solver, tolerance)


def _on_its_grid(best: PathPoint, step: float, family: Family, solver: GridSolver, tolerance: float) -> PathPoint:
    """A turning point on a grid that suits it."""
    for _ in range(4):
        fresh = _on_new_grid(best, family, solver, tolerance)
        if fresh is best:
            break
        best = at_turning(fresh, step, family, tolerance) or best
    return best


def at_turning(point: PathPoint, step: float, family: Family, tolerance: float) -> PathPoint | None:
    """The turning point near a flame of the path, on its grid; None where the path does not turn within a step."""
    for sign in (1.0, -1.0):
        for share in SHARES:  # the shortest that reaches beyond it: Newton bears little there
            ahead = _moved(point, sign * share * step, family, tolerance)
            if ahead is None:
                break
            if ahead.rate * point.rate < 0:
                return _least_rate(point, ahead, sign * share * step, family, tolerance)
    return None


def turning_near(
    found: TurningPoint, family: Family, solver: GridSolver, *, tolerance: float = 1e-7
) -> TurningPoint | None:
    """The turning point of other flames near one that is known, its grid adapted; None where it is lost.

    Args:
        found: A turning point.
        family: Condition () -> the flame under it, of somewhat other constants.
        solver: Its criteria adapt the grid.
        tolerance: As of `extinction`.
    """
    with torch.no_grad():
        near = _near(found, family, tolerance)
        turned = None if near is None else at_turning(near, LONGEST, family, tolerance)
        return None if turned is None else _told(_on_its_grid(turned, LONGEST, family, solver, tolerance), ())


def _near(found: TurningPoint, family: Family, tolerance: float) -> PathPoint | None:
    return corrected(found.problem, found.solution.state, found.value, found.along, 0.0, 0.0, family, tolerance)


def again(found: TurningPoint, family: Family, *, tolerance: float = 1e-9) -> float | None:
    """The condition at the turning point of another family near this one, on the same grid; None where it is lost.

    Args:
        found: A turning point.
        family: Condition () -> the flame under it, of slightly other constants.
        tolerance: As of `extinction`.
    """
    with torch.no_grad():
        near = _near(found, family, tolerance)
        turned = None if near is None else at_turning(near, LONGEST, family, tolerance)
    return None if turned is None else turned.value


def _least_rate(point: PathPoint, ahead: PathPoint, step: float, family: Family, tolerance: float) -> PathPoint:
    """Where d mu/ds vanishes between two flames, by regula falsi with halved weights (Illinois)."""
    row, corner = point.along()
    low, high, at = (0.0, _rate(point, row, corner)), (step, ahead.rate), ahead
    for _ in range(30):
        share = low[0] - low[1] * (high[0] - low[0]) / (high[1] - low[1])
        middle = corrected(point.problem, point.state, point.value, row, corner, share, family, tolerance)
        if middle is None:
            break
        at = middle
        if abs(middle.along()[1]) * max(abs(middle.value), LEAST) < FLAT:
            break
        if middle.rate * high[1] < 0:
            low = high
        else:
            low = (low[0], low[1] / 2)
        high = (share, middle.rate)
    return at


def _rate(point: PathPoint, row: torch.Tensor, corner: float) -> float:
    """D mu/ds where s is told by another functional."""
    return point.rate / (float((row * point.ahead).sum()) + corner * point.rate)
