"""Rayleigh damping: closed forms of a fall and of a wave's decay, parity with torch, the gradient, bad numbers."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from simengine import materials, mpm, solve

E, NU, RHO, LENGTH = 3e4, 0.25, 1000.0, 1.0


def damped(
    mass: float | torch.Tensor = 0.0, stiffness: float | torch.Tensor = 0.0, nu: float = NU
) -> materials.Material:
    material = materials.rubber(E, nu)
    material.dissipation = materials.Dissipation(mass_damping=mass, stiffness_damping=stiffness)
    return material


def shear_wave(alpha: float, beta: float) -> torch.Tensor:
    """Amplitudes over time, 5e-3 s apart, of a standing wave in a periodic box, of initial velocity 1e-3 m/s."""
    h = LENGTH / 8
    axes = [(torch.arange(2 * n, dtype=torch.float64) + 0.5) * h / 2 for n in (8, 4, 4)]
    x = torch.cartesian_prod(*axes)
    shape = torch.sin(2 * math.pi / LENGTH * x[:, 0])
    v = torch.stack([torch.zeros_like(shape), 1e-3 * shape, torch.zeros_like(shape)], 1)
    model = mpm.MPMModel(
        num_grids=(8, 4, 4), dt=1e-3, length=LENGTH, materials=[damped(alpha, beta)], volume=(h / 2) ** 3,
        mass=RHO * (h / 2) ** 3, gravity=(0.0, 0.0, 0.0), boundaries=[mpm.Walls("periodic")],
    )  # fmt: skip
    with torch.no_grad():
        state = mpm.MPMState.at_rest(x, v, branches=model.branches)
        moved = solve.rollout(mpm.MPMSolver(model), state, 400, save_every=5).states.x[:, :, 1] - x[:, 1]
    return (moved * shape).mean(1)


def bar(alpha: float, beta: float) -> torch.Tensor:
    """The same of a bar between sticky ends that swings along itself, in implicit steps; it has nu = 0."""
    h = LENGTH / 14
    x = torch.cartesian_prod(*((torch.arange(2 * n, dtype=torch.float64) + 0.5) * h / 2 for n in (14, 1, 1)))
    x = x[(x[:, 0] > 2 * h) & (x[:, 0] < 12 * h)] + torch.tensor([0.0, 4 * h, 4 * h])
    shape = torch.sin(math.pi * (x[:, 0] - 2 * h) / (10 * h))
    v = torch.stack([1e-3 * shape, torch.zeros_like(shape), torch.zeros_like(shape)], 1)
    model = mpm.MPMModel(
        num_grids=(14, 10, 10), dt=5e-3, length=LENGTH, materials=[damped(alpha, beta, 0.0)], volume=(h / 2) ** 3,
        mass=RHO * (h / 2) ** 3, gravity=(0.0, 0.0, 0.0), boundaries=[mpm.Walls("sticky")],
    )  # fmt: skip
    with torch.no_grad():
        state = mpm.MPMState.at_rest(x, v, branches=model.branches)
        moved = solve.rollout(mpm.ImplicitSolver(model), state, 80).states.x[:, :, 0] - x[:, 0]
    return (moved * shape).mean(1)


def rate_and_frequency(amplitudes: torch.Tensor) -> tuple[float, float]:
    """Of exp(-rate t) sin(w t), by the linear recurrence that it satisfies at equal times."""
    a = amplitudes[::4]
    rows, right = torch.stack([a[1:-1], a[:-2]], 1), a[2:, None]
    p, q = torch.linalg.lstsq(rows, right, driver="gelsd").solution[:, 0].tolist()
    z = complex(p / 2, math.sqrt(max(-q - p * p / 4, 0.0)))
    return -math.log(abs(z)) / 0.02, math.atan2(z.imag, z.real) / 0.02


@pytest.mark.parametrize("wave", [shear_wave, pytest.param(bar, marks=pytest.mark.slow)])
def test_a_mode_falls_off_as_in_closed_form(wave: Callable[[float, float], torch.Tensor]) -> None:
    """Rate (alpha + beta w^2) / 2 beyond what the grid itself takes, w its undamped frequency; either part alone."""
    own, w = rate_and_frequency(wave(0.0, 0.0))
    w = math.hypot(w, own)
    for alpha, beta in ((6.0, 0.0), (0.0, 6e-3), (2.0, 2e-3)):
        rate, frequency = rate_and_frequency(wave(alpha, beta))
        expected = (alpha + beta * w**2) / 2
        assert (rate - own) / expected == pytest.approx(1, abs=0.01)  # measured .005 (shear_wave) and .002 (bar)
        assert frequency == pytest.approx(math.sqrt(w**2 - (own + expected) ** 2), rel=3e-3)


@pytest.mark.parametrize("implicit", [False, True])
def test_what_falls_freely_reaches_its_speed(implicit: bool) -> None:
    """dv/dt = g - alpha v: v = g / alpha (1 - exp(-alpha t)); each step is the exact one, or the midpoint rule's."""
    alpha, dt, g, steps = 5.0, 4e-3, 2.0, 20
    axis = 0.4 + 0.05 * torch.arange(4, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, axis)
    model = mpm.MPMModel(
        num_grids=12, dt=dt, materials=[damped(alpha)], volume=1.25e-4, mass=0.125, gravity=(0.0, -g, 0.0)
    )
    solver = mpm.ImplicitSolver(model) if implicit else mpm.MPMSolver(model)
    with torch.no_grad():
        last = solve.rollout(solver, mpm.MPMState.at_rest(x), steps, save_every=steps)[-1]
    left = (1 - alpha * dt / 2) / (1 + alpha * dt / 2) if implicit else math.exp(-alpha * dt)
    end = g / alpha if implicit else g * dt / (1 - left)
    # implicit increments hold every node by a spring of 1e-6 (`simengine.mpm.increment`)
    assert float(last.v[:, 1].max() + end * (1 - left**steps)) == pytest.approx(0, abs=2e-7 if implicit else 1e-12)
    assert float(last.v.mean(0)[1]) == pytest.approx(
        -g / alpha * (1 - math.exp(-alpha * dt * steps)), rel=0.011
    )  # dt alpha / 2


def test_kernels_agree_with_torch_in_value_and_gradient() -> None:
    """Captured launches, direct and with checkpoints, one and two threads, at a hard floor, against plain torch."""
    numbers = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, 2e-4)]
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(40, 3, generator=generator, dtype=torch.float64)
    ids = torch.arange(40) % 2  # the other half loses nothing
    model = mpm.MPMModel(
        num_grids=12, dt=2e-4, materials=[materials.jelly(1e5, 0.3), damped(*numbers)], material_ids=ids, volume=1e-4,
        mass=0.1, boundaries=[mpm.Plane(point=(0.0, 0.43, 0.0), normal=(0.0, 1.0, 0.0))],
    )  # fmt: skip
    v = torch.randn(40, 3, generator=generator, dtype=torch.float64).requires_grad_()
    start, probe = mpm.MPMState.at_rest(x, v, branches=model.branches), torch.linspace(-1, 1, 120).double()

    def result(last: mpm.MPMState) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = (last.x.flatten() * probe).sum() * 1e3 + (last.v.flatten() * probe).sum()
        return loss.detach(), torch.autograd.grad(loss, [*numbers, v])

    now = start
    for step in range(20):
        now = mpm.MPMSolver(model).step(now, step)
    expected = result(now)
    for adjoint, threads in ((solve.DirectAdjoint(), 1), (solve.CheckpointAdjoint(), 2)):
        found = result(solve.rollout(mpm.MPMSolver(model, threads=threads), start, 20, adjoint=adjoint)[-1])
        assert abs(float(found[0] - expected[0])) < 1e-12 * abs(float(expected[0]))
        for a, b in zip(found[1], expected[1], strict=True):
            assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


@pytest.mark.parametrize("implicit", [False, True])
def test_gradient_against_differences(implicit: bool) -> None:
    """A block that lands, 200 steps or 2 implicit ones, float64."""

    def value(mass: torch.Tensor, stiffness: torch.Tensor) -> torch.Tensor:
        axis = 0.4 + 0.05 * torch.arange(2 if implicit else 4, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis - 0.15, axis)
        model = mpm.MPMModel(
            num_grids=12, dt=2e-2 if implicit else 1e-3, materials=[damped(mass, stiffness)], volume=1.25e-4, mass=0.125
        )
        state = mpm.MPMState.at_rest(x, torch.zeros_like(x) - 0.5, branches=model.branches)
        state = dataclasses.replace(state, C=state.C + torch.linspace(-3, 3, 9, dtype=x.dtype).reshape(3, 3))
        solver = mpm.ImplicitSolver(model) if implicit else mpm.MPMSolver(model)
        last = solve.rollout(solver, state, 2 if implicit else 200, adjoint=solve.CheckpointAdjoint())[-1]
        return (last.x[:, 0] - 0.5).square().sum() + last.x[:, 1].mean() + last.v[:, 1].square().mean()

    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (4.0, 1e-3)]
    gradient = torch.autograd.grad(value(*at), at)
    for k, own in enumerate(gradient):
        h = 1e-3 * float(at[k].detach())
        with torch.no_grad():
            ends = [value(*(t + (s * h if j == k else 0.0) for j, t in enumerate(at))) for s in (1.0, -1.0)]
        assert abs(float(own)) > 1e-6
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5)


def test_the_step_that_is_stable_is_told() -> None:
    """(c dt / h)^2 (1 + 2 beta / dt) < 1 of the mode that changes sign from node to node and step to step."""
    h, dt, numbers = LENGTH / 8, 1e-3, []
    for material in (materials.rubber(E, NU), damped(0.0, 5e-3)):
        model = mpm.MPMModel(num_grids=8, dt=dt, materials=[material], volume=h**3, mass=RHO * h**3)
        state = mpm.MPMState.at_rest(torch.full((3, 3), 0.5).double(), branches=model.branches)
        numbers.append(mpm.cfl_numbers(model, state)[0])
    assert numbers[1] / numbers[0] == pytest.approx(math.sqrt(1 + 2 * 5e-3 / dt), rel=1e-6)


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="stiffness_damping must be at least 0, got -1"):
        damped(0.0, -1.0)
    model = mpm.MPMModel(num_grids=8, dt=1e-3, materials=[damped(1.0)], volume=1e-3, mass=1.0)
    with pytest.raises(ValueError, match="damping is of a motion"):
        mpm.ImplicitSolver(model, "quasistatic")
