"""The iteration of batched nonlinear least squares: a damping, a stop and a status per problem.

`least_squares` and `solve_system` run it to its end. What is shown, interrupted and resumed drives it itself, one trial
at a time:

    system = BlackBoxSystem(residual, linearise, refused=Refused)   # solve/black_box.py, or any other AbstractSystem
    solver = LevenbergMarquardt(max_step=2.0, drop=1e-2)
    state = begin(system, z[None], solver)               # one residual, one linearisation
    while len(state.active):
        state = advance(system, state, solver)           # one trial of every problem that goes on
        checkpoint.save(file, state.state_dict())        # flat tensors; IterationState.from_state_dict reads them
    y, status, stats = end(system, state)                # an active problem ends as MAX_ITERATIONS

States are frozen and hold costs and linearisations, so that going on from a stored one is bitwise what going on would
have been, after refused trials too, and computes nothing twice. Where the problem itself changes between two trials
(other points, other weights of rows), begin anew with `dataclasses.replace(solver, damping=float(state.damping))`.

Sources: Nocedal & Wright, Numerical Optimization, chapter 10; the relative offset criterion of Bates & Watts (1981).
"""

import abc
import dataclasses
import math

import torch

from simengine.solve.least_squares.adjoint import AbstractAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.state import ACTIVE, IterationState
from simengine.solve.least_squares.system import AbstractSystem, ResidualError
from simengine.solve.solution import Result, Solution

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
        drop: A problem has also converged when `patience` trials in a row, and the undamped steps there, were predicted
            to lower |r|^2 by less than this: 1e-2 is a tenth of a standard deviation where rows are divided by theirs.
        patience: Trials in a row that `drop` asks for.
        max_step: Largest change of an unknown in a trial, a number or shape (n,); each is held back by itself.
        scale: Squares of the units of the unknowns, a positive tensor of shape () or (n,), in place of the
            largest diag(J^T J) seen so far (Moré 1978): damping is relative to it.
    """

    tolerance: float = 1e-10
    max_iterations: int = 100
    drop: float = 0.0
    patience: int = 2
    max_step: float | torch.Tensor = math.inf
    scale: torch.Tensor | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.max_iterations < 1:
            raise ValueError(
                f"expected tolerance > 0 and max_iterations >= 1, got {self.tolerance} and {self.max_iterations}"
            )
        if self.patience < 1:
            raise ValueError(f"expected patience >= 1, got {self.patience}")
        if not self.drop >= 0 or not bool((torch.as_tensor(self.max_step) > 0).all()):
            raise ValueError(f"expected drop >= 0 and max_step > 0, got {self.drop} and {self.max_step}")
        if self.scale is not None and (
            self.scale.ndim > 1 or not bool(((self.scale > 0) & self.scale.isfinite()).all())
        ):
            raise ValueError(f"scale: expected positive finite numbers of shape () or (n,), got {self.scale.tolist()}")

    @property
    def bounded(self) -> bool:
        """Whether steps are held back."""
        return isinstance(self.max_step, torch.Tensor) or self.max_step < math.inf

    def shortened(self, step: torch.Tensor) -> torch.Tensor:
        """The step (b, n), no unknown changed by more than `max_step`."""
        most = torch.as_tensor(self.max_step, dtype=step.dtype, device=step.device)
        return step.minimum(most).maximum(-most)

    def scaled(self, before: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        """The scale (p, n) from that before and diag(J^T J) at a new point."""
        if self.scale is None:
            return before.maximum(diagonal)
        return self.scale.to(diagonal).expand_as(diagonal)

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
    running = torch.arange(len(y)), y, 0
    try:
        state = begin(system, y, solver)
        while len(active := state.active) and int(state.iterations[active].max()) < solver.max_iterations:
            running = active, state.y, int(state.iterations[active].max()) + 1
            state = advance(system, state, solver)
        return end(system, state)
    except Exception as error:
        which, y, iteration = running
        raise named_error(error, iteration, which, y) from error


def begin(system: AbstractSystem, y: torch.Tensor, solver: AbstractLeastSquaresSolver) -> IterationState:
    """The state before the first trial, from the starts y (b, n): one cost and one linearisation."""
    everyone = torch.arange(len(y), device=y.device)
    cost, lin = system.cost(y, everyone), system.linearise(y, everyone)
    status = torch.where(_finite(cost, lin), ACTIVE, int(Result.NONFINITE))
    damping = torch.full((len(y),), solver.initial_damping, dtype=torch.float64, device=y.device)
    none = torch.zeros_like(everyone)
    return IterationState(
        y=y,
        cost=cost,
        linearisation=lin,
        damping=damping,
        growth=torch.full_like(damping, 2.0),
        scale=solver.scaled(lin["diagonal"], lin["diagonal"]),
        calm=none,
        rough=none.bool(),
        status=status,
        iterations=none,
    )


def advance(system: AbstractSystem, state: IterationState, solver: AbstractLeastSquaresSolver) -> IterationState:
    """One trial of every problem that goes on: a solve, a cost and, where the trial is taken, a linearisation.

    `state` stays as it is. Errors of the system pass as they are.
    """
    which, eps = state.active, torch.finfo(state.y.dtype).eps
    if len(which) == 0:
        return state
    y, cost, lin, scale = state.y, state.cost, state.linearisation, state.scale
    status, iterations = state.status.clone(), state.iterations.index_add(0, which, torch.ones_like(which))
    here = {name: value[which] for name, value in lin.items()}
    g, c, d, damping = here["gradient"], cost[which], scale[which], state.damping[which]
    sharp = "root" in here  # J itself is factorised: no damping is needed to tell high condition from none
    if sharp:
        damping = torch.where(damping <= _SMALLEST_DAMPING, 0.0, damping)
    step = system.gram.solve({**here, "diagonal": d}, damping, -g)
    solvable = step.isfinite().all(dim=1)
    # reduction of the linear model: 1/2 step . (damping D step - g)
    predicted = 0.5 * (step * (damping[:, None] * d * step - g)).sum(dim=1)
    norm = (2 * c).sqrt()
    z = y[which].double()
    weighted = (z * system.gram.product(here, z)).sum(dim=1).clamp_min(0).sqrt()  # |J y|
    precise = (solver.tolerance * (norm + weighted)).maximum(_VISIBLE * eps * weighted)
    limit = precise.maximum(_VISIBLE * eps**0.5 * norm)
    offset = (2 * predicted).clamp_min(0).sqrt()
    near, calm = offset <= limit, offset.square() < solver.drop
    rough = state.rough.clone()
    if bool((near | calm).any()):  # the damping may have made the step small: the undamped one decides
        undamped = system.gram.solve(here, torch.full_like(c, 0.0 if sharp else 1e-13), -g)
        offset = (-g * undamped).sum(dim=1).clamp_min(0).sqrt().detach()
        near &= (offset <= limit) | ~offset.isfinite()
        calm &= (offset.square() < solver.drop) | ~offset.isfinite()
        rough[which] = near & (offset > precise)
        if sharp:  # the last step is not damped, so that directions which hardly change J y arrive too
            last = near & undamped.isfinite().all(dim=1)
            step = torch.where(last[:, None], undamped, step)
            predicted = torch.where(last, -0.5 * (g * undamped).sum(dim=1), predicted)
    if solver.bounded:
        step = solver.shortened(step)
        predicted = -(step * (g + 0.5 * system.gram.product(here, step))).sum(dim=1)
    trial = torch.where(solvable[:, None], y[which] + step.to(y.dtype), y[which])
    trial_cost = torch.where(solvable, system.cost(trial, which), torch.nan)
    gain = ((c - trial_cost) / predicted.clamp_min(torch.finfo(torch.float64).tiny)).detach()
    # a last step whose effect drowns in the rounding of the cost
    harmless = near & (trial_cost <= c * (1 + _VISIBLE**2 * eps))
    taken = solvable & (solver.accept(gain) | harmless)
    calms = state.calm.index_copy(0, which, torch.where(calm, state.calm[which] + 1, 0))
    done = near | (calms[which] >= solver.patience)
    if bool(taken.any()):
        moved = which[taken]
        y, cost = y.index_copy(0, moved, trial[taken]), cost.index_copy(0, moved, trial_cost[taken])
    if bool((known := taken if system.linearised_at_the_end else taken & ~done).any()):
        moved = which[known]
        fresh = system.linearise(y[moved], moved)
        lin = {name: value.index_copy(0, moved, fresh[name]) for name, value in lin.items()}
        scale = scale.index_copy(0, moved, solver.scaled(scale[moved], fresh["diagonal"]))
        status[moved[~_finite(cost[moved], fresh)]] = Result.NONFINITE
    damping, growth = solver.next_damping(state.damping[which], state.growth[which], gain)
    status[which[solver.failed(solvable)]] = Result.SINGULAR
    status[which[solver.failed(trial_cost.isfinite() | ~solvable)]] = Result.NONFINITE
    status[which[done & (status[which] == ACTIVE)]] = Result.SUCCESS
    status[which[(damping > _LARGEST_DAMPING) & (status[which] == ACTIVE)]] = Result.STAGNATED
    return IterationState(
        y=y,
        cost=cost,
        linearisation=lin,
        damping=state.damping.index_copy(0, which, damping),
        growth=state.growth.index_copy(0, which, growth),
        scale=scale,
        calm=calms,
        rough=rough,
        status=status,
        iterations=iterations,
    )


def end(system: AbstractSystem, state: IterationState) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Solution (b, n), status (b,) and stats of every problem; those that go on are said to have run out of trials."""
    y, lin, status = state.y, dict(state.linearisation), state.status.clone()
    rough = state.rough & (status == Result.SUCCESS)
    if bool(rough.any()) and system.polished and not y.requires_grad:
        y, lin["gradient"] = _polish(system, y, rough, lin["diagonal"])
    status[status == ACTIVE] = Result.MAX_ITERATIONS
    good = (status == Result.SUCCESS).nonzero().flatten()
    if len(good) and system.linearised_at_the_end:
        deficient = system.gram.rank_deficient({name: value[good].detach() for name, value in lin.items()})
        status[good[deficient]] = Result.RANK_DEFICIENT
    stats = {
        "cost": state.cost.detach(),
        "gradient_norm": lin["gradient"].detach().norm(dim=1),
        "num_iterations": state.iterations,
        "damping": state.damping,
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
