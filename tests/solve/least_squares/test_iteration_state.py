"""The iteration trial by trial: resume, black boxes that refuse, steps held back, scales, the stop by the drop."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import torch

from simengine.solve.least_squares import least_squares
from simengine.solve.least_squares.black_box import BlackBoxSystem
from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.iteration import advance, begin, end, iterate
from simengine.solve.least_squares.solvers import GaussNewton, LevenbergMarquardt
from simengine.solve.least_squares.state import IterationState
from simengine.solve.least_squares.system import FunctionSystem, ResidualError
from simengine.solve.solution import Result

T = np.linspace(0.0, 1.0, 12)
DATA = np.array([2.0, 1.4, 1.3, 0.9, 1.0, 0.7, 0.35, 0.5, 0.3, 0.33, 0.1, 0.25])


class Outside(Exception):
    """No value here."""


def decay(z: torch.Tensor) -> torch.Tensor:
    """Numpy, which torch cannot see through."""
    a, b, c = z.numpy()
    return torch.tensor(a * np.exp(-b * T) + c - DATA)


def rosenbrock(y: torch.Tensor, _: object = None) -> torch.Tensor:
    return torch.stack([10 * (y[1] - y[0] ** 2), 1 - y[0]])


def start(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def run(system: AbstractSystem, y: torch.Tensor, solver: LevenbergMarquardt) -> list[IterationState]:
    states = [begin(system, y, solver)]
    while len(states[-1].active) and int(states[-1].iterations.max()) < solver.max_iterations:
        states.append(advance(system, states[-1], solver))
    return states


def same(a: IterationState, b: IterationState) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return set(first) == set(second) and all(torch.equal(value, second[name]) for name, value in first.items())


def several() -> FunctionSystem:
    return FunctionSystem(rosenbrock, None, batch=3, batched=lambda t: False)


SYSTEMS: dict[str, tuple[Callable[[], AbstractSystem], torch.Tensor]] = {
    "batch": (several, torch.tensor([[-1.2, 1.0], [3.0, -2.0], [1.0, 1.0]], dtype=torch.float64)),
    "black box": (lambda: BlackBoxSystem(decay), start(1.0, 1.0, 0.0)),
    "black box, a narrow valley": (lambda: BlackBoxSystem(lambda z: rosenbrock(z)), start(-1.2, 1.0)),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_going_on_from_any_trial_is_bitwise_the_same(name: str) -> None:
    make, y = SYSTEMS[name]
    solver = LevenbergMarquardt(accelerated=False)  # whose first steps are refused
    states = run(make(), y, solver)
    whole = iterate(make(), y, solver)
    assert bool((whole[1] == Result.SUCCESS).all())
    refused = [float(b.damping[0]) > float(a.damping[0]) for a, b in itertools.pairwise(states)]
    assert any(refused)  # states after refused trials are among them
    for state in states:
        held = {key: value.clone() for key, value in state.state_dict().items()}
        system, again = make(), IterationState.from_state_dict(held)
        while len(again.active):
            again = advance(system, again, solver)
        assert same(again, states[-1])
        assert all(torch.equal(value, held[key]) for key, value in state.state_dict().items())  # states are frozen
        assert torch.equal(end(system, again)[0], whole[0])


def test_a_stored_state_computes_nothing_again() -> None:
    system, solver = BlackBoxSystem(decay), LevenbergMarquardt()
    states = run(system, start(1.0, 1.0, 0.0), solver)
    fresh = BlackBoxSystem(decay)
    last = advance(fresh, states[1], solver)
    assert same(last, states[2]) and fresh.evaluations == 4  # the trial, and a difference for each of three unknowns
    with pytest.raises(ValueError, match="state of an iteration: expected"):
        IterationState.from_state_dict({"y": start(0.0)})


def test_a_black_box_finds_scipys_minimum() -> None:
    system = BlackBoxSystem(decay)
    y, status, _ = iterate(system, start(1.0, 1.0, 0.0), LevenbergMarquardt(tolerance=1e-7))
    system.refine()  # one-sided differences of 1e-5 leave some 1e-6
    y, status, _ = iterate(system, y, LevenbergMarquardt(tolerance=1e-7))
    found = scipy.optimize.least_squares(lambda z: decay(torch.tensor(z)).numpy(), [1.0, 1.0, 0.0], xtol=1e-14)
    assert int(status) == Result.SUCCESS
    assert y[0].numpy() == pytest.approx(found.x, rel=1e-6, abs=1e-7)


def test_a_refused_trial_is_taken_back_and_a_refused_start_passes() -> None:
    # log z - log 3 from 100: the undamped step leads to a negative z
    def residual(z: torch.Tensor) -> torch.Tensor:
        if float(z[0]) <= 0:
            raise Outside(f"z = {float(z[0])}")
        return torch.log(z / 3)

    for differences in (None, lambda z: (residual(z), 1 / z[:, None])):
        system = BlackBoxSystem(residual, differences, refused=Outside)
        states = run(system, start(100.0), LevenbergMarquardt(tolerance=1e-8))
        assert float(states[1].y[0]) == 100.0 and float(states[1].damping) > float(states[0].damping)
        assert float(states[-1].y[0]) == pytest.approx(3.0, rel=1e-6)
        with pytest.raises(Outside, match="z = -1"):
            begin(system, start(-1.0), LevenbergMarquardt())
    assert int(iterate(system, start(100.0), GaussNewton())[1]) == Result.NONFINITE  # which knows no other step


def test_differences_beside_a_border_look_inward() -> None:
    def residual(z: torch.Tensor) -> torch.Tensor:
        if float(z.max()) > 1.0:
            raise Outside("beyond 1")
        return z.square() - 1.0

    system = BlackBoxSystem(residual, refused=Outside)
    for _ in range(2):
        lin = system.linearise(start(1.0, 0.5), torch.arange(1))
        assert lin["diagonal"][0].tolist() == pytest.approx([4.0, 1.0], rel=1e-3)
        system.refine()


def test_what_a_black_box_may_not_return() -> None:
    with pytest.raises(ResidualError, match=r"residual: expected shape \(m,\) with m >= 1, got \(1, 2\)"):
        BlackBoxSystem(lambda z: z[None]).residual(torch.zeros(2))
    lengths = iter((2, 3))
    system = BlackBoxSystem(lambda z: torch.zeros(next(lengths)))
    system.residual(torch.zeros(2))
    with pytest.raises(ResidualError, match=r"residual: expected shape \(2,\), got \(3,\)"):
        system.residual(torch.ones(2))
    with pytest.raises(ResidualError, match=r"linearise: expected J of shape \(2, 2\), got \(2, 1\)"):
        BlackBoxSystem(lambda z: z, lambda z: (z, z[:, None])).linearise(start(1.0, 2.0), torch.arange(1))


@pytest.mark.parametrize("most", [0.5, torch.tensor([0.5, 4.0], dtype=torch.float64)])
def test_steps_are_held_back_each_coordinate_by_itself(most: float | torch.Tensor) -> None:
    system = FunctionSystem(lambda y, _: y - torch.tensor([30.0, 2.0]).to(y), None, batch=1, batched=lambda t: False)
    states = run(system, start(0.0, 0.0), LevenbergMarquardt(damping=1e-12, max_step=most))
    moved = states[1].y[0] - states[0].y[0]
    assert moved.tolist() == pytest.approx([0.5, 0.5 if isinstance(most, float) else 2.0])
    assert states[-1].y[0].tolist() == pytest.approx([30.0, 2.0])
    assert len(states) == pytest.approx(61, abs=2)  # 30 in steps of a half


def test_the_scale_says_what_damping_holds_back() -> None:
    # (G + damping scale) s = -g by hand, with the given scale and with diag(G)
    j = torch.tensor([[1.0, 0.5], [0.0, 10.0], [1.0, 1.0]], dtype=torch.float64)
    system = FunctionSystem(lambda y, _: j @ y - 1, None, batch=1, batched=lambda t: False)
    gram, g = j.T @ j, -j.T @ torch.ones(3, dtype=torch.float64)
    for scale in (None, torch.tensor(1.0), torch.tensor([3.0, 1e-4])):
        diagonal = gram.diagonal() if scale is None else scale.double().expand(2)
        expected = torch.linalg.solve(gram + 0.7 * torch.diag(diagonal), -g)
        states = run(system, start(0.0, 0.0), LevenbergMarquardt(damping=0.7, scale=scale))
        assert torch.allclose(states[1].y[0], expected, rtol=1e-12)


def test_the_scale_is_the_largest_seen() -> None:
    system = FunctionSystem(lambda y, _: torch.exp(y) - 1, None, batch=1, batched=lambda t: False)
    states = run(system, start(3.0), LevenbergMarquardt())
    diagonals = torch.stack([state.linearisation["diagonal"] for state in states])
    scales = torch.stack([state.scale for state in states])
    assert torch.equal(scales, diagonals.cummax(dim=0).values) and float(scales[-1]) > 100 * float(diagonals[-1])


def test_a_small_drop_ends_after_two_trials_in_a_row() -> None:
    solver = LevenbergMarquardt(drop=1e-2)
    sigma = 0.05
    states = run(BlackBoxSystem(lambda z: decay(z) / sigma), start(1.0, 1.0, 0.0), solver)
    calm = [int(state.calm) for state in states]
    assert calm[-2:] == [1, 2] and max(calm[:-1]) <= 1 and int(states[-1].status) == Result.SUCCESS
    best = run(BlackBoxSystem(lambda z: decay(z) / sigma), start(1.0, 1.0, 0.0), LevenbergMarquardt())
    assert len(states) < len(best)
    assert 0 <= 2 * float(states[-1].cost - best[-1].cost) < 1e-2


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="expected drop >= 0 and max_step > 0"):
        LevenbergMarquardt(max_step=0.0)
    with pytest.raises(ValueError, match="scale: expected positive finite numbers"):
        LevenbergMarquardt(scale=torch.tensor([1.0, -1.0]))
    assert dataclasses.replace(LevenbergMarquardt(), damping=0.5).damping == 0.5


def test_a_callback_sees_every_trial_and_may_end_the_solve() -> None:
    seen: list[tuple[int, float]] = []

    class Enough(Exception):
        pass

    def watch(state: IterationState) -> None:
        seen.append((int(state.iterations.max()), float(state.cost[0])))
        if len(seen) == stop:
            raise Enough

    begun, stop = torch.tensor([-1.2, 1.0], dtype=torch.float64), 0
    found = least_squares(rosenbrock, begun, solver=LevenbergMarquardt(callback=watch), throw=True)
    assert [k for k, _ in seen] == list(range(1, int(found.stats["num_iterations"]) + 1))
    costs = [cost for _, cost in seen]
    assert costs == sorted(costs, reverse=True) and costs[0] < 12.1 and costs[-1] < 1e-20
    seen, stop = [], 3
    with pytest.raises(Enough):
        least_squares(rosenbrock, begun, solver=LevenbergMarquardt(callback=watch))
    assert len(seen) == 3
