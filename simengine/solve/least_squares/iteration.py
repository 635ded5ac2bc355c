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

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch

from simengine.solve.least_squares.adjoint import AbstractSolveAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.finish import (
    VISIBLE,
    held_at_bounds,
    newton,
    polish,
    precision,
    strict_minimum,
    without,
)
from simengine.solve.least_squares.solvers import (
    SMALLEST_DAMPING,
    AbstractLeastSquaresSolver,
    LevenbergMarquardt,
)
from simengine.solve.least_squares.state import ACTIVE, IterationState, of, put
from simengine.solve.least_squares.structures.gram import Linearisation, damping_diagonal
from simengine.solve.least_squares.system import ResidualError
from simengine.solve.solution import Result, Solution

_LARGEST_DAMPING = 1e12
_POOR = (
    0.75  # gain below which a step went too far: above it a trust region would grow (Nocedal & Wright, algorithm 4.1)
)
_STRAIGHT = 0.75  # most that the path may turn within a step, relative to it (Transtrum & Sethna 2012)


def solve_system(
    system: AbstractSystem,
    y0: torch.Tensor,
    *,
    solver: AbstractLeastSquaresSolver | None = None,
    adjoint: AbstractSolveAdjoint | None = None,
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
    (y, status, stats), worst = adjoint.run(lambda own, y: iterate(own, y, solver), system, start)
    return checked(Solution(y, worst, {"status": status, **stats}), throw)


def checked(solution: Solution[torch.Tensor], throw: bool) -> Solution[torch.Tensor]:
    """The solution of a batch; with `throw`, only if every problem converged.

    Raises:
        SolveError: With `throw`; names the problems and their iterations.
    """
    if throw and not solution.success:
        if torch._C._functorch.is_functorch_wrapped_tensor(solution.stats["status"]):
            solution.check("least_squares under torch.func, the worst problem")
        status, iterations = solution.stats["status"], solution.stats["num_iterations"]
        failed = status.nonzero().flatten().tolist()
        after = [int(iterations[k]) for k in failed[:8]]
        solution.check(f"least_squares, problems {failed[:8]} of {len(status)} after {after} iterations")
    return solution


def iterate(
    system: AbstractSystem, y: torch.Tensor, solver: AbstractLeastSquaresSolver
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Solution (b, n), status (b,) and stats of every problem, from the starts y (b, n)."""
    everyone = torch.arange(len(y))
    with _named(0, everyone, y):
        state = begin(system, y, solver)
    state = _driven(system, state, solver)
    with _named(int(state.iterations.max()), everyone, state.y):
        y, status, stats = end(system, state, solver)
        sharp = system.sharper() if solver.finished and not y.requires_grad else None
        if sharp is None or not len(again := _untold(system, y, status, stats["damping"])):
            return y, status, stats
        # what J^T J could not tell, J itself may: undamped, since the gain of a damped step drowns in rounding there
        state = begin(sharp, y, solver)
    kept, ended = state.status, torch.full_like(status, int(Result.SUCCESS))
    state = dataclasses.replace(
        state,
        status=ended.index_copy(0, again, kept[again]),
        damping=torch.full_like(state.damping, SMALLEST_DAMPING),
    )
    state = _driven(sharp, state, solver)
    with _named(int(state.iterations.max()), again, state.y):
        found = end(sharp, state)
    for name in stats:
        fresh = found[2][name][again] + (stats[name][again] if name == "num_iterations" else 0)
        stats[name] = stats[name].index_copy(0, again, fresh)
    return y.index_copy(0, again, found[0][again]), status.index_copy(0, again, found[1][again]), stats


def _driven(system: AbstractSystem, state: IterationState, solver: AbstractLeastSquaresSolver) -> IterationState:
    """The state after the last trial, each of them shown to the solver's callback, whose errors pass as they are."""
    while len(active := state.active) and (last := int(state.iterations[active].max())) < solver.max_iterations:
        with _named(last + 1, active, state.y):
            state = advance(system, state, solver)
        if solver.callback is not None:
            solver.callback(state)
    return state


@contextlib.contextmanager
def _named(iteration: int, which: torch.Tensor, y: torch.Tensor) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise named_error(error, iteration, which, y) from error


def _untold(system: AbstractSystem, y: torch.Tensor, status: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """Which problems ended without success where J^T J is singular to rounding, or its least damping too large."""
    worse = (status == Result.RANK_DEFICIENT) | (status == Result.STAGNATED) | (status == Result.MAX_ITERATIONS)
    which = worse.nonzero().flatten()
    if len(which) == 0:
        return which
    lin = system.linearise(y[which], which)
    return which[system.gram.rank_deficient(lin) | (damping[which] <= SMALLEST_DAMPING)]


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
    c = of(state.cost, which)
    p = _proposed(system, state, solver, which)
    here = of(state.y, which)
    trial = torch.where(p.solvable[:, None], here + p.step.to(state.y.dtype), here)
    trial_cost = torch.where(p.solvable & ~p.crooked, system.cost(trial, which), torch.nan)
    gain = ((c - trial_cost) / p.predicted.clamp_min(torch.finfo(torch.float64).tiny)).detach()
    # a last step whose effect drowns in the rounding of the cost
    harmless = p.near & (trial_cost <= c * (1 + VISIBLE**2 * eps))
    taken = p.solvable & (solver.accept(gain) | harmless)
    calm = torch.where(p.calm, of(state.calm, which) + 1, 0)
    done = p.near | (calm >= solver.patience)
    y, cost, lin, scale = state.y, state.cost, state.linearisation, state.scale
    status = of(state.status, which)
    if bool(taken.any()):
        moved = which[taken]
        y, cost = put(y, moved, trial[taken]), put(cost, moved, trial_cost[taken])
    if bool((known := taken if system.linearised_at_the_end else taken & ~done).any()):
        moved = which[known]
        fresh = system.linearise(of(y, moved), moved)
        lin = {name: put(value, moved, fresh[name]) for name, value in lin.items()}
        scale = put(scale, moved, solver.scaled(of(scale, moved), fresh["diagonal"]))
        ended = torch.where(_finite(of(cost, moved), fresh), ACTIVE, int(Result.NONFINITE))
        status = status.masked_scatter(known, ended)
    damping, growth = solver.next_damping(of(state.damping, which), of(state.growth, which), gain)
    if system.measured:  # a residual that stays large: steps of J^T J alone go too far, and to and fro without end
        size = (of(scale, which) * p.step.square()).sum(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        lacking = 2 * (p.predicted - (c - trial_cost)) / size
        damping = torch.where(taken & (gain < _POOR), damping.maximum(lacking), damping)
    status = torch.where(solver.failed(p.solvable), int(Result.SINGULAR), status)
    status = torch.where(solver.failed(trial_cost.isfinite() | ~p.solvable), int(Result.NONFINITE), status)
    status = torch.where(done & (status == ACTIVE), int(Result.SUCCESS), status)
    status = torch.where((damping > _LARGEST_DAMPING) & (status == ACTIVE), int(Result.STAGNATED), status)
    return IterationState(
        y=y,
        cost=cost,
        linearisation=lin,
        damping=put(state.damping, which, damping),
        growth=put(state.growth, which, growth),
        scale=scale,
        calm=put(state.calm, which, calm),
        rough=put(state.rough, which, p.rough),
        status=put(state.status, which, status),
        iterations=state.iterations.index_add(0, which, torch.ones_like(which)),
    )


class _Proposal(NamedTuple):
    """Steps of the problems that go on, (p, n), and what is known of them before they are tried, (p,) each.

    Attributes:
        step: Change of y.
        predicted: Reduction of the cost by the linear model.
        solvable: Whether the step's system had a solution.
        near: Whether the step would be the last one.
        calm: Whether it is predicted to lower |r|^2 by less than the solver's `drop`.
        rough: Whether the cost cannot judge it for its rounding.
        crooked: Whether the path would turn too far within it.
    """

    step: torch.Tensor
    predicted: torch.Tensor
    solvable: torch.Tensor
    near: torch.Tensor
    calm: torch.Tensor
    rough: torch.Tensor
    crooked: torch.Tensor


def _proposed(
    system: AbstractSystem, state: IterationState, solver: AbstractLeastSquaresSolver, which: torch.Tensor
) -> _Proposal:
    """Damped steps, judged by the undamped ones, bent along the residual's curvature and held within bounds."""
    here = {name: of(value, which) for name, value in state.linearisation.items()}
    start = of(state.y, which)
    z = start.double()
    bounds = None if system.bounds is None else tuple(of(side, which) for side in system.bounds)
    if bounds is not None:  # unknowns that a bound stops leave the step
        here = without(here, held_at_bounds(start, here["gradient"], bounds))
    g, d, damping = here["gradient"], of(state.scale, which), of(state.damping, which)
    if "root" in here:  # J itself is factorised: no damping is needed to tell high condition from none
        damping = torch.where(damping <= SMALLEST_DAMPING, 0.0, damping)
    step = system.gram.solve({**here, "diagonal": d}, damping, -g)
    solvable = step.isfinite().all(dim=1)
    # reduction of the linear model: 1/2 step . (damping D step - g)
    predicted = 0.5 * (step * (damping[:, None] * d * step - g)).sum(dim=1)
    first = _Proposal(step, predicted, solvable, *[of(state.rough, which)] * 4)
    p = _judged(system, state, solver, which, here, z, first)
    if solver.accelerated and not bool(p.near.all()):
        turn = system.curvature(start, p.step.to(state.y.dtype), which)
        if turn is not None:
            bend = system.gram.solve({**here, "diagonal": d}, damping, -turn)
            ratio = (d * bend.square()).sum(dim=1).sqrt() / (d * p.step.square()).sum(dim=1).sqrt()
            crooked = ~p.near & solvable & ~(ratio <= _STRAIGHT)
            bent = torch.where((p.near | crooked)[:, None], p.step, p.step + 0.5 * bend)
            p = p._replace(step=bent, crooked=crooked)
    if not solver.bounded and bounds is None:
        return p
    step = solver.shortened(p.step) if solver.bounded else p.step
    if bounds is not None:
        low, high = bounds[0] - z, bounds[1] - z
        cut = (step < low) | (step > high)
        if bool(cut.any()):  # the others go where they would beside those that arrive at their bounds
            stopped = torch.where(cut, step.maximum(low).minimum(high), 0.0)
            rest = torch.where(cut, 0.0, g + system.gram.product(here, stopped))
            others = system.gram.solve({**without(here, cut), "diagonal": d}, damping, -rest)
            step = torch.where(cut | ~others.isfinite(), step, others)
        step = step.maximum(low).minimum(high)
    return p._replace(step=step, predicted=-(step * (g + 0.5 * system.gram.product(here, step))).sum(dim=1))


def _judged(
    system: AbstractSystem,
    state: IterationState,
    solver: AbstractLeastSquaresSolver,
    which: torch.Tensor,
    here: Linearisation,
    z: torch.Tensor,
    p: _Proposal,
) -> _Proposal:
    """Whether steps are the last ones, by the stops of the solver; a small damped one is judged by the undamped."""
    g, c, sharp = here["gradient"], of(state.cost, which), "root" in here
    norm = (2 * c).sqrt()
    weighted = (z * system.gram.product(here, z)).sum(dim=1).clamp_min(0).sqrt()  # |J y|
    precise = precision(solver, norm, weighted, state.y.dtype)
    limit = precise.maximum(VISIBLE * torch.finfo(state.y.dtype).eps ** 0.5 * norm)
    offset = (2 * p.predicted).clamp_min(0).sqrt()
    near, calm, rough = offset <= limit, offset.square() < solver.drop, p.rough
    slope = (g.abs() * damping_diagonal(here["diagonal"]).rsqrt()).amax(dim=1)  # |r| times the largest cosine
    step, predicted = p.step, p.predicted
    if bool((near | calm).any()):
        undamped = system.gram.solve(here, torch.full_like(c, 0.0 if sharp else 1e-13), -g)
        offset = (-g * undamped).sum(dim=1).clamp_min(0).sqrt().detach()
        near &= (offset <= limit) | ~offset.isfinite()
        calm &= (offset.square() < solver.drop) | ~offset.isfinite()
        rough = near & (offset > precise)
        if sharp:  # the last step is not damped, so that directions which hardly change J y arrive too
            last = near & undamped.isfinite().all(dim=1)
            step = torch.where(last[:, None], undamped, step)
            predicted = torch.where(last, -0.5 * (g * undamped).sum(dim=1), predicted)
    near = near | (slope <= solver.gradient * norm)
    return _Proposal(step, predicted, p.solvable, near, calm, rough, torch.zeros_like(near))


def end(
    system: AbstractSystem, state: IterationState, solver: AbstractLeastSquaresSolver | None = None
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Solution (b, n), status (b,) and stats of every problem; those that go on are said to have run out of trials.

    With `solver`, Newton steps with the exact Hessian try to finish what stagnated or ran out of trials.
    """
    y, lin, cost, status = state.y, dict(state.linearisation), state.cost.detach(), state.status.clone()
    status[status == ACTIVE] = Result.MAX_ITERATIONS
    rough = state.rough & (status == Result.SUCCESS)
    if bool(rough.any()) and system.polished and system.bounds is None and not y.requires_grad:
        y, lin["gradient"] = polish(system, y, rough, lin["diagonal"])
    unfinished = ((status == Result.STAGNATED) | (status == Result.MAX_ITERATIONS)).nonzero().flatten()
    if len(unfinished) and solver is not None and solver.finished and not y.requires_grad:
        found, fresh_cost, converged = newton(system, y[unfinished], unfinished, solver)
        if bool(converged.any()):
            moved = unfinished[converged]
            status[moved] = Result.SUCCESS
            y, cost = y.index_copy(0, moved, found[converged]), cost.index_copy(0, moved, fresh_cost[converged])
            fresh = system.linearise(y[moved], moved)
            lin = {name: value.index_copy(0, moved, fresh[name]) for name, value in lin.items()}
    good = (status == Result.SUCCESS).nonzero().flatten()
    if system.bounds is not None:
        lin = without(lin, held_at_bounds(y, lin["gradient"], system.bounds))
    if len(good) and system.linearised_at_the_end:
        deficient = good[system.gram.rank_deficient({name: value[good].detach() for name, value in lin.items()})]
        if len(deficient) and system.bounds is None:
            there = {name: value[deficient].detach() for name, value in lin.items()}
            deficient = deficient[~strict_minimum(system, y[deficient].detach(), deficient, there)]
        status[deficient] = Result.RANK_DEFICIENT
    stats = {
        "cost": cost,
        "gradient_norm": lin["gradient"].detach().norm(dim=1),
        "num_iterations": state.iterations,
        "damping": state.damping,
    }
    return y, status, stats


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
