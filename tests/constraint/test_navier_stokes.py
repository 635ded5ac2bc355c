"""Navier-Stokes: the data generator against closed forms and itself, the layer, the velocity of the stitched field."""

import itertools
import math

import numpy as np
import pytest
import torch

from simengine.constraint import Decomposition, HardConstraint, NavierStokes
from simengine.constraint.basis import principal_basis
from simengine.constraint.navier_stokes import spectral_operators
from simengine.constraint.system import ExpertSystem
from simengine.solve.least_squares import LevenbergMarquardt

PERIODIC = (False, True, True)


def relative(field: torch.Tensor, truth: torch.Tensor) -> float:
    return float((field - truth).norm() / truth.norm())


def _interpolated(w0: torch.Tensor, size: int) -> torch.Tensor:
    """The same trigonometric polynomials on a finer grid; without the Nyquist frequency."""
    n, half = w0.shape[1], w0.shape[1] // 2
    hat = torch.zeros(len(w0), size, size // 2 + 1, dtype=torch.complex128)
    coarse = torch.fft.rfft2(w0)
    hat[:, :half, :half], hat[:, 1 - half :, :half] = coarse[:, :half, :half], coarse[:, 1 - half :, :half]
    return torch.fft.irfft2(hat, s=(size, size)) * (size / n) ** 2


def test_an_eigenfunction_decays_as_it_must() -> None:
    # cos 2 pi x cos 2 pi y is carried along its own stream lines, so only diffusion acts: exp(-8 pi^2 nu t)
    pde = NavierStokes(nt=5, size=16, duration=2.0, viscosity=1e-2)
    angle = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    w0 = angle.cos()[:, None] * angle.cos()
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    truth = torch.exp(-8 * math.pi**2 * 1e-2 * t)[:, None, None] * w0
    assert relative(pde.solve(w0[None], step=0.1)[0], truth) < 1e-13


def test_generator_converges_in_time_and_space_and_conserves() -> None:
    pde = NavierStokes(nt=3, size=32, duration=1.0, time_order=2)
    w0 = pde.draw(2, torch.Generator().manual_seed(3))["w0"]
    truth = pde.solve(w0, step=1e-2)
    errors = [relative(pde.solve(w0, step=h), truth) for h in (0.125, 0.0625)]  # asymptotic: half a step more is 4.2
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.15)
    assert relative(pde.solve(w0), truth) < 1e-6  # the default step
    fine = NavierStokes(nt=3, size=64, duration=1.0, time_order=2)
    finer = fine.solve(_interpolated(w0, 64))[:, :, ::2, ::2]
    assert relative(truth, finer) < 2e-5  # 1e-2 of what frequencies below a third of 32 would leave
    assert float(truth.mean(dim=(2, 3)).abs().max()) < 1e-14
    # enstrophy falls at the rate of the palinstrophy, d/dt <w^2>/2 = -nu <|grad w|^2>
    ops = spectral_operators(32)
    gradients = [torch.fft.irfft2(torch.fft.rfft2(truth) * ops[name], s=(32, 32)) for name in ("x", "y")]
    loss = 1e-4 * sum(g.square().mean(dim=(2, 3)) for g in gradients)
    enstrophy = 0.5 * truth.square().mean(dim=(2, 3))
    mean_loss = (loss[:, 0] + 4 * loss[:, 1] + loss[:, 2]) / 6  # Simpson's rule
    assert torch.allclose(enstrophy[:, 0] - enstrophy[:, 2], mean_loss, rtol=2e-3)


def test_velocity_belongs_to_the_vorticity() -> None:
    w = NavierStokes(nt=2, time_order=2, size=16).draw(1, torch.Generator().manual_seed(0))["w0"]
    hat, ops = torch.fft.rfft2(w), spectral_operators(16)
    divergence = ops["x"] * ops["u"] + ops["y"] * ops["v"]
    curl = ops["x"] * ops["v"] - ops["y"] * ops["u"]
    assert float((divergence * hat).abs().max()) < 1e-12 * float(hat.abs().max())
    kept = torch.ones(16, 9, dtype=torch.bool)
    kept[8], kept[:, 8], kept[0, 0] = False, False, False  # first derivatives drop the Nyquist frequency
    assert torch.allclose((curl * hat)[:, kept], hat[:, kept], rtol=1e-12)


@pytest.mark.parametrize(("order", "times"), [(2, (6, 11, 21)), (4, (11, 21))])  # then the error in space is larger
def test_residual_of_the_truth_falls_with_the_order_of_the_rule(order: int, times: tuple[int, ...]) -> None:
    norms = []
    for nt in times:
        pde = NavierStokes(nt=nt, size=48, duration=1.0, time_order=order)
        field = pde.solve(pde.draw(1, torch.Generator().manual_seed(1))["w0"], step=5e-3)
        rows, table = pde.rows(), pde.table(field.unsqueeze(-1))[..., 0]
        norms.append(float(pde.residual(table[:, rows.index], rows.data, {}).square().mean().sqrt()) / pde.dt)
    slopes = [np.log2(a / b) for a, b in itertools.pairwise(norms)]
    assert slopes == pytest.approx([order] * len(slopes), abs=0.15)  # 4.06 to 4.09 over six draws


def test_table_is_that_of_fourier_transforms() -> None:
    pde = NavierStokes(nt=6, size=8, time_order=2)
    w = torch.randn(2, 6, 8, 8, 3, dtype=torch.float64)
    hat, ops = torch.fft.rfft2(w, dim=(2, 3)), spectral_operators(8)
    expected = {name: torch.fft.irfft2(hat * op.unsqueeze(-1), s=(8, 8), dim=(2, 3)) for name, op in ops.items()}
    half = 0.5 * pde.dt * pde.viscosity * expected["laplacian"]
    for leaf in (w, w.clone().requires_grad_()):  # piece by piece, and as a whole
        table = pde.table(leaf).detach().unflatten(1, (6, *pde.shape))
        assert torch.equal(table[:, 0], w)
        assert torch.allclose(table[:, 1, 1:], (w - half)[:, 1:] - (w + half)[:, :-1], rtol=0, atol=1e-12)
        for k, name in enumerate(("x", "y", "u", "v"), start=2):
            assert torch.allclose(table[:, k], expected[name], rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def case() -> tuple[NavierStokes, torch.Tensor, torch.Tensor]:
    pde = NavierStokes(nt=21, size=16, duration=1.0)
    truth = pde.solve(pde.draw(8, torch.Generator().manual_seed(0))["w0"], step=1e-2)
    return pde, truth, principal_basis(truth, 8)


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (1, 4, 4)])
def test_coupled_experts_find_the_truth(
    counts: tuple[int, int, int], case: tuple[NavierStokes, torch.Tensor, torch.Tensor]
) -> None:
    pde, truth, basis = case
    layer = HardConstraint(pde, Decomposition(counts=counts, periodic=PERIODIC))
    with torch.no_grad():
        found = layer(basis, {"w0": truth[:1, 0]})
    assert found.solution.success and int(found.solution.stats["num_iterations"].max()) <= 20
    # the time error of Crank-Nicolson at dt = 0.05; measured 2.8e-4 to 3.4e-4, whatever the number of experts
    assert relative(found.field[0], truth[0]) < 5e-4
    jumps = layer.interface_jumps(basis, found.weights)
    assert jumps.numel() == 0 or float(jumps.abs().max()) < 1e-3 * float(truth[0].max() - truth[0].min())


def test_gradients_through_the_stitched_velocity() -> None:
    pde = NavierStokes(nt=5, size=8, duration=1.0)
    members = pde.draw(2, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    basis = pde.solve(pde.draw(5, generator)["w0"], step=0.05).movedim(0, -1)[None].repeat(2, 1, 1, 1, 1)
    basis = (basis + 0.1 * torch.randn(basis.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    w0 = members["w0"].requires_grad_()
    layer = HardConstraint(
        pde,
        Decomposition(counts=(1, 2, 2), periodic=PERIODIC),
        solver=LevenbergMarquardt(tolerance=1e-13, max_iterations=200),
    )
    cotangent = torch.randn(2, *pde.shape, generator=generator, dtype=torch.float64)

    def value(basis: torch.Tensor, w0: torch.Tensor) -> torch.Tensor:
        return (layer(basis, {"w0": w0}).field * cotangent).sum()

    found = layer(basis, {"w0": w0})
    assert found.solution.success and float(found.solution.stats["cost"].min()) > 1e-3  # the residual does not vanish
    gradients = torch.autograd.grad(value(basis, w0), (basis, w0))
    for k, leaf in enumerate((basis, w0)):
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ends = [value(*(x + s * 1e-6 * direction if x is leaf else x for x in (basis, w0))) for s in (1, -1)]
        assert float((gradients[k] * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_the_velocity_is_that_of_the_stitched_field() -> None:
    pde = NavierStokes(nt=3, time_order=2, size=8, duration=0.5)
    basis = torch.randn(1, *pde.shape, 2, dtype=torch.float64)
    layer = HardConstraint(pde, Decomposition(counts=(1, 2, 1), periodic=PERIODIC))
    w0 = pde.draw(1, torch.Generator().manual_seed(0))["w0"]
    system = ExpertSystem(pde, layer.blocks, pde.table(basis), None, {"w0": w0}, coupled=True, weights=layer.weights)
    weights = torch.randn(1, 2, 2, dtype=torch.float64)
    cost = float(system.cost(weights.flatten(1), torch.arange(1)))
    # the same by hand: every block's own derivatives, the velocity of the field put together from both
    stitched = pde.table(layer.stitch(basis, weights).unsqueeze(-1))[0, :, 0]
    own = [pde.table(basis @ weights[:, k, :, None])[0, :, 0] for k in range(2)]
    rows, points = pde.rows(), math.prod(pde.shape)
    total = 0.0
    for k in range(2):
        mixed = torch.cat([own[k][: 4 * points], stitched[4 * points :]])
        mine = layer.blocks.owner[rows.position] == k
        total += float(pde.residual(mixed[rows.index], rows.data, {})[mine].square().sum())
    start = (layer.stitch(basis, weights)[0, 0] - w0[0]).square().sum()
    touching = layer.interface_jumps(basis, weights).square().sum() * 100  # interface rows weigh 10
    ridge = 1e-16 * weights.square().sum()
    assert cost == pytest.approx(0.5 * float(total + start + touching + ridge), rel=1e-12)


def test_hints_are_the_taylor_series() -> None:
    remainders = []
    for duration in (0.2, 0.1):
        pde = NavierStokes(nt=2, time_order=2, size=32, duration=duration)
        members = pde.draw(1, torch.Generator().manual_seed(2))
        last = pde.solve(members["w0"], step=2.5e-3)[0, -1]
        first, second = pde.hints(members)[0, -1].unbind(-1)
        rest = last - members["w0"][0] - duration * first - duration**2 * second
        powers = duration ** torch.arange(1, 5, dtype=torch.float64)
        longer = last - members["w0"][0] - torch.einsum("q,qyx->yx", powers, pde.series(members["w0"], 4)[:, 0])
        remainders.append([float(rest.norm()), float(longer.norm())])
    slopes = np.log2(np.divide(*remainders))
    assert slopes == pytest.approx([3.0, 5.0], abs=0.2)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="even size >= 4, got nt=8, size=7"):
        NavierStokes(nt=8, size=7)
    with pytest.raises(RuntimeError, match="shorten `step`"):
        pde = NavierStokes(nt=3, time_order=2, size=16, duration=200.0)
        pde.solve(100 * pde.draw(1, torch.Generator().manual_seed(0))["w0"], step=1.0)
