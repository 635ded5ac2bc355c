"""Viscosity and Maxwell branches: closed forms of relaxation and of a damped wave, parity, and the gradient."""

import cmath
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from simengine import materials, mpm, solve
from simengine.mpm.stability import sound_speed
from simengine.ops.matter.dissipation_reference import dissipation

E, NU, RHO, LENGTH = 3e4, 0.25, 1000.0, 1.0
TIMES, SHARES = (0.03, 0.3), (0.4, 0.2)


def test_stress_relaxes_as_in_closed_form() -> None:
    """A sheared and turned material point that is held: (1 + sum s exp(-t / time)) of the stress at rest."""
    loss = materials.Dissipation(0.0, TIMES, SHARES)
    F = torch.tensor([[1.1, 0.4, 0.0], [-0.2, 0.9, 0.1], [0.0, 0.0, 1.05]], dtype=torch.float64)[None]
    tau, A, dt = materials.rubber(E, NU).elasticity(F), torch.zeros(1, 2, 3, 3, dtype=torch.float64), 1e-3
    for step in range(200):
        whole, A = dissipation(tau, F, torch.zeros_like(F), A, loss.row(dt, 2)[None])
        expected = 1 + sum(s * math.exp(-step * dt / t) for t, s in zip(TIMES, SHARES, strict=True))
        assert float((whole - expected * tau).abs().max()) < 1e-12 * E  # exact in each step but for rounding


def test_sound_is_that_of_the_springs_side_by_side() -> None:
    """At once a body is (1 + the sum of the shares) times as stiff as at rest."""
    h, speeds = LENGTH / 8, []
    for loss in (None, materials.Dissipation(0.0, TIMES, SHARES)):
        material = materials.rubber(E, NU)
        material.dissipation = loss
        model = mpm.MPMModel(num_grids=8, dt=1e-3, materials=[material], volume=h**3, mass=RHO * h**3)
        speeds.append(
            sound_speed(model, mpm.MPMState.at_rest(torch.full((3, 3), 0.5).double(), branches=model.branches))
        )
    assert speeds[1] / speeds[0] == pytest.approx(math.sqrt(1 + sum(SHARES)), rel=1e-6)


def wave(loss: materials.Dissipation | None, *, cells: int = 16) -> complex:
    """The root s of exp(s t) by which a standing shear wave in a periodic box moves."""
    h, material = LENGTH / cells, materials.rubber(E, NU)
    material.dissipation = loss
    axes = [(torch.arange(2 * n, dtype=torch.float64) + 0.5) * h / 2 for n in (cells, 4, 4)]
    x = torch.cartesian_prod(*axes)
    k, volume = 2 * math.pi / LENGTH, (h / 2) ** 3
    shape = torch.sin(k * x[:, 0])
    v = torch.stack([torch.zeros_like(shape), 1e-3 * shape, torch.zeros_like(shape)], 1)
    model = mpm.MPMModel(
        num_grids=(cells, 4, 4), dt=1e-3, length=LENGTH, materials=[material], volume=volume, mass=RHO * volume,
        gravity=(0.0, 0.0, 0.0), boundaries=[mpm.Walls("periodic")],
    )  # fmt: skip
    with torch.no_grad():
        state = mpm.MPMState.at_rest(x, v, branches=model.branches)
        moved = solve.rollout(mpm.MPMSolver(model), state, 800).states.x[:, :, 1] - x[:, 1]
    a = (moved * shape).mean(1).numpy()
    # a linear recurrence a[n + 2] = p a[n + 1] + q a[n], after the decay of the branches alone, has the two roots
    a = a[240::40]
    p, q = np.linalg.lstsq(np.stack([a[1:-1], a[:-2]], 1), a[2:], rcond=None)[0]
    return cmath.log((p + cmath.sqrt(p * p + 4 * q)) / 2) / 0.04


def root(stiffness: Callable[[complex], complex], frequency: float | None = None) -> complex:
    """Root of s^2 + k^2 G(s) / rho = 0 near the undamped frequency; k of the grid where its frequency is given."""
    k2 = (2 * math.pi / LENGTH) ** 2 * E / (2 * (1 + NU)) / RHO if frequency is None else frequency**2
    s = 1j * math.sqrt(k2)
    for _ in range(60):
        s = cmath.sqrt(-k2 * stiffness(s))
        s = s if s.imag > 0 else -s
    return s


@pytest.fixture(scope="module")
def free() -> complex:
    """Without losses: the wave of the grid."""
    return wave(None)


def test_nothing_is_lost_without_losses(free: complex) -> None:
    """The grid's own frequency errs by its second order (h^2, 1.6 % at 16 cells), its damping by its fourth (1.3 %)."""
    expected, finer = root(lambda s: 1), wave(None, cells=32)
    assert abs(free.imag / expected.imag - 1) < 0.02 and abs(free.real) < 0.015 * expected.imag
    assert abs(finer.imag / expected.imag - 1) < 0.3 * abs(free.imag / expected.imag - 1)  # a quarter
    assert abs(finer.real) < 0.08 * abs(free.real)  # a sixteenth


def test_viscosity_counts_in_the_time_step() -> None:
    """The root of (c dt / h)^2 + 8/3 (eta / rho) dt / h^2: the springs and the dashpots of a cell side by side."""
    h, dt, eta, material = LENGTH / 8, 1e-3, 4e3, materials.rubber(E, NU)
    numbers = []
    for loss in (None, materials.Dissipation(eta)):
        material.dissipation = loss
        model = mpm.MPMModel(num_grids=8, dt=dt, materials=[material], volume=h**3, mass=RHO * h**3)
        numbers.append(mpm.cfl_numbers(model, mpm.MPMState.at_rest(torch.full((3, 3), 0.5).double()))[0])
    assert numbers[1] == pytest.approx(math.sqrt(numbers[0] ** 2 + 8 / 3 * eta / RHO * dt / h**2), rel=1e-9)
    assert numbers[1] > 1.5 * numbers[0]


@pytest.mark.parametrize("which", ["viscosity", "branch"])
def test_a_wave_is_damped_as_in_closed_form(which: str, free: complex) -> None:
    """Kelvin-Voigt: s^2 + (k^2 / rho) (G + eta s) = 0. Maxwell: G (1 + share s t / (1 + s t))."""
    G = E / (2 * (1 + NU))
    if which == "viscosity":
        loss, exact = materials.Dissipation(40.0), root(lambda s: 1 + 40.0 * s / G, free.imag)
    else:
        branch = materials.Dissipation(0.0, (0.1,), (0.3,))
        loss, exact = branch, root(lambda s: 1 + 0.3 * s * 0.1 / (1 + s * 0.1), free.imag)
    found = wave(loss)
    assert abs((found.real - free.real) / exact.real - 1) < 0.01  # dt / 2 over the time of the branch is 0.5 %
    assert abs(found.imag / exact.imag - 1) < 0.002


def test_kernels_agree_with_torch_in_value_and_gradient() -> None:
    """A flight of captured launches, direct and with checkpoints, against steps in plain torch."""
    numbers = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, (1e-3, 5e-3), (0.3, 0.2))]
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(40, 3, generator=generator, dtype=torch.float64)
    material = materials.rubber(1e5, 0.3)
    material.dissipation = materials.Dissipation(*numbers)
    ids = torch.arange(40) % 2  # the other half loses nothing
    model = mpm.MPMModel(
        num_grids=12, dt=2e-4, materials=[materials.jelly(1e5, 0.3), material], material_ids=ids, volume=1e-4, mass=0.1
    )
    v = torch.randn(40, 3, generator=generator, dtype=torch.float64).requires_grad_()
    start, probe = mpm.MPMState.at_rest(x, v, branches=model.branches), torch.linspace(-1, 1, 120).double()
    solver = mpm.MPMSolver(model)

    def result(last: mpm.MPMState) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = (last.x.flatten() * probe).sum() * 1e3 + (last.A**2).sum() * 1e-9
        return loss.detach(), torch.autograd.grad(loss, [*numbers, v])

    now = start
    for step in range(20):
        now = solver.step(now, step)
    expected = result(now)
    for adjoint in (solve.DirectAdjoint(), solve.CheckpointAdjoint()):
        found = result(solve.rollout(solver, start, 20, adjoint=adjoint)[-1])
        assert abs(float(found[0] - expected[0])) < 1e-12 * abs(float(expected[0]))
        for a, b in zip(found[1], expected[1], strict=True):
            assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


def test_gradient_of_losses_against_differences() -> None:
    """200 steps of a falling block, float64: the adjoint to a few 1e-7 of central differences."""

    def value(viscosity: torch.Tensor, time: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        axis = 0.4 + 0.05 * torch.arange(4, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis - 0.25, axis)
        material = materials.rubber(2e4, 0.3)
        material.dissipation = materials.Dissipation(viscosity, time[None], share[None])
        model = mpm.MPMModel(num_grids=12, dt=1e-3, materials=[material], volume=1.25e-4, mass=0.125)
        state = mpm.MPMState.at_rest(x, torch.zeros_like(x) - 1.0, branches=1)
        last = solve.rollout(mpm.MPMSolver(model), state, 200, adjoint=solve.CheckpointAdjoint(), save_every=200)[-1]
        return (last.x[:, 0] - 0.5).square().sum() + last.x[:, 1].mean()

    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, 0.02, 0.4)]
    gradient = torch.autograd.grad(value(*at), at)
    for k, own in enumerate(gradient):
        h = 1e-5 * float(at[k].detach())
        with torch.no_grad():
            ends = [value(*(t + (s * h if j == k else 0.0) for j, t in enumerate(at))) for s in (1.0, -1.0)]
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5)


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="one of each a branch"):
        materials.Dissipation(0.0, (1.0,), (0.1, 0.2))
    with pytest.raises(ValueError, match="above 0"):
        materials.Dissipation(0.0, (0.0,), (0.1,))
