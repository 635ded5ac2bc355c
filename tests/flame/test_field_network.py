"""Networks for flames of real gases: exact conditions, exact Jacobians and gradients, the flame they find."""

import pytest
import torch

from simengine.flame.counterflow import CounterflowFlame
from simengine.flame.detailed import Mixture
from simengine.flame.field_network import FieldNetwork, spread_cells
from simengine.flame.free import FreeFlame
from simengine.flame.gas import Gas
from simengine.flame.integral_residual import IntegralResidual
from simengine.flame.mechanism_yaml import load_mechanism
from simengine.flame.network_training import NetworkTrainer
from simengine.flame.published_network import PublishedNetwork
from simengine.flame.solver import GridSolver, SpectralSolver


def _t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-8)


def _flame(gas: Gas, kind: type[FreeFlame] | type[CounterflowFlame]) -> FreeFlame | CounterflowFlame:
    return kind(gas=gas, mixture=Mixture({"CH4": 1.0}), phi=_t(0.8), p=_t(101325.0), T_in=_t(300.0))


@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_conditions_and_sums_hold_for_any_weights(gas: Gas, kind: type[FreeFlame]) -> None:
    flame = _flame(gas, kind)
    network = FieldNetwork(flame, width=6)
    theta = 30 * network.initial(0)
    x = spread_cells(network, torch.zeros_like(theta), 20)
    y, dy = network.fields(theta, network.at(x))
    first = flame.fields.index("T") + 1
    assert torch.allclose(y[:, first:].sum(1), torch.ones(21, dtype=torch.float64), atol=1e-12)
    assert float(dy[:, first:].sum(1).abs().max()) < 1e-9 * float(dy[:, first:].abs().max())
    plain, _ = network.fields(torch.zeros_like(theta), network.at(x))
    assert torch.allclose(y[0], plain[0], atol=1e-12)  # what the inlet prescribes
    if network.layer is None:
        assert torch.allclose(y[-1], plain[-1], atol=1e-9)


def test_slopes_are_those_of_the_fields(gas: Gas) -> None:
    network = FieldNetwork(_flame(gas, FreeFlame), width=6)
    theta = network.initial(1)
    x, h = torch.linspace(-3e-4, 5e-4, 9, dtype=torch.float64), 1e-9
    ahead, behind = (network.fields(theta, network.at(x + s * h))[0] for s in (1, -1))
    _, dy = network.fields(theta, network.at(x))
    assert torch.allclose(dy, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6 * float(dy.abs().max()))


@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_jacobian_and_gradient_of_the_residual(gas: Gas, kind: type[FreeFlame]) -> None:
    network = FieldNetwork(_flame(gas, kind), width=3, sought={"Ea-0": 9e4})
    theta = network.initial(2)
    residual = IntegralResidual(network, spread_cells(network, torch.zeros_like(theta), 6))
    r, j = residual.linearise(theta)
    assert torch.allclose(r, residual(theta), rtol=1e-10)
    for k in (0, 5, network.num_weights - 1, network.num_weights, network.num_weights + 1):
        unit = torch.zeros_like(theta)
        unit[k] = 1e-6
        with torch.no_grad():
            column = (residual(theta + unit) - residual(theta - unit)) / 2e-6
        # central differences of numbers up to 1e3 over 1e-6: 1e-7 of the column, and third derivatives
        assert float((column - j[:, k]).norm()) <= 1e-5 * float(column.norm()) + 1e-9, k
    loss, gradient = residual.gradient(theta)
    assert float(loss) == pytest.approx(float(r.square().mean()))
    known = network.num_weights + 1  # the gradient is in weights and eigenvalue
    assert torch.allclose(gradient[:known], (2 * j.T @ r / len(r))[:known], rtol=1e-6, atol=1e-9 * float(r.norm()))


def test_a_wrong_branch_does_not_pass(gas: Gas) -> None:
    network = FieldNetwork(_flame(gas, FreeFlame), width=6)
    trainer = NetworkTrainer(network=network, cells=20)
    assert not trainer.result.check(cells=60)["ok"]


def test_first_order_steps_and_an_unknown_package(gas: Gas) -> None:
    network = FieldNetwork(_flame(gas, FreeFlame), width=4)
    trainer = NetworkTrainer(network=network, cells=12, optimiser="adam")
    losses = [trainer.step() for _ in range(15)]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="no parameter of this flame"):
        FieldNetwork(_flame(gas, FreeFlame), sought={"viscosity": 1.0})


def test_published_network_takes_steps(gas: Gas) -> None:
    network = PublishedNetwork(_flame(gas, FreeFlame), points=10)
    network.warm_up(2)
    x = network.sample()
    y = network(x)
    assert torch.allclose(y[:, 1:].sum(1), torch.ones(10, dtype=torch.float64))
    assert bool((y[:, 0] >= 300.0).all())
    before = network.step()
    assert before > 0 and network.log_flux.grad is not None


@pytest.mark.slow
def test_a_short_training_finds_the_flame(gas: Gas) -> None:
    flame = _flame(gas, FreeFlame)
    truth = SpectralSolver(resolution=1e-5).solve(flame).value
    coarse = GridSolver().set_refine_criteria(slope=0.15, curve=0.3).solve(flame).value
    network = FieldNetwork(flame, width=28)
    trainer = NetworkTrainer(network=network, cells=80)
    x = spread_cells(network, torch.zeros_like(trainer.theta), 150)
    x = x.clamp(float(coarse.x.min()), float(coarse.x.max()))
    trainer.warm_start(x, coarse.at(x)[0], float(coarse.eigenvalue[0]), steps=60)
    for _ in range(6):
        trainer.step()
    at = torch.linspace(-5e-4, 1.5e-3, 400, dtype=torch.float64)
    found, exact = trainer.result.profiles(at), truth.profiles(at)
    assert float(trainer.result.eigenvalue[0]) == pytest.approx(float(truth.eigenvalue[0]), rel=2e-4)
    for name in ("T", "u", "rho", "CH4", "O2", "CO2", "H2O", "N2"):
        assert float((found[name] - exact[name]).norm() / exact[name].norm()) < 1e-3, name
