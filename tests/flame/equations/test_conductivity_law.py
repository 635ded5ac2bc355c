"""The network of an unknown conductivity: its derivatives, what a burner's flame tells of it, its power of T."""

from pathlib import Path

import pytest
import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.spread import spread_of
from simengine.fit.twin import write_twin
from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.conductivity_law import power_law, scale, scale_slope
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.heat_loss import coefficient, shares
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver
from simengine.scene.base import SceneError
from simengine.scene.loader import load_scene

UNITS = torch.tensor([400.0, 700.0, 1000.0, 1400.0, 1800.0], dtype=torch.float64)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def free(weights: torch.Tensor, **more) -> FreeFlame:
    return FreeFlame(
        gas=Gas(load_mechanism("methane_1step"), smoothing=1e-7),
        mixture=Mixture({"CH4": 1.0}),
        phi=scalar(0.8),
        p=scalar(101325.0),
        T_in=scalar(300.0),
        conductivity_law=weights,
        conductivity_law_units=UNITS[: len(weights)],
        **more,
    )


def test_local_jacobian_is_the_derivative() -> None:
    flame = free(torch.linspace(0.8, 1.3, 5, dtype=torch.float64), lam_factor=scalar(1.1))
    generator, K = torch.Generator().manual_seed(0), len(flame.gas.W)
    Y = torch.rand((1, 1, 4, K), dtype=torch.float64, generator=generator)
    T = 300 + 1800 * torch.rand((1, 1, 4, 1), dtype=torch.float64, generator=generator)
    y = torch.cat((T, Y / Y.sum(-1, keepdim=True)), -1)
    dy = torch.rand((1, 1, 4, 1 + K), dtype=torch.float64, generator=generator) - 0.5
    z = torch.full((1, 1, 4, 1), 0.1, dtype=torch.float64)
    own, full = flame.local_jacobian(y, dy, z)[1], local_jacobian(flame.flux_and_source, y, dy, z)[1]
    assert float(((own - full).abs() / full.abs().amax(-1, keepdim=True).clamp_min(1e-300)).max()) < 1e-10
    factor, slope = scale_slope(flame, T[..., 0])
    step = 1e-3
    difference = (scale(flame, T[..., 0] + step) - scale(flame, T[..., 0] - step)) / (2 * step)
    assert torch.allclose(slope, difference, rtol=1e-6)
    assert float(factor.min()) > 0.88 and float(factor.max()) < 1.43


def test_weights_alike_are_a_factor() -> None:
    """A network whose weights are all alike is `lam_factor`, whatever its units."""
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
    plain = solver.solve(free(torch.zeros(0, dtype=torch.float64), lam_factor=scalar(1.2))).value
    alike = solver.solve(free(torch.full((5,), 1.2, dtype=torch.float64)), start=plain).value  # on the same grid
    assert float(alike.eigenvalue) == pytest.approx(float(plain.eigenvalue), rel=1e-9)
    assert float(alike.eigenvalue) > 1.05 * float(
        solver.solve(free(torch.ones(5, dtype=torch.float64))).value.eigenvalue
    )


def test_gradients_of_the_speed_are_those_of_differences() -> None:
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
    weights = torch.linspace(0.9, 1.2, 5, dtype=torch.float64, requires_grad=True)
    solution = solver.solve(free(weights)).value
    (slope,) = torch.autograd.grad(solution.eigenvalue.sum(), weights)
    assert bool((slope > -1e-4 * slope.max()).all())  # what conducts better burns faster
    along, speeds = torch.linspace(-1.0, 0.6, 5, dtype=torch.float64), []
    for sign in (1, -1):
        moved = weights.detach() + 1e-4 * sign * along
        speeds.append(float(solver.solve(free(moved), start=solution).value.eigenvalue))
    assert float(slope @ along) == pytest.approx((speeds[0] - speeds[1]) / 2e-4, rel=1e-6)


def test_a_power_is_read_out() -> None:
    true = torch.linalg.solve(shares(UNITS, UNITS), 1.1 * (UNITS / 1000.0) ** -0.2)  # weights of that power
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covariance = torch.diag((0.01 * true).square())
    law = power_law(UNITS, true * (1 + 0.01 * noise), covariance)
    assert abs(law.exponent + 0.2) < 3 * law.exponent_sd
    assert abs(law.factor - 1.1) < 3 * law.factor_sd
    assert law.exponent_sd < 0.02
    bent = true * (1 + 0.2 * ((UNITS - 1000) / 800) ** 2)
    assert power_law(UNITS, bent, covariance).chi_square > 5  # no power of T
    with pytest.raises(ValueError, match="three or more above 0"):
        power_law(UNITS[:2], true[:2], covariance[:2, :2])


def test_knots_that_do_not_grow_are_refused() -> None:
    with pytest.raises(SceneError, match=r"knots: expected growing temperatures"):
        load_scene("burner_conductivity", ["gas.conductivity_law.knots=[900.0, 500.0]"])
    with pytest.raises(SceneError, match=r"values: 2 for 6 knots"):
        load_scene("burner_conductivity", ["gas.conductivity_law.values=[1.0, 1.0]"])


@pytest.mark.slow
def test_recovery_a_burner_tells_how_its_gas_conducts(tmp_path: Path) -> None:
    """Twins: their gas conducts by 1.1 (T/1000 K)^-0.2 more, on a grid of half the criteria; four draws of the noise.

    By the bars of c and of the two numbers of the power, not by those of the weights, of which neighbours share c. With
    the first unit at 400 K, 100 K above the fresh gas, the exponent is 2.5 deviations off without any noise.
    """
    knots = [250.0 + 50.0 * k for k in range(41)]
    truth = f"gas.conductivity_law={{knots={knots},values={[1.1 * (T / 1000.0) ** -0.2 for T in knots]}}}"
    told, read = [], []
    for seed in (4, 5, 6, 7):  # 4 is that of the shipped file
        folder = tmp_path / str(seed)
        scene, hidden = load_scene("burner_conductivity"), load_scene("burner_conductivity", [truth])
        write_twin(scene, hidden, folder, refine=2.0, seed=seed)
        (written,) = folder.glob("*.csv")
        problem = Problem(load_scene("burner_conductivity", [f'observations.probe.file="{written.as_posix()}"']))
        training = LeastSquaresFit(problem)
        while not training.converged:
            training.step()
        found = posterior(problem, training.z, problem.predict(training.z))
        own = spread_of(problem, training.z, found)
        units = torch.tensor(problem.scene.world.gas.conductivity_law.knots, dtype=torch.float64)
        weights = torch.tensor([found.estimates[name].value for name in own.names], dtype=torch.float64)
        mixed = shares(units, units)
        bars = (mixed @ own.covariance @ mixed.T).diagonal().sqrt()
        told.append((coefficient(units, weights, units) - 1.1 * (units / 1000.0) ** -0.2) / bars)
        law = power_law(units, weights, own.covariance)
        read.append([(law.factor - 1.1) / law.factor_sd, (law.exponent + 0.2) / law.exponent_sd])
        assert law.exponent_sd < 0.0026 and law.factor_sd < 0.004  # what 40 places tell of it: 1.3 and 0.4 %
        assert float(bars.max()) < 0.05
    off = torch.stack(told).abs()
    assert float(off.max()) < 3.5 and int((off > 2).sum()) <= 4  # of 24, of which one is expected
    assert float(torch.tensor(read).square().sum()) < 26.1  # chi-square of 8 at 0.999
