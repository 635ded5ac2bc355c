"""The iteration of batched nonlinear least squares: a damping, a stop and a status per problem.

Sources: Nocedal & Wright, Numerical Optimization, chapter 10; the relative offset criterion of Bates & Watts (1981).
"""

import abc
import dataclasses

import torch

from simengine.solve.adjoint import AbstractAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.solution import Result, Solution
from simengine.solve.system import AbstractSystem, ResidualError

_ACTIVE = -1
_LARGEST_DAMPING = 1e12
_SMALLEST_DAMPING = 1e-15
# A step that would change the sum of squares by less than _VISIBLE^2 roundings cannot be judged by it.
_VISIBLE = 32.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractLeastSquaresSolver(abc.ABC):
    """How steps are chosen.

    Attributes:
        tolerance: A problem has converged when the undamped step would change J y, in the norm, by less than this
            fraction of |r| + |J y|, or where the sum of squares cannot tell any more
            and Newton steps on the gradient have done the rest.
        max_iterations: Trials per problem.
    """

    tolerance: float = 1e-10
    max_iterations: int = 100

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.max_iterations < 1:
            raise ValueError(
                f"expected tolerance > 0 and max_iterations >= 1, got {self.tolerance} and {self.max_iterations}"
            )

    @property
    @abc.abstractmethod
    def initial_damping(self) -> float:
        """Damping of the first step, relative to diag(J^T J)."""

    @abc.abstractmethod
    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Which trials to take; `gain` (b,) is the actual over the predicted reduction, NaN where not finite."""

    def failed(self, well: torch.Tensor) -> torch.Tensor:
        """Which problems end because their trial was not `well` (b,): none, where damping can still help."""
        return torch.zeros_like(well)

    @abc.abstractmethod
    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Damping and growth factor after a trial of that gain."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(AbstractLeastSquaresSolver):
    """Damped by the gain ratio (Nielsen 1999), in the units of each unknown (Marquardt's scaling).

    Attributes:
        damping: The first one, relative to diag(J^T J).
    """

    damping: float = 1e-3

    @property
    def initial_damping(self) -> float:
        """The option `damping`."""
        return self.damping

    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Trials that lower the sum of squares."""
        return gain > 1e-4

    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A good step divides the damping by up to 10; a bad one multiplies it by 2, 4, 8, ..."""
        taken = self.accept(gain)
        factor = torch.where(taken, (1 - (2 * gain - 1) ** 3).clamp(0.1, 4.0), growth)
        return (damping * factor).clamp_min(_SMALLEST_DAMPING), torch.where(taken, 2.0, 2 * growth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussNewton(AbstractLeastSquaresSolver):
    """Full undamped steps: one step for a linear residual, quadratic convergence near a small residual.

    May diverge from a far start, and needs a Jacobian of full rank; where in doubt use `LevenbergMarquardt`.
    """

    @property
    def initial_damping(self) -> float:
        """None."""
        return 0.0

    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Every finite trial."""
        return gain.isfinite()

    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """No damping."""
        return damping, growth

    def failed(self, well: torch.Tensor) -> torch.Tensor:
        """Whichever are not well."""
        return ~well


def solve_system(
    system: AbstractSystem,
    y0: torch.Tensor,
    *,
    solver: AbstractLeastSquaresSolver | None = None,
    adjoint: AbstractAdjoint | None = None,
    throw: bool = False,
) -> Solution[torch.Tensor]:
    """Like `least_squares`, for a system that computes its own costs and normal matrices.

    Args:
        system: The problems.
        y0: Starts, shape (b, n).
        solver: See `least_squares`.
        adjoint: See `least_squares`.
        throw: See `least_squares`.
    """
    solver = LevenbergMarquardt() if solver is None else solver
    adjoint = ImplicitAdjoint() if adjoint is None else adjoint
    start = y0 if isinstance(adjoint, UnrolledAdjoint) else y0.detach()
    y, status, stats = adjoint.run(lambda: iterate(system, start, solver), system)
    return checked(Solution(y, Result(int(status.max())), {"status": status, **stats}), throw)


def checked(solution: Solution[torch.Tensor], throw: bool) -> Solution[torch.Tensor]:
    """The solution of a batch; with `throw`, only if every problem converged.

    Raises:
        SolveError: With `throw`; names the problems and their iterations.
    """
    if throw and not solution.success:
        status, iterations = solution.stats["status"], solution.stats["num_iterations"]
        failed = status.nonzero().flatten().tolist()
        after = [int(iterations[k]) for k in failed[:8]]
        solution.check(f"least_squares, problems {failed[:8]} of {len(status)} after {after} iterations")
    return solution


def iterate(
    system: AbstractSystem, y: torch.Tensor, solver: AbstractLeastSquaresSolver
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Solution (b, n), status (b,) and stats of every problem, from the starts y (b, n)."""
    batch, device, eps = len(y), y.device, torch.finfo(y.dtype).eps
    everyone = torch.arange(batch, device=device)
    status = torch.full((batch,), _ACTIVE, device=device)
    iterations = torch.zeros(batch, dtype=torch.long, device=device)
    damping = torch.full((batch,), solver.initial_damping, dtype=torch.float64, device=device)
    growth, rough = torch.full_like(damping, 2.0), torch.zeros_like(status, dtype=torch.bool)
    iteration = 0
    try:
        cost, lin = system.cost(y, everyone), system.linearise(y, everyone)
        status[~_finite(cost, lin)] = Result.NONFINITE
        for iteration in range(1, solver.max_iterations + 1):
            which = (status == _ACTIVE).nonzero().flatten()
            if len(which) == 0:
                break
            here = {name: value[which] for name, value in lin.items()}
            g, d, c = here["gradient"], here["diagonal"], cost[which]
            step = system.gram.solve(here, damping[which], -g)
            solvable = step.isfinite().all(dim=1)
            # reduction of the linear model: 1/2 step . (damping D step - g)
            predicted = 0.5 * (step * (damping[which, None] * d * step - g)).sum(dim=1)
            norm = (2 * c).sqrt()
            z = y[which].double()
            weighted = (z * system.gram.product(here, z)).sum(dim=1).clamp_min(0).sqrt()  # |J y|
            precise = (solver.tolerance * (norm + weighted)).maximum(_VISIBLE * eps * weighted)
            limit = precise.maximum(_VISIBLE * eps**0.5 * norm)
            near = (2 * predicted).clamp_min(0).sqrt() <= limit
            if bool(near.any()):  # the damping may have made the step small: the undamped one decides
                undamped = system.gram.solve(here, torch.full_like(c, 1e-13), -g)
                offset = (-g * undamped).sum(dim=1).clamp_min(0).sqrt().detach()
                near &= (offset <= limit) | ~offset.isfinite()
                rough[which] = near & (offset > precise)
            iterations[which] = iteration
            trial = torch.where(solvable[:, None], y[which] + step.to(y.dtype), y[which])
            trial_cost = torch.where(solvable, system.cost(trial, which), torch.nan)
            gain = ((c - trial_cost) / predicted.clamp_min(torch.finfo(torch.float64).tiny)).detach()
            # a last step whose effect drowns in the rounding of the cost
            harmless = near & (trial_cost <= c * (1 + _VISIBLE**2 * eps))
            taken = solvable & (solver.accept(gain) | harmless)
            if bool(taken.any()):
                moved = which[taken]
                y, cost = y.index_copy(0, moved, trial[taken]), cost.index_copy(0, moved, trial_cost[taken])
                fresh = system.linearise(y[moved], moved)
                lin = {name: value.index_copy(0, moved, fresh[name]) for name, value in lin.items()}
                status[moved[~_finite(cost[moved], fresh)]] = Result.NONFINITE
            damping[which], growth[which] = solver.next_damping(damping[which], growth[which], gain)
            status[which[solver.failed(solvable)]] = Result.SINGULAR
            status[which[solver.failed(trial_cost.isfinite() | ~solvable)]] = Result.NONFINITE
            status[which[near & (status[which] == _ACTIVE)]] = Result.SUCCESS
            stuck = which[(damping[which] > _LARGEST_DAMPING) & (status[which] == _ACTIVE)]
            status[stuck] = Result.STAGNATED
        rough &= status == Result.SUCCESS
        if bool(rough.any()) and not y.requires_grad:
            y, lin["gradient"] = _polish(system, y, rough, lin["diagonal"])
    except Exception as error:
        raise named_error(error, iteration, (status == _ACTIVE).nonzero().flatten(), y) from error
    status[status == _ACTIVE] = Result.MAX_ITERATIONS
    good = (status == Result.SUCCESS).nonzero().flatten()
    if len(good):
        deficient = system.gram.rank_deficient({name: value[good].detach() for name, value in lin.items()})
        status[good[deficient]] = Result.RANK_DEFICIENT
    stats = {
        "cost": cost.detach(),
        "gradient_norm": lin["gradient"].detach().norm(dim=1),
        "num_iterations": iterations,
        "damping": damping,
    }
    return y, status, stats


def _polish(
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


def _finite(cost: torch.Tensor, lin: dict[str, torch.Tensor]) -> torch.Tensor:
    return cost.isfinite() & lin["gradient"].isfinite().all(dim=1) & lin["diagonal"].isfinite().all(dim=1)


def named_error(error: Exception, iteration: int, which: torch.Tensor, y: torch.Tensor) -> ResidualError:
    """An error of the residual with problems, iteration and shape."""
    problems = which.tolist() if len(which) <= 8 else [*which[:8].tolist(), "..."]
    message = " ".join(str(error).split())
    return ResidualError(
        f"iteration {iteration}, problems {problems}, y of shape {tuple(y.shape[1:])}: "
        f"{type(error).__name__}: {message}"
    )
