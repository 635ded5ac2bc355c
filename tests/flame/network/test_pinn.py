"""The network for Case 1: exact conditions, Taylor derivatives, the flame it finds, the branches it refuses."""

import pytest
import torch

from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.network.pinn import SimplifiedNetwork, SimplifiedTrainer, TrainedFlame, train_flame
from simengine.flame.solver.solve import SpectralSolver
from simengine.solve.solution import SolveError


def _network() -> SimplifiedNetwork:
    return SimplifiedNetwork(SimplifiedFlame(), 8)


def _weights(network: SimplifiedNetwork, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = network.num_weights + 1
    return network.initial(seed) + 0.05 * torch.randn(size, generator=generator, dtype=torch.float64)


def test_inlet_and_range_hold_for_any_weights() -> None:
    network = _network()
    for seed in range(3):
        theta = 3 * _weights(network, seed)
        T, slope = network.temperature(theta, torch.linspace(0, 1.9e-3, 50, dtype=torch.float64))
        assert float(T[0]) == pytest.approx(298.0, abs=1e-10)
        assert float(slope[0]) == pytest.approx(1e5, rel=1e-12)
        assert float(T.max()) <= float(network.flame.T_max)


def test_the_taylor_derivative_is_that_of_autograd() -> None:
    network = _network()
    theta = _weights(network, 0)
    x = torch.linspace(1e-5, 1.4e-3, 20, dtype=torch.float64, requires_grad=True)
    T, slope = network.temperature(theta, x)
    (first,) = torch.autograd.grad(T.sum(), x)
    # where units cancel what is left is rounded as its terms are, not as itself
    torch.testing.assert_close(slope, first, rtol=1e-10, atol=1e-13 * float(first.detach().abs().max()))


def test_units_placed_anew_keep_the_flame() -> None:
    trainer = SimplifiedTrainer(SimplifiedNetwork(SimplifiedFlame()), adapt=0)
    for _ in range(8):
        trainer.step()
    x = torch.linspace(0, 1.9e-3, 200, dtype=torch.float64)
    before = trainer.result.temperature(x)
    network, theta = trainer.network.adapted(trainer.theta)
    assert network.faces is not None and trainer.network.faces is not None
    assert float(network.faces.diff().min()) < 0.7 * float(trainer.network.faces.diff().min())
    after, _ = network.temperature(theta, x)
    assert float((after - before).norm() / before.norm()) < 2e-3


def test_the_exact_flame_has_no_residual() -> None:
    truth = SpectralSolver(resolution=1e-9).solve(SimplifiedFlame()).value

    class Exact(SimplifiedNetwork):
        def temperature(self, theta: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            behind, ahead = (x - 1e-8).clamp_min(0), x + 1e-8
            T, low, high = (truth.profiles(at)["T"][0] for at in (x, behind, ahead))
            return T, (high - low) / (ahead - behind)

        def speed(self, theta: torch.Tensor) -> torch.Tensor:
            return truth.eigenvalue

    network = Exact(SimplifiedFlame(), 8)
    r = network.residual(network.initial(0), torch.linspace(0, 1.9e-3, 181, dtype=torch.float64))
    assert float(r[:-1].abs().max()) < 1e-6  # of the preheating
    assert abs(float(r[-1])) < 1e-3  # the slow manifold is approximate


@pytest.mark.parametrize(("what", "shift"), [("blown off", 40.0), ("flashed back", -0.9)])
def test_wrong_branches_are_refused(what: str, shift: float) -> None:
    network = SimplifiedNetwork(SimplifiedFlame())
    theta = torch.zeros(network.num_weights + 1, dtype=torch.float64)
    if what == "blown off":
        theta[network.num_weights - 1] = -0.95  # s hardly grows: nothing burns within the domain
    else:
        theta[network.num_weights - 1] = shift * -10  # s grows at once: it burns at the inlet
    figures = TrainedFlame(network, theta).check()
    assert not figures["ok"]
    if what == "blown off":
        assert not figures["burning"]


def test_a_training_that_is_too_short_raises() -> None:
    with pytest.raises(SolveError):
        train_flame(SimplifiedFlame(), width=4, max_iterations=2, restarts=1)


def test_a_training_finds_the_flame() -> None:
    solution = train_flame(SimplifiedFlame(), max_iterations=26)
    x = torch.linspace(0, 1.5e-3, 200, dtype=torch.float64)
    truth = SpectralSolver().solve(SimplifiedFlame()).value.profiles(x)["T"][0]
    assert float(solution.value.eigenvalue) == pytest.approx(0.29278611206, rel=1e-6)
    # 7e-5 to 3e-4 over six starts; the burnt side, which the speed hardly depends on, comes last
    assert float((solution.value.temperature(x) - truth).norm() / truth.norm()) < 1e-3
