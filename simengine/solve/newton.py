"""Roots of large nonlinear systems: damped Newton with pseudo-transient continuation, batched.

Newton steps are damped by the natural monotonicity test (Deuflhard 2004, section 3.3): a step of length l is taken if
the simplified Newton correction at its end is shorter than (1 - l/4) times the step, which does not depend on how the
equations are scaled. After a whole step the factors are used again as long as each correction they give is less than
a tenth of the one before. Where no length passes, the problem becomes implicit in a pseudo-time for some steps of
growing size (Kelley & Keyes 1998) before Newton is tried again. Each problem of a batch has its own step and its own
time.
"""

import abc
from typing import Any

import torch

from simengine.solve.block_tridiagonal import BlockTridiagonalMatrix, Factors
from simengine.solve.solution import Result, Solution


class AbstractRootProblem(abc.ABC):
    """F(y) = 0 for a batch of problems with block-tridiagonal Jacobians; unknowns of shape (b, K, n).

    Attributes:
        scale: Size of a noticeable change of each unknown, broadcastable to (b, K, n).
        lower: Smallest admissible values, broadcastable likewise.
        upper: Largest admissible values.
        floor: Where steps of pseudo-time are cut off below; None for `lower`. Discrete equations can have slightly
            negative concentrations, but as a state in time these run away.
    """

    scale: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor
    floor: torch.Tensor | None = None

    @abc.abstractmethod
    def residual(self, y: torch.Tensor) -> torch.Tensor:
        """F(y), shape (b, K, n)."""

    @abc.abstractmethod
    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        """F(y) and its Jacobian."""

    def mass(self, y: torch.Tensor) -> torch.Tensor:
        """M >= 0 of M dy/dt = F(y), shape (b, K, n); 0 where an equation has no time derivative."""
        return torch.zeros_like(y)


def newton(
    problem: AbstractRootProblem,
    y: torch.Tensor,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
    time_step: float = 1e-6,
    throw: bool = False,
) -> Solution[torch.Tensor]:
    """Solve F(y) = 0.

    Args:
        problem: The equations.
        y: Start, shape (b, K, n); put inside the bounds where it is not.
        tolerance: A problem is solved when no scaled Newton correction exceeds it; that correction is still made.
        max_iterations: Jacobians per solve; each costs one factorisation.
        time_step: First pseudo-time step [the unit of the problem's M/F].
        throw: Raise instead of returning a failed solution.

    Returns:
        The roots, shape (b, K, n). `stats`: `num_iterations` and, per problem, `correction` (the last scaled Newton
        correction) and `time_steps`.

    Raises:
        SolveError: With `throw`, where a problem did not converge.
    """
    with torch.no_grad():
        solution = _iterate(problem, y, tolerance, max_iterations, time_step)
    return solution.check("Newton") if throw else solution


def _iterate(
    problem: AbstractRootProblem, y: torch.Tensor, tolerance: float, max_iterations: int, time_step: float
) -> Solution[torch.Tensor]:
    y = torch.minimum(torch.maximum(y, problem.lower), problem.upper)
    count = y.shape[0]
    slow = torch.zeros(count, dtype=torch.bool, device=y.device)  # in pseudo-time
    remaining = torch.zeros(count, dtype=torch.long, device=y.device)  # of the current stretch of pseudo-time
    stretch = torch.full((count,), 10, dtype=torch.long, device=y.device)
    dt = torch.full((count,), time_step, dtype=y.dtype, device=y.device)
    done = torch.zeros(count, dtype=torch.bool, device=y.device)
    lost = torch.zeros(count, dtype=torch.bool, device=y.device)
    time_steps = torch.zeros(count, dtype=torch.long, device=y.device)
    size = torch.full((count,), torch.inf, dtype=y.dtype, device=y.device)
    iteration = 0
    for iteration in range(1, max_iterations + 1):  # noqa: B007 - reported
        f, jacobian = problem.linearise(y)
        mass = problem.mass(y) if bool(slow.any()) else None
        if mass is not None:
            jacobian = jacobian.shifted(-torch.where(slow, 1 / dt, 0.0)[:, None, None] * mass)
        factors = jacobian.factor()
        step = -factors.solve(f)
        finite = step.flatten(1).isfinite().all(1)
        longest = _norm(problem, step)
        size = torch.where(slow, size, longest)
        solved = ~slow & finite & (longest < tolerance)
        y = torch.where((solved & ~done)[:, None, None], y + step, y)
        done = done | solved
        if bool((done | lost).all()):
            break
        length = _to_bounds(problem, y, step)
        change = torch.zeros_like(length)
        if mass is not None:  # what has no inertia may jump, the rest changes by at most its scale
            change = _norm(problem, torch.where(mass > 0, step, 0.0))
        accepted, further = _damp(problem, factors, y, step, length, longest, active=~(slow | done | lost) & finite)
        # A pseudo-time step is taken whole, or not at all where it changes too much or ends where F is not finite.
        taken = slow & finite & (change <= 1) & ~done
        whole = torch.where(taken, 1.0, accepted)
        ahead = _ahead(problem, y, torch.where(finite[:, None, None], step, 0.0), whole)
        if bool(taken.any()):
            if problem.floor is not None:
                ahead = torch.where(taken[:, None, None], torch.maximum(ahead, problem.floor), ahead)
            taken = taken & problem.residual(ahead).flatten(1).isfinite().all(1)
        y = torch.where((taken | (accepted > 0))[:, None, None], ahead, y)
        y, size, solved = _reuse(problem, factors, y, further, size, tolerance, active=accepted == 1)
        done = done | solved
        # bookkeeping of pseudo-time
        time_steps += taken.long()
        dt = torch.where(slow, torch.where(taken, dt * torch.where(change < 0.5, 1.8, 1.0), dt / 4), dt)
        remaining = torch.where(taken, remaining - 1, remaining)
        enter = ~slow & ~done & (accepted == 0)
        leave = slow & (remaining <= 0)
        remaining = torch.where(enter, stretch, remaining)
        stretch = torch.where(enter, (stretch * 3) // 2, stretch)
        slow = (slow & ~leave) | enter
        lost = lost | (slow & (dt < 1e-14))
        if bool((done | lost).all()):
            break
    if bool(done.all()):
        result = Result.SUCCESS
    elif not bool(y.isfinite().all()):
        result = Result.NONFINITE
    else:
        result = Result.STAGNATED if bool(lost.any()) else Result.MAX_ITERATIONS
    stats: dict[str, Any] = {
        "num_iterations": iteration,
        "correction": size,
        "time_steps": time_steps,
        "converged": done,
    }
    return Solution(value=y, result=result, stats=stats)


def _norm(problem: AbstractRootProblem, step: torch.Tensor) -> torch.Tensor:
    return (step / problem.scale).abs().flatten(1).amax(1)


def _to_bounds(problem: AbstractRootProblem, y: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """The longest admissible fraction of each problem's step, (b,); what is at a bound already stays there."""
    room = torch.where(step > 0, problem.upper - y, y - problem.lower)
    length = torch.where(room <= 1e-9 * problem.scale, torch.inf, room / step.abs().clamp_min(1e-300))
    return length.flatten(1).amin(1).clamp(0.0, 1.0)


def _ahead(problem: AbstractRootProblem, y: torch.Tensor, step: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Y after that fraction of a step, inside the bounds."""
    return torch.minimum(torch.maximum(y + length[:, None, None] * step, problem.lower), problem.upper)


def _damp(
    problem: AbstractRootProblem,
    factors: Factors,
    y: torch.Tensor,
    step: torch.Tensor,
    length: torch.Tensor,
    size: torch.Tensor,
    *,
    active: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first of length, length/2, ... that passes the natural monotonicity test, (b,), 0 where none does.

    And the step that the same factors give from there, of the shape of y.
    """
    accepted, further = torch.zeros_like(length), torch.zeros_like(y)
    trial = torch.where(active, length, 0.0)
    for _ in range(7):
        open_ = active & (accepted == 0) & (trial > 1e-3)
        if not bool(open_.any()):
            break
        ahead = _ahead(problem, y, torch.where(open_[:, None, None], step, 0.0), torch.where(open_, trial, 0.0))
        after = -factors.solve(problem.residual(ahead))
        shorter = _norm(problem, after)
        # Near the root rounding hides the decrease: a correction of rounding size is as good as shorter.
        passed = open_ & shorter.isfinite() & ((shorter < (1 - trial / 4) * size) | (shorter < 1e-12))
        accepted = torch.where(passed, trial, accepted)
        further = torch.where(passed[:, None, None], after, further)
        trial = trial / 2
    return accepted, further


def _reuse(
    problem: AbstractRootProblem,
    factors: Factors,
    y: torch.Tensor,
    step: torch.Tensor,
    size: torch.Tensor,
    tolerance: float,
    *,
    active: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Steps with the same factors while they shrink tenfold: y, the size of the last step and what is solved."""
    solved, one = torch.zeros_like(active), torch.ones_like(size)
    while True:
        shorter = _norm(problem, step)
        ratio = shorter / size
        active = active & (ratio < 0.1)
        if not bool(active.any()):
            return y, size, solved
        y = _ahead(problem, y, torch.where(active[:, None, None], step, 0.0), one)
        size = torch.where(active, shorter, size)
        # What is left after this step is less than ratio/(1 - ratio) times it.
        solved = solved | (active & (shorter < tolerance) & (shorter * ratio < 1e-2 * tolerance))
        active = active & ~solved
        if bool(active.any()):
            step = -factors.solve(problem.residual(y))
