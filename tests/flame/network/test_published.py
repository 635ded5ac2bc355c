"""The published network: its ranges, its hard conditions, its steps."""

import pytest
import torch

from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.network.published import PublishedNetwork

Kind = type[FreeFlame] | type[CounterflowFlame]


def _network(kind: Kind, *, hard: bool) -> PublishedNetwork:
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-8)
    phi, p, T_in = (torch.tensor(v, dtype=torch.float64) for v in (0.8, 101325.0, 300.0))
    return PublishedNetwork(kind(gas=gas, mixture=Mixture({"CH4": 1.0}), phi=phi, p=p, T_in=T_in), points=10, hard=hard)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_ranges_hold_for_any_weights_and_hard_ends_too(kind: Kind, hard: bool) -> None:
    network = _network(kind, hard=hard)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3.0)
        y = network(torch.linspace(network.low, network.high, 40, dtype=torch.float64))
    T, Y = y[:, network.where], y[:, network.where + 1 :]
    assert torch.allclose(Y.sum(1), torch.ones(40, dtype=torch.float64))
    assert bool((Y >= 0).all()) and float(T.min()) >= 300.0 - 1e-9 and float(T.max()) <= network.T_max
    left = float(((y[0] - network.ends[0]) / network.scale).abs().max())
    right = float(((y[-1] - network.ends[1]) / network.scale).abs().max())
    assert (left < 1e-12) == hard
    assert (right < 1e-12) == (hard and network.held_right)


@pytest.mark.parametrize("kind", [FreeFlame, CounterflowFlame])
def test_warm_up_and_steps_lower_the_loss(kind: Kind) -> None:
    network = _network(kind, hard=True)
    x = torch.linspace(network.low, network.high, 30, dtype=torch.float64)
    guess = network.flame.guess(x[None, None])[0][0, 0]

    def misfit() -> float:
        with torch.no_grad():
            return float(((network(x) - guess) / network.scale).square().mean())

    before = misfit()
    network.warm_up(40)
    assert misfit() < 0.3 * before
    torch.manual_seed(0)
    losses = [network.step() for _ in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert network.log_size.grad is not None and abs(float(network.log_size.grad)) > 0
