"""The network of an unknown heat loss: its form, its derivatives, what a burner's flame tells of it, its formula."""

import dataclasses

import pytest
import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.heat_loss import coefficient, lost, read_out
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver
from simengine.scene.base import SceneError
from simengine.scene.loader import load_scene

UNITS = torch.tensor([1000.0, 1150.0, 1300.0, 1450.0, 1600.0, 1750.0, 1900.0], dtype=torch.float64)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def burner(weights: torch.Tensor, **more) -> BurnerFlame:
    return BurnerFlame(
        gas=Gas(load_mechanism("methane_1step"), smoothing=1e-7),
        mixture=Mixture({"CH4": 1.0}),
        phi=scalar(0.9),
        p=scalar(101325.0),
        T_in=scalar(300.0),
        mass_flux=scalar(0.1),
        length=0.05,
        heat_loss=weights,
        heat_loss_units=UNITS,
        **more,
    )


def test_the_network_lies_between_its_weights_and_is_flat_far_from_them() -> None:
    weights = torch.linspace(500.0, 1500.0, 7, dtype=torch.float64)
    c = coefficient(UNITS, weights, torch.linspace(300.0, 3000.0, 200, dtype=torch.float64))
    assert bool((c.diff() > -1e-9).all())  # rising weights, a rising network
    assert float(c[0]) == pytest.approx(500.0, rel=1e-3)
    assert float(c[-1]) == pytest.approx(1500.0, rel=1e-3)
    even = coefficient(UNITS, torch.full((7,), 700.0, dtype=torch.float64), torch.tensor([310.0, 1234.0]).double())
    assert torch.allclose(even, torch.full_like(even, 700.0), rtol=1e-12)


def test_local_jacobian_is_the_derivative() -> None:
    flame = burner(torch.linspace(500.0, 1500.0, 7, dtype=torch.float64), radiation="optically_thin")
    generator, K = torch.Generator().manual_seed(0), len(flame.gas.W)
    Y = torch.rand((1, 1, 4, K), dtype=torch.float64, generator=generator)
    T = 300 + 1800 * torch.rand((1, 1, 4, 1), dtype=torch.float64, generator=generator)
    y = torch.cat((T, Y / Y.sum(-1, keepdim=True)), -1)
    dy = torch.rand((1, 1, 4, 1 + K), dtype=torch.float64, generator=generator) - 0.5
    z = torch.full((1, 1, 4, 1), 0.1, dtype=torch.float64)
    _, jacobian = flame.local_jacobian(y, dy, z)
    _, full = local_jacobian(flame.flux_and_source, y, dy, z)
    size = full.abs().amax(-1, keepdim=True)
    assert float(((jacobian - full).abs() / size.clamp_min(1e-300)).max()) < 1e-10
    without = dataclasses.replace(flame, radiation=None, heat_loss=torch.zeros(7, dtype=torch.float64))
    assert float(lost(without, T[..., 0], y[..., 1:]).abs().max()) == 0.0


def test_gradients_of_the_flame_are_those_of_differences() -> None:
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
    weights = torch.full((7,), 1000.0, dtype=torch.float64, requires_grad=True)
    solution = solver.solve(burner(weights)).value
    end = solution.y[0, -1, 0]
    (slope,) = torch.autograd.grad(end, weights)
    assert float(slope.sum()) < 0  # what is lost cools the burnt gas
    values = []
    for sign in (1, -1):
        moved = weights.detach() + sign * torch.linspace(-0.5, 1.0, 7, dtype=torch.float64)
        values.append(float(solver.solve(burner(moved), start=solution).value.y[0, -1, 0]))
    along = float(slope @ torch.linspace(-0.5, 1.0, 7, dtype=torch.float64))
    assert along == pytest.approx(0.5 * (values[0] - values[1]), rel=1e-6)


def test_a_formula_is_read_out() -> None:
    T_in, a, b = 300.0, 800.0, 6e-8
    true = a + b * (UNITS**4 - T_in**4) / (UNITS - T_in)
    covariance = torch.diag((0.01 * true).square())
    noise = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    terms = {term.name: term for term in read_out(UNITS, true * (1 + 0.01 * noise), covariance, T_in)}
    assert set(terms) == {"conduction", "radiation"}
    assert abs(terms["conduction"].value - a) < 3 * terms["conduction"].sd
    assert abs(terms["radiation"].value - b) < 3 * terms["radiation"].sd
    (alone,) = read_out(UNITS, (true - a) * (1 + 0.01 * noise), covariance, T_in)
    assert alone.name == "radiation"
    assert not read_out(UNITS, 0 * true, covariance, T_in)
    with pytest.raises(ValueError, match="give more"):
        read_out(UNITS[:3], true[:3], covariance[:3, :3], T_in)


def test_knots_that_do_not_grow_are_refused() -> None:
    with pytest.raises(SceneError, match=r"knots: expected growing temperatures"):
        load_scene("burner_heat_loss", ["flame.heat_loss.knots=[1000.0, 900.0]", "flame.heat_loss.values=[0.0, 0.0]"])


@pytest.mark.slow
def test_recovery_a_burner_tells_a_loss_that_nobody_wrote_down() -> None:
    """A twin: made by light of CO2 and H2O at twice the resolution; the fit knows nothing of light."""
    scene = load_scene("burner_heat_loss")
    problem = Problem(scene)
    training = LeastSquaresFit(problem)
    while not training.converged:
        training.step()
    found = posterior(problem, training.z, problem.predict(training.z)).estimates
    truth = load_scene("burner_heat_loss", ['flame.radiation="optically_thin"', "flame.heat_loss.values=0.0"])
    flame = truth.world.solution()
    behind = flame.x[0] > 2e-3
    T, Y = flame.field("T")[0][behind], flame.y[0, behind, 1:]
    c = (lost(flame.flame, T[None, None], Y[None, None])[0, 0] / (T - 300.0)).detach()
    for k, knot in enumerate(scene.world.flame.heat_loss.knots[:5]):  # the last two are hotter than the burnt gas
        estimate = found[f"flame.heat_loss {k}"]
        nearest = int((T - knot).abs().argmin())
        assert float(T[nearest]) == pytest.approx(knot, abs=25.0)
        assert abs(estimate.value - float(c[nearest])) < 3 * estimate.std + 0.01 * float(c[nearest]), k
