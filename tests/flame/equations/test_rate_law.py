"""The network of an unknown source: its derivatives, what a burner's flame tells of it, its activation energy."""

import math
from pathlib import Path

import pytest
import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.spread import spread_of
from simengine.fit.twin import write_twin
from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.heat_loss import coefficient, shares
from simengine.flame.equations.rate_law import arrhenius
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.gas.units import R
from simengine.flame.solver.solve import GridSolver
from simengine.scene.asks import Table
from simengine.scene.base import SceneError
from simengine.scene.loader import load_scene

UNITS = torch.tensor([900.0, 1200.0, 1500.0, 1800.0, 2100.0], dtype=torch.float64)
NONE = torch.zeros(0, dtype=torch.float64)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def free(weights: torch.Tensor, **more) -> FreeFlame:
    return FreeFlame(
        gas=Gas(load_mechanism("methane_1step"), smoothing=1e-7),
        mixture=Mixture({"CH4": 1.0}),
        phi=scalar(0.8),
        p=scalar(101325.0),
        T_in=scalar(300.0),
        rate_law=weights,
        rate_law_units=UNITS[: len(weights)],
        **more,
    )


def test_local_jacobian_is_the_derivative() -> None:
    flame = free(torch.linspace(0.6, 1.7, 5, dtype=torch.float64))
    generator, K = torch.Generator().manual_seed(0), len(flame.gas.W)
    Y = torch.rand((1, 1, 4, K), dtype=torch.float64, generator=generator)
    T = 700 + 1500 * torch.rand((1, 1, 4, 1), dtype=torch.float64, generator=generator)
    y = torch.cat((T, Y / Y.sum(-1, keepdim=True)), -1)
    dy = torch.rand((1, 1, 4, 1 + K), dtype=torch.float64, generator=generator) - 0.5
    z = torch.full((1, 1, 4, 1), 0.1, dtype=torch.float64)
    own, full = flame.local_jacobian(y, dy, z)[1], local_jacobian(flame.flux_and_source, y, dy, z)[1]
    assert float(((own - full).abs() / full.abs().amax(-1, keepdim=True).clamp_min(1e-300)).max()) < 1e-10


def test_weights_alike_are_a_factor_on_all_reactions() -> None:
    """So the speed, its heat release and its first guess are those of a mechanism 1.3 times as fast."""
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
    A = free(NONE).gas.rate_parameters.A
    plain = solver.solve(free(NONE, A=1.3 * A)).value
    alike = solver.solve(free(torch.full((5,), 1.3, dtype=torch.float64)), start=plain).value  # on the same grid
    assert float(alike.eigenvalue) == pytest.approx(float(plain.eigenvalue), rel=1e-9)
    assert torch.allclose(alike.profiles(alike.x)["heat"], plain.profiles(plain.x)["heat"], rtol=1e-7, atol=1.0)
    assert float(alike.flame.first_flux()) == pytest.approx(float(plain.flame.first_flux()), rel=1e-12)


def test_gradients_of_the_speed_are_those_of_differences() -> None:
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
    weights = torch.linspace(0.9, 1.2, 5, dtype=torch.float64, requires_grad=True)
    solution = solver.solve(free(weights)).value
    (slope,) = torch.autograd.grad(solution.eigenvalue.sum(), weights)
    assert float(slope[2:4].min()) > 0.01  # where it burns
    along, speeds = torch.linspace(-1.0, 0.6, 5, dtype=torch.float64), []
    for sign in (1, -1):
        moved = weights.detach() + 1e-4 * sign * along
        speeds.append(float(solver.solve(free(moved), start=solution).value.eigenvalue))
    assert float(slope @ along) == pytest.approx((speeds[0] - speeds[1]) / 2e-4, rel=1e-6)


def test_an_activation_energy_is_read_out() -> None:
    power = 1.2 * torch.exp(-20e3 / R * (1 / UNITS - 1 / 1500.0))
    true = torch.linalg.solve(shares(UNITS, UNITS), power)  # weights of that law
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covariance = torch.diag((0.01 * true).square())
    law = arrhenius(UNITS, true * (1 + 0.01 * noise), covariance)
    assert abs(law.Ea - 20e3) < 3 * law.Ea_sd and law.Ea_sd < 500.0
    assert abs(law.factor - 1.2) < 3 * law.factor_sd
    assert arrhenius(UNITS, true * (1 + 0.2 * ((UNITS - 1500) / 600) ** 2), covariance).chi_square > 5


def test_what_it_does_not_hold_for_is_refused() -> None:
    world = load_scene("burner_source", ["flame.mass_flux=0.2"]).world
    with pytest.raises(SceneError, match=r"gas.rate_law: is a law of flames, and 'ignition_delay' is of a vessel"):
        world.prepare([Table(names=("ignition_delay",), conditions={"T_in": scalar(1500.0)[None]})])
    with pytest.raises(SceneError, match=r"values: 2 for 6 knots"):
        load_scene("burner_source", ["gas.rate_law.values=[1.0, 1.0]"])


@pytest.mark.slow
def test_recovery_a_burner_tells_how_its_gas_burns(tmp_path: Path) -> None:
    """Twins: 1.2 exp(-20 kJ/mol/R (1/T - 1/1500 K)) times as fast, on half the criteria; four draws of noise."""
    knots = [700.0 + 50.0 * k for k in range(31)]
    values = [1.2 * math.exp(-20e3 / R * (1 / T - 1 / 1500.0)) for T in knots]
    truth = f"gas.rate_law={{knots={knots},values={values}}}"
    told, read = [], []
    for seed in (4, 5, 6, 7):  # 4 is that of the shipped file
        folder = tmp_path / str(seed)
        scene, hidden = load_scene("burner_source"), load_scene("burner_source", [truth])
        write_twin(scene, hidden, folder, refine=2.0, seed=seed)
        (written,) = folder.glob("*.csv")
        problem = Problem(load_scene("burner_source", [f'observations.probe.file="{written.as_posix()}"']))
        training = LeastSquaresFit(problem)
        while not training.converged:
            training.step()
        found = posterior(problem, training.z, problem.predict(training.z))
        own = spread_of(problem, training.z, found)
        units = torch.tensor(problem.scene.world.gas.rate_law.knots, dtype=torch.float64)
        weights = torch.tensor([found.estimates[name].value for name in own.names], dtype=torch.float64)
        mixed = shares(units, units)
        bars = (mixed @ own.covariance @ mixed.T).diagonal().sqrt()
        told.append((coefficient(units, weights, units) - 1.2 * torch.exp(-20e3 / R * (1 / units - 1 / 1500))) / bars)
        law = arrhenius(units, weights, own.covariance)
        read.append([(law.factor - 1.2) / law.factor_sd, (law.Ea - 20e3) / law.Ea_sd])
        assert law.Ea_sd < 2000.0 and law.factor_sd < 0.01  # a tenth of what is sought, a hundredth
    off = torch.stack(told).abs()
    assert float(off.max()) < 3.5 and int((off > 2).sum()) <= 4  # of 24, of which one is expected
    assert float(torch.tensor(read).square().sum()) < 26.1  # chi-square of 8 at 0.999
