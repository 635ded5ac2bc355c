"""A root of few hundred equations by Newton's method, differentiable by the implicit function theorem."""

from collections.abc import Callable

import torch

from simengine.solve.solution import Result, Solution

_SHORTEST = 1e-6  # share of a step below which no step helps


def root(
    residual: Callable[[torch.Tensor], torch.Tensor],
    jacobian: Callable[[torch.Tensor], torch.Tensor],
    y: torch.Tensor,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 50,
) -> Solution[torch.Tensor]:
    """Solve r(y) = 0, each step halved until |r| falls.

    Args:
        residual: y (n,) -> r (n,), in a norm in which its length means something.
        jacobian: y (n,) -> (n, n).
        y: Start.
        tolerance: Of the last step, relative to |y|.
        max_iterations: Jacobians.

    Returns:
        The root. Where the residual hangs on tensors with gradients the root does too, once.
    """
    with torch.no_grad():
        y, r = y.detach(), residual(y.detach())
        first, result, iteration = r.norm(), Result.MAX_ITERATIONS, 0
        for iteration in range(1, max_iterations + 1):  # noqa: B007 - told in stats
            if not bool(r.isfinite().all()):
                result = Result.NONFINITE
                break
            lu, pivots, info = torch.linalg.lu_factor_ex(jacobian(y))
            step = torch.linalg.lu_solve(lu, pivots, -r[:, None])[:, 0]
            if int(info) != 0 or not bool(step.isfinite().all()):
                result = Result.SINGULAR
                break
            share = 1.0
            while share > _SHORTEST:
                trial = residual(y + share * step)
                if float(trial.norm()) <= (1 - 0.1 * share) * float(r.norm()) or float(trial.norm()) <= 1e-13 * float(
                    first
                ):
                    break
                share /= 2
            small = bool(step.norm() <= tolerance * (y + step).norm())
            if share > _SHORTEST:
                y, r = y + share * step, trial
            if small or float(r.norm()) == 0:
                result = Result.SUCCESS
                break
            if share <= _SHORTEST:
                # rounding of the residual, or no way down
                result = Result.SUCCESS if bool(step.norm() <= 1e-6 * y.norm()) else Result.STAGNATED
                break
    stats = {"num_iterations": iteration, "residual": float(r.norm())}
    if result is Result.SUCCESS and torch.is_grad_enabled():
        r = residual(y)
        if r.requires_grad:
            y = y - torch.linalg.solve(jacobian(y), r)
    return Solution(y, result, stats)
