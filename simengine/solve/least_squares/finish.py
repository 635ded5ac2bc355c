"""What ends an iteration of least squares: Newton steps with the exact Hessian, and unknowns that a bound stops."""

from collections.abc import Sequence

import torch

from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.solvers import AbstractLeastSquaresSolver
from simengine.solve.least_squares.structures.gram import Linearisation, damping_diagonal

# A step that would change the sum of squares by less than VISIBLE^2 roundings cannot be judged by it.
VISIBLE = 32.0
_NEWTON_STEPS = 20
_DEFINITE = 1e-8  # of the largest eigenvalue: far above the rounding of second derivatives


def precision(
    solver: AbstractLeastSquaresSolver, norm: torch.Tensor, weighted: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Largest change of J y, in the norm, that a converged problem may have left, from |r| and |J y|; shape (b,)."""
    rounding = VISIBLE * torch.finfo(dtype).eps * weighted
    return (solver.tolerance * (norm + weighted)).maximum(rounding).clamp_min(solver.absolute)


def held_at_bounds(y: torch.Tensor, gradient: torch.Tensor, bounds: Sequence[torch.Tensor]) -> torch.Tensor:
    """Which unknowns lie at a bound (lower, upper) that descent would cross, bool, shape (b, n)."""
    lower, upper = bounds
    return ((y <= lower) & (gradient > 0)) | ((y >= upper) & (gradient < 0))


def without(lin: Linearisation, held: torch.Tensor) -> Linearisation:
    """A dense linearisation of the unknowns that are free; a step of it leaves the others where they are."""
    free = (~held).to(lin["gradient"])
    kept = {
        "gradient": lin["gradient"] * free,
        "diagonal": lin["diagonal"],
        "gram": free[:, :, None] * lin["gram"] * free[:, None, :] + torch.diag_embed(lin["diagonal"] * (1 - free)),
    }
    if "root" in lin:
        extra = torch.diag_embed(damping_diagonal(lin["diagonal"]).sqrt() * (1 - free))
        kept["root"] = torch.cat([lin["root"] * free[:, None, :], extra], dim=1)
    return kept


def polish(
    system: AbstractSystem, y: torch.Tensor, rough: torch.Tensor, diagonal: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Newton steps on the gradient, which still tells where the cost drowns in rounding: two digits become twelve."""
    scale = diagonal.clamp_min(torch.finfo(diagonal.dtype).tiny).rsqrt()
    gradient = system.optimality(y, system.tensors).detach()
    for _ in range(3):
        step = system.solve_hessian(y, gradient, system.tensors, gauss_newton=False).detach()
        trial = torch.where(rough[:, None] & step.isfinite(), y - step.to(y.dtype), y)
        fresh = system.optimality(trial, system.tensors).detach()
        rough = rough & ((scale * fresh).norm(dim=1) < 0.5 * (scale * gradient).norm(dim=1))
        if not bool(rough.any()):
            break
        y, gradient = torch.where(rough[:, None], trial, y), torch.where(rough[:, None], fresh, gradient)
    return y, gradient


def strict_minimum(system: AbstractSystem, y: torch.Tensor, which: torch.Tensor, lin: Linearisation) -> torch.Tensor:
    """Where the exact Hessian is positive definite, whatever the rank of J: a unique minimiser with a gradient, (p,).

    Scaled as J^T J is, with its floor: what no residual tells stays untold.
    """
    hessian = None if "root" in lin else system.hessian(y, which)
    if hessian is None:
        return torch.zeros(len(which), dtype=torch.bool, device=y.device)
    scale = damping_diagonal(lin["diagonal"]).rsqrt()
    values = torch.linalg.eigvalsh(scale[:, :, None] * hessian * scale[:, None, :])
    return values[:, 0] > _DEFINITE * values[:, -1]


def newton(
    system: AbstractSystem, y: torch.Tensor, which: torch.Tensor, solver: AbstractLeastSquaresSolver
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Newton steps for problems whose J^T J led to no end: where the residual stays large, it takes a hundred steps.

    A step counts where the Hessian is positive definite and the cost does not rise; the first that does not ends it.

    Args:
        system: The problems; one without `hessian` is left as it is.
        y: Where the problems `which` are, shape (p, n).
        which: Their numbers, shape (p,).
        solver: Its tolerances say what converged means.

    Returns:
        y (p, n), cost (p,) and whether each converged, bool (p,).
    """
    cost = system.cost(y, which)
    converged, going = torch.zeros_like(cost, dtype=torch.bool), torch.ones_like(cost, dtype=torch.bool)
    bounds = None if system.bounds is None else [side[which] for side in system.bounds]
    eps = torch.finfo(y.dtype).eps
    for _ in range(_NEWTON_STEPS):
        hessian = system.hessian(y, which)
        if hessian is None:
            break
        lin = system.linearise(y, which)
        if bounds is not None:
            held = held_at_bounds(y, lin["gradient"], bounds)
            hessian = without({**lin, "gram": hessian}, held)["gram"]
            lin = without(lin, held)
        scale = damping_diagonal(lin["diagonal"]).rsqrt()
        factor, info = torch.linalg.cholesky_ex(scale[:, :, None] * hessian * scale[:, None, :])
        g = lin["gradient"]
        step = -scale * torch.cholesky_solve((scale * g).unsqueeze(-1), factor).squeeze(-1)
        z = y.double()
        weighted = (z * system.gram.product(lin, z)).sum(dim=1).clamp_min(0).sqrt()
        decrement = (-g * step).sum(dim=1).clamp_min(0).sqrt()
        going = going & (info == 0) & step.isfinite().all(dim=1)
        converged = going & (decrement <= precision(solver, (2 * cost).sqrt(), weighted, y.dtype))
        trial = y + step.to(y.dtype)
        if bounds is not None:
            trial = trial.maximum(bounds[0]).minimum(bounds[1])
        trial_cost = system.cost(trial, which)
        going = going & (trial_cost <= cost * (1 + VISIBLE**2 * eps))
        y, cost = torch.where(going[:, None], trial, y), torch.where(going, trial_cost, cost)
        if not bool((going & ~converged).any()):
            break
    return y, cost, converged
