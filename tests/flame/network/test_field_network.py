"""Networks for flames of real gases: exact conditions, exact Jacobians and gradients, the flame they find."""

from collections.abc import Iterator

import pytest
import torch

from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.network.field_network import FieldNetwork, spread
from simengine.flame.network.integral_residual import IntegralResidual
from simengine.flame.network.soap import Soap
from simengine.flame.network.training import NetworkTrainer, Optimiser, TrainedFields
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver

Kind = type[FreeFlame] | type[CounterflowFlame]
MESHES = {FreeFlame: (-5e-4, 1.5e-3), CounterflowFlame: (0.0, 0.02)}


def _t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-8)


def _flame(gas: Gas, kind: Kind) -> FreeFlame | CounterflowFlame:
    return kind(gas=gas, mixture=Mixture({"CH4": 1.0}), phi=_t(0.8), p=_t(101325.0), T_in=_t(300.0))


def _weights(network: FieldNetwork, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return network.initial(seed) + 0.1 * torch.randn(
        len(network.initial(seed)), generator=generator, dtype=torch.float64
    )


@pytest.fixture(scope="module", params=[FreeFlame, CounterflowFlame])
def trained(gas: Gas, request: pytest.FixtureRequest) -> Iterator[tuple[NetworkTrainer, FlameSolution]]:
    flame = _flame(gas, request.param)
    trainer = NetworkTrainer(FieldNetwork(flame), adapt=4)
    if request.param is CounterflowFlame:  # a free flame is found from the generic guess
        trainer.warm_start(GridSolver().set_refine_criteria(slope=0.12, curve=0.25).solve(flame).value)
    for _ in range(12):
        trainer.step()
    yield trainer, SpectralSolver(resolution=1e-6).solve(flame).value


def test_every_field_of_a_short_training(trained: tuple[NetworkTrainer, FlameSolution]) -> None:
    trainer, truth = trained
    at = torch.linspace(*MESHES[type(trainer.network.flame)], 400, dtype=torch.float64)
    found, exact = trainer.result.profiles(at), truth.profiles(at)
    assert float(trainer.result.eigenvalue[0]) == pytest.approx(float(truth.eigenvalue[0]), rel=2e-4)
    for name in set(found) - {"heat"}:
        assert float((found[name] - exact[name]).norm() / exact[name].norm()) < 5e-4, name
    assert trainer.result.check()["ok"]


def test_wrong_branches_are_refused(trained: tuple[NetworkTrainer, FlameSolution]) -> None:
    trainer, _ = trained
    network, theta = trainer.network, trainer.theta
    x = network.samples()
    y, _ = network.fields(theta, network.at(x))
    end = y[-1] if network.held_right else y[0]
    blown = network.fitted(theta, x, y[:1] + (end - y[:1]) * (x / network.edges[-1])[:, None].clamp_min(0))
    assert not trainer.found(blown).check()["burning"]
    shift = float(x[(y[:, network.flame.fields.index("T")] > 800.0)][0] - network.edges[0])
    moved, _ = network.fields(theta, network.at((x + shift).clamp_max(float(network.edges[-1]))))
    flashed = network.placed(x, moved)
    back = flashed.fitted(flashed.initial(0), x, moved)
    figures = TrainedFields(flashed, torch.cat((back[: network.num_weights], theta[network.num_weights :]))).check()
    assert not figures["within"] and not figures["ok"]


@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_what_the_ends_prescribe_and_the_sum_of_fractions_are_exact(gas: Gas, kind: Kind) -> None:
    flame = _flame(gas, kind)
    network = FieldNetwork(flame, width=6)
    theta = 3 * _weights(network)
    y, dy = network.fields(theta, network.at(network.edges))
    first = flame.fields.index("T") + 1
    assert torch.allclose(y[:, first:].sum(1), torch.ones(len(y), dtype=torch.float64), atol=1e-12)
    assert float(dy[:, first:].sum(1).abs().max()) < 1e-9 * float(dy[:, first:].abs().max())
    z = network.eigenvalue(theta)
    left = flame.left(y[None, None, :1], dy[None, None, :1], z)
    assert float((left / network.scale).abs().max()) < 1e-12
    if network.held_right:
        right = flame.right(y[None, None, -1:], dy[None, None, -1:], z)
        assert float((right / network.scale).abs().max()) < 1e-12


def test_slopes_and_tangents_are_those_of_the_fields(gas: Gas) -> None:
    network = FieldNetwork(_flame(gas, FreeFlame), width=6)
    theta = _weights(network)
    x, h = torch.linspace(-3e-4, 5e-4, 9, dtype=torch.float64), 1e-9
    ahead, behind = (network.fields(theta, network.at(x + s * h))[0] for s in (1, -1))
    _, dy = network.fields(theta, network.at(x))
    assert torch.allclose(dy, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6 * float(dy.abs().max()))
    tangents = network.tangents(theta, network.at(x))
    jacobians = torch.func.jacrev(lambda t: network.fields(t, network.at(x)))(theta)
    for ours, exact in zip(tangents, jacobians, strict=True):
        exact = exact[..., : network.num_weights]
        assert torch.allclose(ours, exact, rtol=1e-10, atol=1e-12 * float(exact.abs().max()))


@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_jacobian_and_gradient_of_the_residual(gas: Gas, kind: Kind) -> None:
    network = FieldNetwork(_flame(gas, kind), width=5, sought={"Ea-0": 9e4})
    theta = network.fitted(
        _weights(network), network.samples(), network.flame.guess(network.samples()[None, None])[0][0, 0]
    )
    edges = spread(network.samples(), network.fields(theta, network.at(network.samples()))[0], network.scale, 8)
    residual = IntegralResidual.of_turnover(network, theta, edges)
    r, j = residual.linearise(theta)
    assert torch.allclose(r, residual(theta), rtol=1e-10)
    for k in (0, 7, network.num_weights - 1, network.num_weights, network.num_weights + 1):
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


def test_units_and_cells_gather_where_fields_change() -> None:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    edges = spread(x, torch.tanh((x - 0.3) / 0.01)[:, None], _t(1.0)[None], 30)
    inside = (edges > 0.25) & (edges < 0.35)
    assert bool((edges.diff() > 0).all()) and float(edges[0]) == 0 and float(edges[-1]) == 1
    assert 15 <= int(inside.sum()) <= 25  # two of the three shares are in a tenth of the domain
    assert torch.allclose(
        spread(x, x[:, None], _t(1.0)[None], 10), torch.linspace(0, 1, 11, dtype=torch.float64), atol=0.01
    )


@pytest.mark.parametrize("optimiser", ["lm", "adam", "lbfgs", "soap"])
def test_every_optimiser_lowers_the_loss(gas: Gas, optimiser: Optimiser) -> None:
    trainer = NetworkTrainer(FieldNetwork(_flame(gas, FreeFlame), width=8), cells=20, optimiser=optimiser, adapt=0)
    before = float(trainer.physics(trainer.theta).square().sum())
    for _ in range(4 if optimiser in ("lm", "lbfgs") else 60):
        trainer.step()
    after = float(trainer.physics(trainer.theta).square().sum())
    assert after < (0.1 if optimiser in ("lm", "lbfgs") else 0.9) * before


def test_soap_goes_down_a_rotated_valley_that_slows_adam() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    stiff = torch.logspace(0, 3, 6, dtype=torch.float64)
    goal = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    left_over = {}
    for name in ("soap", "adam"):
        weight, bias = (torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for size in ((6, 6), (6,)))
        group = [weight, bias]
        optimiser = Soap(group, lr=1e-2) if name == "soap" else torch.optim.Adam(group, lr=1e-2)
        for _ in range(400):
            optimiser.zero_grad()
            bent = stiff[:, None].sqrt() * (left.T @ (weight - goal) @ right) * stiff.sqrt()
            loss = bent.square().mean() + (bias - 1).square().sum()
            loss.backward()
            optimiser.step()
        left_over[name] = float(loss.detach())
        assert torch.allclose(bias, torch.ones(6, dtype=torch.float64), atol=0.1)
    assert left_over["soap"] < 0.1 * left_over["adam"]


@pytest.mark.slow
def test_a_rich_flame_from_its_coarse_solution() -> None:
    """Sharper where the oxygen ends: the 60 units and 110 cells of lean flames stay 0.3 % off and are refused."""
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)  # of scenes
    flame = FreeFlame(gas=gas, mixture=Mixture({"CH4": 1.0}), phi=_t(1.4), p=_t(101325.0), T_in=_t(300.0))
    coarse = GridSolver().set_refine_criteria(slope=0.15, curve=0.3).solve(flame).value
    trainer = NetworkTrainer(FieldNetwork(flame, width=100), cells=220)
    trainer.warm_start(coarse)
    for _ in range(20):
        trainer.step()
    assert trainer.result.check()["ok"]
    exact = float(SpectralSolver().solve(flame).value.eigenvalue)
    assert float(trainer.result.eigenvalue) == pytest.approx(exact, rel=1e-4)


def test_what_is_not_possible_is_said(gas: Gas) -> None:
    flame = _flame(gas, FreeFlame)
    with pytest.raises(ValueError, match="no parameter of this flame"):
        FieldNetwork(flame, sought={"viscosity": 1.0})
    with pytest.raises(ValueError, match="phi: changes what the ends prescribe"):
        FieldNetwork(flame, sought={"phi": 0.9})
    with pytest.raises(ValueError, match="a batch of 2"):
        FieldNetwork(flame.replace(phi=torch.tensor([0.8, 1.0], dtype=torch.float64)))
    with pytest.raises(ValueError, match="data: there are none"):
        NetworkTrainer(FieldNetwork(flame, width=6), cells=12).covariance()
