"""Case 1: the simplified flame against an independent high-order solver, its gradients against differences."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.equations.simplified import PARAMETERS, SimplifiedFlame
from simengine.flame.solver.solve import SpectralSolver
from simengine.flame.solver.spectral import (
    SpectralMesh,
    SpectralProblem,
    chebyshev,
    coefficients_matrix,
    interpolation_matrix,
)
from simengine.solve.solution import SolveError

SHARP = SpectralSolver(resolution=1e-8)


def _t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_differentiation_and_interpolation_are_exact_for_polynomials() -> None:
    x, _, d = chebyshev(9)
    assert torch.allclose(d @ x**8, 8 * x**7, atol=1e-12)
    at = torch.tensor([-1.0, -0.3, 0.0, 0.77, 1.0], dtype=torch.float64)
    assert torch.allclose(interpolation_matrix(9, at) @ x**8, at**8, atol=1e-14)


def test_jacobian_is_the_derivative_of_the_residual() -> None:
    flame = SimplifiedFlame(phi=torch.tensor([0.42, 0.6], dtype=torch.float64))
    problem = SpectralProblem(flame, SpectralMesh(flame.edges()[:, :4], 5, 0))
    state = problem.pack(*flame.guess(problem.mesh.x))
    full = torch.autograd.functional.jacobian(problem.residual, state)  # (b, K, n, b, K, n)
    blocks = problem.linearise(state)[1].dense()
    for k in range(2):
        by_autograd = full[k, ..., k, :, :].reshape(blocks.shape[1:])
        assert torch.allclose(by_autograd, blocks[k], rtol=1e-11, atol=1e-9 * float(by_autograd.abs().max()))


# sL from two independent high-order solvers that agree to 1e-11; the last is printed to 8 digits
@pytest.mark.parametrize(
    ("phi", "p", "sL"),
    [(0.42, 1.0, 0.29278611206), (0.44, 1.0, 0.31797979871), (0.50, 1.0, 0.39434991), (0.42, 1.2, 0.28240800)],
)
@pytest.mark.numeric
def test_flame_speed(phi: float, p: float, sL: float) -> None:
    flame = SimplifiedFlame(phi=_t(phi), p=_t(p * 101325))
    solution = SHARP.solve(flame)
    assert float(solution.value.eigenvalue[0]) == pytest.approx(sL, rel=3e-8)  # 1.1e-8 at worst: rounding of the table
    assert float(solution.stats["error"]) < 1e-8


def test_default_resolution_and_a_batch_agree_with_single_flames() -> None:
    phi = torch.tensor([0.42, 0.44, 0.50], dtype=torch.float64)
    batch = SpectralSolver().solve(SimplifiedFlame(phi=phi)).value.eigenvalue
    truth = torch.tensor([0.29278611206, 0.31797979871, 0.39434991], dtype=torch.float64)
    assert torch.allclose(batch, truth, rtol=5e-7, atol=0)  # resolution 1e-7; measured 2.5e-7


@pytest.mark.numeric
def test_profile_against_independent_solver(table) -> None:
    reference = table("simplified_flame")  # to 0.9 mm
    flame = SHARP.solve(SimplifiedFlame()).value
    # The reference ends at 1.5 mm with an approximate condition, which a layer of 0.07 mm carries upstream: 0.3 K at
    # the end, 6e-6 K at 0.9 mm. Ours goes on to where nothing happens any more.
    profiles = flame.profiles(torch.tensor(reference["x"]))
    for name, key in {"T": "T", "u": "u", "rho": "rho", "Y_F": "YF"}.items():
        expected = reference[key]
        error = np.linalg.norm(profiles[name][0].numpy() - expected) / np.linalg.norm(expected)
        assert error < 1e-8, name


def test_mass_momentum_and_energy_are_conserved() -> None:
    flame = SHARP.solve(SimplifiedFlame()).value
    model = flame.flame
    p = flame.profiles(flame.x)
    mass = p["rho"] * p["u"]  # = rho_in sL
    assert float((mass / (model.rho_in * flame.eigenvalue) - 1).abs().max()) < 1e-12
    gas = 8.3145 / model.W
    impulse = p["rho"] * gas * p["T"] + mass * p["u"]  # p + rho u^2
    assert float((impulse / impulse[:, :1] - 1).abs().max()) < 1e-12
    # Integrated energy: rho_in sL cp (T(L) - T_in) + lam T'(0) - lam T'(L) = qF int omega dx
    x, _, _ = chebyshev(flame.problem.mesh.n)
    n = len(x)
    moments = torch.tensor([0.0 if k % 2 else 2 / (1 - k * k) for k in range(n)], dtype=torch.float64)
    weights = moments @ coefficients_matrix(n)
    half = flame.problem.mesh.edges.diff(dim=1)[0, :, None] / 2
    heat = float((p["omega"].reshape(-1, n) * weights * half).sum() * model.qF)
    T = p["T"][0]
    taken = float(model.rho_in * flame.eigenvalue * model.cp * (T[-1] - T[0]) + model.lam * model.gradient)
    assert heat == pytest.approx(taken, rel=1e-7)


@pytest.mark.numeric
def test_sensitivities_of_the_flame_speed() -> None:
    stated = json.loads((Path(__file__).parents[2] / "data" / "simplified_flame_sensitivities.json").read_text())
    leaves = {name: value.clone().requires_grad_() for name, value in SimplifiedFlame().parameters().items()}
    SHARP.solve(SimplifiedFlame(**leaves)).value.eigenvalue.log().sum().backward()
    for key, value in stated.items():
        leaf = leaves[{"Tin": "T_in", "g": "gradient"}.get(key, key)]
        assert float(leaf.grad * leaf.detach()) == pytest.approx(value, abs=1e-5), key


def test_gradients_of_eigenvalue_and_field_against_differences() -> None:
    at = torch.tensor([3e-4, 6e-4], dtype=torch.float64)
    mesh = SHARP.solve(SimplifiedFlame()).value

    def figure(flame: SimplifiedFlame) -> torch.Tensor:
        found = SHARP.solve(flame, start=mesh).value
        return found.eigenvalue.log().sum() + found.at(at).log().sum()

    leaves = {name: value.clone().requires_grad_() for name, value in SimplifiedFlame().parameters().items()}
    figure(SimplifiedFlame(**leaves)).backward()
    for name in PARAMETERS:
        value, h = leaves[name].detach(), 1e-4
        ahead, behind = (figure(SimplifiedFlame().replace(**{name: value * (1 + s * h)})) for s in (1, -1))
        slope = float(ahead - behind) / (2 * h)
        # central differences: h^2 times a third derivative of order 10 to 100, so 1e-6 on values of order 1 to 30
        assert float(leaves[name].grad * value) == pytest.approx(slope, abs=2e-6, rel=1e-6), name


def test_wrong_parameters_and_points_are_named() -> None:
    with pytest.raises(ValueError, match="lam: expected positive"):
        SimplifiedFlame(lam=_t(-1.0))
    with pytest.raises(ValueError, match="no parameter of this flame"):
        SimplifiedFlame().replace(viscosity=_t(1.0))
    with pytest.raises(ValueError, match="agree in b"):
        SimplifiedFlame(phi=torch.ones(2), p=torch.ones(3))
    with pytest.raises(ValueError, match="expected points within"):
        SpectralSolver().solve(SimplifiedFlame()).value.at(torch.tensor([1.0]))


def test_an_impossible_flame_is_an_error_not_a_cold_solution() -> None:
    with pytest.raises(SolveError):  # no reaction worth the name: nothing moves at more than 1 mm/s
        SpectralSolver(max_elements=20).solve(SimplifiedFlame(A=_t(1e-3)))


@pytest.mark.parametrize("wrong", [torch.tensor(0.0), torch.tensor([0.5, 0.0]), torch.full((1, 2), 0.5)])
def test_a_parameter_that_is_not_positive_or_has_two_axes_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"phi: expected positive numbers of shape \(\) or \(b,\)"):
        SimplifiedFlame(phi=wrong.double())
