"""Networks of an unknown conductivity and of an unknown source: derivatives, what a burner tells of them, read-outs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
from simengine.flame.equations.heat_loss import ReadLaw, coefficient, shares
from simengine.flame.equations.rate_law import arrhenius
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.gas.units import R
from simengine.flame.solver.solve import GridSolver
from simengine.scene.asks import Table
from simengine.scene.base import SceneError
from simengine.scene.loader import load_scene

SOLVER = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.15, curve=0.3)
NONE = torch.zeros(0, dtype=torch.float64)


class Law(NamedTuple):
    """One of the two: its key, its units [K], its shipped scene, the truth of its twin, and how that is read out."""

    key: str
    units: torch.Tensor
    scene: str
    knots: torch.Tensor  # of the truth
    truth: Callable[[torch.Tensor], torch.Tensor]
    numbers: tuple[float, float]  # factor and slope of the truth
    bars: tuple[float, float]  # what 40 places tell of them at least
    widest: float  # and of the law at its units, relative to 1
    told: float  # what weights known to 1 % tell of the slope at least
    read: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], ReadLaw]


CONDUCTIVITY = Law(
    "conductivity_law",
    torch.tensor([400.0, 700.0, 1000.0, 1400.0, 1800.0], dtype=torch.float64),
    "burner_conductivity",
    torch.arange(250.0, 2251.0, 50.0, dtype=torch.float64),
    lambda T: 1.1 * (T / 1000.0) ** -0.2,
    (1.1, -0.2),
    (0.004, 0.0026),  # 0.4 and 1.3 %
    0.05,
    0.02,
    power_law,
)
RATE = Law(
    "rate_law",
    torch.tensor([900.0, 1200.0, 1500.0, 1800.0, 2100.0], dtype=torch.float64),
    "burner_source",
    torch.arange(700.0, 2201.0, 50.0, dtype=torch.float64),
    lambda T: 1.2 * torch.exp(-20e3 / R * (1 / T - 1 / 1500.0)),
    (1.2, 20e3),
    (0.01, 2000.0),  # a hundredth of what is sought, a tenth
    float("inf"),  # gas that has not lit yet tells nothing of the first unit
    500.0,
    arrhenius,
)
both = pytest.mark.parametrize("law", [CONDUCTIVITY, RATE], ids=lambda law: law.key)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def free(law: Law, weights: torch.Tensor, **more) -> FreeFlame:
    return FreeFlame(
        gas=Gas(load_mechanism("methane_1step"), smoothing=1e-7),
        mixture=Mixture({"CH4": 1.0}),
        phi=scalar(0.8),
        p=scalar(101325.0),
        T_in=scalar(300.0),
        **{law.key: weights, f"{law.key}_units": law.units[: len(weights)]},
        **more,
    )


@both
def test_local_jacobian_is_the_derivative(law: Law) -> None:
    flame = free(law, torch.linspace(0.6, 1.7, 5, dtype=torch.float64), lam_factor=scalar(1.1))
    generator, K = torch.Generator().manual_seed(0), len(flame.gas.W)
    Y = torch.rand((1, 1, 4, K), dtype=torch.float64, generator=generator)
    T = 300 + 1800 * torch.rand((1, 1, 4, 1), dtype=torch.float64, generator=generator)
    y = torch.cat((T, Y / Y.sum(-1, keepdim=True)), -1)
    dy = torch.rand((1, 1, 4, 1 + K), dtype=torch.float64, generator=generator) - 0.5
    z = torch.full((1, 1, 4, 1), 0.1, dtype=torch.float64)
    own, full = flame.local_jacobian(y, dy, z)[1], local_jacobian(flame.flux_and_source, y, dy, z)[1]
    assert float(((own - full).abs() / full.abs().amax(-1, keepdim=True).clamp_min(1e-300)).max()) < 1e-10


def test_a_source_may_hang_on_composition() -> None:
    """Its local derivatives are those of reverse sweeps, its gradient that of differences; alike it is a factor."""
    knots = torch.tensor([0.02, 0.08, 0.14, 0.2], dtype=torch.float64)
    weights = torch.tensor([0.9, 1.1, 1.0, 1.2], dtype=torch.float64, requires_grad=True)
    flame = free(RATE, NONE, rate_law_against="Y_O2").replace(rate_law=weights)
    flame = dataclasses.replace(flame, rate_law_units=knots)
    generator, K = torch.Generator().manual_seed(0), len(flame.gas.W)
    Y = torch.rand((1, 1, 4, K), dtype=torch.float64, generator=generator)
    T = 300 + 1800 * torch.rand((1, 1, 4, 1), dtype=torch.float64, generator=generator)
    y, dy = torch.cat((T, Y / Y.sum(-1, keepdim=True)), -1), torch.zeros(1, 1, 4, 1 + K, dtype=torch.float64)
    z = torch.full((1, 1, 4, 1), 0.1, dtype=torch.float64)
    own, full = flame.local_jacobian(y, dy, z)[1], local_jacobian(flame.flux_and_source, y, dy, z)[1]
    assert float(((own - full).abs() / full.abs().amax(-1, keepdim=True).clamp_min(1e-300)).max()) < 1e-10
    solution = SOLVER.solve(flame).value
    (slope,) = torch.autograd.grad(solution.eigenvalue.sum(), weights)
    assert float(slope.min()) > 0.01  # what reacts faster burns faster
    along, speeds = torch.tensor([1.0, -0.5, 0.7, 0.2], dtype=torch.float64), []
    for sign in (1, -1):
        moved = flame.replace(rate_law=weights.detach() + 1e-4 * sign * along)
        speeds.append(float(SOLVER.solve(moved, start=solution).value.eigenvalue))
    assert float(slope @ along) == pytest.approx((speeds[0] - speeds[1]) / 2e-4, rel=1e-6)
    with pytest.raises(SceneError, match=r"rate_law.against: 'Y_O3' is not T or a mass fraction"):
        load_scene(RATE.scene, ["gas.rate_law.against=Y_O3"])


@both
def test_gradients_of_the_speed_are_those_of_differences(law: Law) -> None:
    weights = torch.linspace(0.9, 1.2, 5, dtype=torch.float64, requires_grad=True)
    solution = SOLVER.solve(free(law, weights)).value
    (slope,) = torch.autograd.grad(solution.eigenvalue.sum(), weights)
    assert bool((slope > -1e-4 * slope.max()).all())  # what conducts better or reacts faster burns faster
    assert float(slope[2:4].min()) > 0.01
    along, speeds = torch.linspace(-1.0, 0.6, 5, dtype=torch.float64), []
    for sign in (1, -1):
        moved = weights.detach() + 1e-4 * sign * along
        speeds.append(float(SOLVER.solve(free(law, moved), start=solution).value.eigenvalue))
    assert float(slope @ along) == pytest.approx((speeds[0] - speeds[1]) / 2e-4, rel=1e-6)


@both
def test_a_law_is_read_out(law: Law) -> None:
    true = torch.linalg.solve(shares(law.units, law.units), law.truth(law.units))  # weights of that law
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covariance = torch.diag((0.01 * true).square())
    found = law.read(law.units, true * (1 + 0.01 * noise), covariance)
    assert abs(found.factor - law.numbers[0]) < 3 * found.factor_sd
    assert abs(found.slope - law.numbers[1]) < 3 * found.slope_sd < 3 * law.told
    bent = true * (1 + 0.2 * ((law.units - law.units.mean()) / (law.units[-1] - law.units.mean())) ** 2)
    assert law.read(law.units, bent, covariance).chi_square > 5  # of no such form
    with pytest.raises(ValueError, match="three or more above 0"):
        law.read(law.units[:2], true[:2], covariance[:2, :2])


@both
def test_knots_that_do_not_fit_are_refused(law: Law) -> None:
    with pytest.raises(SceneError, match=r"knots: expected growing temperatures"):
        load_scene(law.scene, [f"gas.{law.key}.knots=[900.0, 500.0]"])
    with pytest.raises(SceneError, match=r"values: 2 for 6 knots"):
        load_scene(law.scene, [f"gas.{law.key}.values=[1.0, 1.0]"])


def test_a_conductivity_has_its_slope() -> None:
    flame = free(CONDUCTIVITY, torch.linspace(0.8, 1.3, 5, dtype=torch.float64), lam_factor=scalar(1.1))
    T, step = torch.linspace(300.0, 2100.0, 4, dtype=torch.float64), 1e-3
    factor, slope = scale_slope(flame, T)
    assert torch.allclose(slope, (scale(flame, T + step) - scale(flame, T - step)) / (2 * step), rtol=1e-6)
    assert float(factor.min()) > 0.87 and float(factor.max()) < 1.44  # 1.1 times the least and the largest weight


def test_conductivities_alike_are_a_factor() -> None:
    """A network whose weights are all alike is `lam_factor`, whatever its units."""
    plain = SOLVER.solve(free(CONDUCTIVITY, NONE, lam_factor=scalar(1.2))).value
    even = torch.full((5,), 1.2, dtype=torch.float64)
    alike = SOLVER.solve(free(CONDUCTIVITY, even), start=plain).value  # on the same grid
    assert float(alike.eigenvalue) == pytest.approx(float(plain.eigenvalue), rel=1e-9)
    assert float(alike.eigenvalue) > 1.05 * float(SOLVER.solve(free(CONDUCTIVITY, even / 1.2)).value.eigenvalue)


def test_sources_alike_are_a_factor_on_all_reactions() -> None:
    """So the speed, its heat release and its first guess are those of a mechanism 1.3 times as fast."""
    A = free(RATE, NONE).gas.rate_parameters.A
    plain = SOLVER.solve(free(RATE, NONE, A=1.3 * A)).value
    alike = SOLVER.solve(free(RATE, torch.full((5,), 1.3, dtype=torch.float64)), start=plain).value
    assert float(alike.eigenvalue) == pytest.approx(float(plain.eigenvalue), rel=1e-9)
    assert torch.allclose(alike.profiles(alike.x)["heat"], plain.profiles(plain.x)["heat"], rtol=1e-7, atol=1.0)
    assert float(alike.flame.first_flux()) == pytest.approx(float(plain.flame.first_flux()), rel=1e-12)


def test_a_source_is_no_law_of_vessels() -> None:
    world = load_scene("burner_source", ["flame.mass_flux=0.2"]).world
    with pytest.raises(SceneError, match=r"gas.rate_law: is a law of flames, and 'ignition_delay' is of a vessel"):
        world.prepare([Table(names=("ignition_delay",), conditions={"T_in": scalar(1500.0)[None]})])


@pytest.mark.slow
@both
def test_recovery_a_burner_tells_the_law(law: Law, tmp_path: Path) -> None:
    """Twins of the law's truth on a grid of half the criteria; four draws of the noise.

    By the bars of c and of the two numbers read out, not by those of the weights, of which neighbours share c. With
    the first unit of the conductivity at 400 K, 100 K above the fresh gas, its exponent is 2.5 deviations off without
    any noise.
    """
    truth = f"gas.{law.key}={{knots={law.knots.tolist()},values={law.truth(law.knots).tolist()}}}"
    told, read = [], []
    for seed in (4, 5, 6, 7):  # 4 is that of the shipped file
        folder = tmp_path / str(seed)
        scene, hidden = load_scene(law.scene), load_scene(law.scene, [truth])
        write_twin(scene, hidden, folder, refine=2.0, seed=seed)
        (written,) = folder.glob("*.csv")
        problem = Problem(load_scene(law.scene, [f'observations.probe.file="{written.as_posix()}"']))
        training = LeastSquaresFit(problem)
        while not training.converged:
            training.step()
        found = posterior(problem, training.z, problem.predict(training.z))
        own = spread_of(problem, training.z, found)
        units = torch.tensor(getattr(problem.scene.world.gas, law.key).knots, dtype=torch.float64)
        weights = torch.tensor([found.estimates[name].value for name in own.names], dtype=torch.float64)
        mixed = shares(units, units)
        bars = (mixed @ own.covariance @ mixed.T).diagonal().sqrt()
        told.append((coefficient(units, weights, units) - law.truth(units)) / bars)
        out = law.read(units, weights, own.covariance)
        read.append([(out.factor - law.numbers[0]) / out.factor_sd, (out.slope - law.numbers[1]) / out.slope_sd])
        assert out.factor_sd < law.bars[0] and out.slope_sd < law.bars[1]
        assert float(bars.max()) < law.widest
    off = torch.stack(told).abs()
    assert float(off.max()) < 3.5 and int((off > 2).sum()) <= 4  # of 24, of which one is expected
    assert float(torch.tensor(read).square().sum()) < 26.1  # chi-square of 8 at 0.999
