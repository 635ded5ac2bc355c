"""The layer on diffusion-sorption: accuracy with a basis that contains the truth, gradients, errors."""

import itertools

import numpy as np
import pytest
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, RowWeights
from simengine.solve.least_squares import LevenbergMarquardt
from simengine.solve.least_squares.adjoint import ImplicitAdjoint
from simengine.solve.solution import Result, SolveError

PDE = DiffusionSorption()
U0 = 0.07


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    return torch.tensor(PDE.solve(U0))


@pytest.fixture(scope="module")
def basis() -> torch.Tensor:
    """16 principal components of the solutions at 32 Chebyshev nodes in u0; they hold the truth to 1e-7."""
    nodes = 0.1 + 0.1 * np.cos(np.pi * (np.arange(32) + 0.5) / 32)
    snapshots = np.stack([PDE.solve(u0) for u0 in nodes]).reshape(32, -1)
    _, _, modes = np.linalg.svd(snapshots, full_matrices=False)
    return torch.tensor(modes[:16].T.reshape(1, *PDE.shape, 16) * modes.shape[1] ** 0.5).contiguous()


def relative(field: torch.Tensor, truth: torch.Tensor) -> float:
    return float((field - truth).norm() / truth.norm())


def test_the_generator_conserves_mass() -> None:
    # d/dt integral theta dx = D u_x(1) - D u_x(0); with u_x at the ends by the scheme's own ghost cells
    pde = DiffusionSorption(nt=2001, nx=64)
    u = pde.solve(0.1, rtol=1e-9)
    mass = pde.theta(torch.tensor(u), pde.sorption).sum(dim=1).numpy() / pde.nx
    left = pde.diffusivity * (u[:, 0] - 1) * 2 * pde.nx
    right = pde.diffusivity * (pde._outflow - 1) * u[:, -1] * pde.nx
    late = slice(400, None)  # the flux is smooth there, so the trapezoidal rule has an error of order dt^2
    flux = (right - left)[late]
    change = 0.5 * pde.dt * (flux[1:] + flux[:-1]).sum()
    assert mass[-1] - mass[400] == pytest.approx(change, rel=1e-6)


def test_residual_of_the_truth_falls_with_the_second_order_in_time(truth: torch.Tensor) -> None:
    # Crank-Nicolson: the residual of an exact solution, over dt, is of order dt^2
    norms = []
    for nt in (101, 201, 401):
        pde = DiffusionSorption(nt=nt, nx=32)
        u = torch.tensor(pde.solve(0.1, rtol=1e-10)).flatten()
        rows = pde.rows()
        late = rows.position // pde.nx * pde.dt > 250
        r = pde.residual(u[rows.index], rows.data, {})[late] / pde.dt
        norms.append(float(r.square().mean().sqrt()))
    slopes = [np.log2(a / b) for a, b in itertools.pairwise(norms)]
    assert slopes == pytest.approx([2.0, 2.0], abs=0.15)


@pytest.mark.parametrize("experts", [1, 4, 16])
def test_coupled_experts_find_the_truth(experts: int, basis: torch.Tensor, truth: torch.Tensor) -> None:
    layer = HardConstraint(PDE, Decomposition(counts=(1, experts)))
    with torch.no_grad():
        found = layer(basis, {"u0": torch.tensor([U0], dtype=torch.float64)})
    assert found.solution.success and int(found.solution.stats["num_iterations"].max()) <= 20
    assert relative(found.field[0], truth) < 1.5e-3  # measured 3e-4 to 5e-4: the time error of Crank-Nicolson
    jumps = layer.interface_jumps(basis, found.weights)
    assert jumps.numel() == 0 or float(jumps.abs().max()) < 1e-3  # of a range of 1


def test_independent_experts_do_not(basis: torch.Tensor, truth: torch.Tensor) -> None:
    # the published way: a block without a boundary knows its solution only up to what flows in
    layer = HardConstraint(PDE, Decomposition(counts=(1, 4), coupled=False))
    with torch.no_grad():
        found = layer(basis, {"u0": torch.tensor([U0], dtype=torch.float64)})
    assert relative(found.field[0], truth) > 0.1
    assert float(layer.interface_jumps(basis, found.weights).abs().max()) > 0.1
    assert found.solution.stats["status"].shape == (4,)


def small(requires_grad: bool = True) -> tuple[DiffusionSorption, torch.Tensor, dict[str, torch.Tensor]]:
    """A basis far from the truth, so that the residual at the optimum is large."""
    pde = DiffusionSorption(nt=12, nx=24)
    t = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
    x = ((torch.arange(24, dtype=torch.float64) + 0.5) / 24)[None]
    fields = [x**0 + 0 * t, x + 0 * t, torch.exp(-6 * x) + 0 * t, t * torch.exp(-2 * x), t * x]
    basis = torch.stack(fields, dim=-1).expand(2, -1, -1, -1).clone()
    parameters = {"u0": [0.05, 0.15], "D": [5e-4, 6e-4], "k": [3.5e-4, 3e-4]}
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in parameters.items()}
    if requires_grad:
        for leaf in (basis, *tensors.values()):
            leaf.requires_grad_()
    return pde, basis, tensors


@pytest.mark.parametrize("coupled", [True, False])
def test_gradients_against_finite_differences(coupled: bool) -> None:
    pde, basis, parameters = small()
    layer = HardConstraint(
        pde,
        Decomposition(counts=(1, 2), coupled=coupled),
        solver=LevenbergMarquardt(tolerance=1e-13, max_iterations=100),
        throw=True,
    )
    cotangent = torch.randn(2, *pde.shape, dtype=torch.float64)

    def value(basis: torch.Tensor, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return (layer(basis, parameters).field * cotangent).sum()

    found = layer(basis, parameters)
    assert float(found.solution.stats["cost"].max()) > 1e-2  # the residual does not vanish
    leaves = {"basis": basis, **parameters}
    gradients = dict(zip(leaves, torch.autograd.grad(value(basis, parameters), leaves.values()), strict=True))
    for name, leaf in leaves.items():
        direction = torch.randn_like(leaf) * leaf.detach().abs().mean()
        h = 1e-8 if name == "basis" else 1e-5  # the basis bends the minimum: at 1e-7 a difference is 1e-4 off
        moved = [{**leaves, name: (leaf + sign * h * direction).detach()} for sign in (1, -1)]
        with torch.no_grad():
            ends = [value(m["basis"], {k: m[k] for k in parameters}) for m in moved]
        difference = float(ends[0] - ends[1]) / (2 * h)
        # the aim is 1e-4; measured 1e-7 or better
        assert float((gradients[name] * direction).sum()) == pytest.approx(difference, rel=1e-5)


def test_fast_linearisation_is_that_of_the_cost() -> None:
    pde, basis, parameters = small()
    layer = HardConstraint(pde, Decomposition(counts=(1, 3)))
    from simengine.constraint.system import ExpertSystem

    system = ExpertSystem(pde, layer.blocks, pde.table(basis), None, parameters, coupled=True, weights=layer.weights)
    y = torch.randn(2, 15, dtype=torch.float64)
    lin = system.linearise(y, torch.arange(2))
    gradient = system.optimality(y, system.tensors).detach()
    assert torch.allclose(lin["gradient"], gradient, rtol=1e-10, atol=1e-10 * float(gradient.abs().max()))
    one = system.linearise(y[1:], torch.tensor([1]))
    assert torch.allclose(one["gradient"][0], gradient[1], rtol=1e-10, atol=1e-10 * float(gradient.abs().max()))
    # J^T J of all rows by forward mode through the residuals' squares: Gauss-Newton matrix of a linear PDE
    linear = DiffusionSorption(nt=12, nx=24, sorption=0.0)
    without_k = {"u0": parameters["u0"].detach()}
    system = ExpertSystem(
        linear, layer.blocks, linear.table(basis), None, without_k, coupled=True, weights=layer.weights
    )
    which = torch.arange(2)
    lin = system.linearise(y, which)
    hessian = torch.autograd.functional.hessian(lambda z: system._cost(z, system.tensors, which)[1], y)[1, :, 1]
    dense = torch.block_diag(*lin["blocks"][1])
    for k in range(2):
        dense[5 * k + 5 : 5 * k + 10, 5 * k : 5 * k + 5] = lin["lower"][1, k]
        dense[5 * k : 5 * k + 5, 5 * k + 5 : 5 * k + 10] = lin["lower"][1, k].T
    assert torch.allclose(dense, hessian, rtol=1e-9, atol=1e-9 * float(hessian.abs().max()))


def test_failures_speak() -> None:
    pde, basis, parameters = small()
    with pytest.raises(ValueError, match=r"basis: expected shape \(samples, 12, 24, n\), got \(2, 12, 24\)"):
        HardConstraint(pde)(basis[..., 0], parameters)
    with pytest.raises(ValueError, match="expected float64"):
        HardConstraint(pde)(basis.float(), parameters)
    with pytest.raises(ValueError, match=r"parameters\['u0'\]: expected shape \(2, ...\)"):
        HardConstraint(pde)(basis, {"u0": torch.tensor(0.1)})
    with pytest.raises(ValueError, match="counts: expected one number per axis"):
        HardConstraint(pde, Decomposition(counts=(4,)))
    with pytest.raises(ValueError, match="expected 1 to 24 blocks"):
        HardConstraint(pde, Decomposition(counts=(1, 25)))
    bad = basis.detach().clone()
    bad[1, 5, 5, 0] = torch.nan
    found = HardConstraint(pde)(bad, parameters)
    assert found.solution.stats["status"].tolist() == [Result.SUCCESS, Result.NONFINITE]
    with pytest.raises(SolveError, match=r"problems \[1\]"):
        found.field.sum().backward()
    with pytest.raises(SolveError, match=r"problems \[1\] of 2"):
        HardConstraint(pde, throw=True)(bad, parameters)


def test_second_derivatives_are_refused() -> None:
    pde, basis, parameters = small()
    found = HardConstraint(pde, adjoint=ImplicitAdjoint())(basis, parameters)
    with pytest.raises(RuntimeError, match="once differentiable"):
        found.field.sum().backward(create_graph=True)


def test_twins_in_the_basis_are_reported() -> None:
    pde, basis, parameters = small(requires_grad=False)
    twins = torch.cat([basis, basis[..., :1]], dim=-1)
    assert (
        HardConstraint(pde, weights=RowWeights(ridge=0.0))(twins, parameters).solution.result is Result.RANK_DEFICIENT
    )
    assert HardConstraint(pde, weights=RowWeights(ridge=1e-2))(twins, parameters).solution.success


def test_the_first_intervals_are_implicit_euler_where_asked_for() -> None:
    """theta(u1) - theta(u0) - dt D u1'' on the first of them, and the mean of both ends' on the next; in the middle."""
    pde = DiffusionSorption(nt=9, nx=8, skip=1, implicit=1)
    u = torch.rand(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = pde.rows()
    r = pde.residual(u.flatten()[rows.index], rows.data, {})
    second = pde.diffusivity * pde.nx**2 * pde.dt * (u[:, 2:] - 2 * u[:, 1:-1] + u[:, :-2])
    grown = (pde.theta(u[1:], pde.sorption) - pde.theta(u[:-1], pde.sorption))[:, 1:-1]
    place = {int(p): k for k, p in enumerate(rows.position)}
    for step, mean in ((1, second[2]), (2, (second[2] + second[3]) / 2)):
        found = torch.stack([r[place[(step + 1) * 8 + cell]] for cell in range(1, 7)])
        torch.testing.assert_close(found, grown[step] - mean, rtol=1e-12, atol=1e-14)
