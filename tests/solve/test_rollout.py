"""Rollouts of any solver: a damped oscillator with a closed form."""

import dataclasses
import math

import pytest
import torch

from simengine.solve import AbstractSolver, CheckpointAdjoint, DirectAdjoint, rollout


@dataclasses.dataclass(frozen=True)
class Point:
    x: torch.Tensor
    v: torch.Tensor


class Oscillator(AbstractSolver):
    """Symplectic Euler for x'' = -k x; counts its steps."""

    def __init__(self, k: torch.Tensor, dt: float = 1e-3) -> None:
        self.k, self.dt, self.numbers = k, dt, []

    def step(self, state: Point, number: int = 0) -> Point:
        self.numbers.append(number)
        v = state.v - self.dt * self.k * state.x
        return Point(state.x + self.dt * v, v)


def start() -> Point:
    return Point(torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


def test_closed_form_and_saved_steps() -> None:
    trajectory = rollout(Oscillator(torch.tensor(4.0).double()), start(), 1000, save_every=300)
    assert trajectory.steps == (0, 300, 600, 900, 1000)
    assert trajectory.states.x.shape == (5, 3) and len(trajectory) == 5
    for step, k in zip(trajectory.steps, range(5), strict=True):
        # symplectic Euler is of first order: dt w / 2 = 1e-3
        assert float(trajectory[k].x[0]) == pytest.approx(math.cos(2 * step * 1e-3), abs=2e-3)


@pytest.mark.parametrize(
    "adjoint", [None, CheckpointAdjoint(), CheckpointAdjoint(every=7), CheckpointAdjoint(every=500)]
)
def test_gradient_does_not_depend_on_the_adjoint(adjoint) -> None:
    gradients = []
    for method in (DirectAdjoint(), adjoint):
        k = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
        states = rollout(Oscillator(k), start(), 100, save_every=30, adjoint=method).states
        gradients.append(torch.autograd.grad(states.x.square().sum() + states.v.sum(), k)[0])
    assert torch.equal(*gradients)


def test_checkpoints_run_each_stretch_twice() -> None:
    k = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    solver = Oscillator(k)
    last = rollout(solver, start(), 100, save_every=100, adjoint=CheckpointAdjoint(), first_step=50)[-1]
    assert solver.numbers == list(range(50, 150))
    last.x.sum().backward()
    assert sorted(solver.numbers[100:]) == list(range(50, 150))
    assert CheckpointAdjoint().stretch(100) == 10 and CheckpointAdjoint().stretch(1) == 1


def test_no_gradient_no_checkpoints() -> None:
    solver = Oscillator(torch.tensor(4.0, dtype=torch.float64, requires_grad=True))
    with torch.no_grad():
        rollout(solver, start(), 20, adjoint=CheckpointAdjoint())
    assert len(solver.numbers) == 20
