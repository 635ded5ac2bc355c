"""Two streams at the edge of ignition: beside a search that only asks whether they burn, and gradients."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.single_nozzle import TwinFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver import turning
from simengine.flame.solver.lighting import ignition
from simengine.flame.solver.solve import GridSolver
from simengine.flame.solver.turning import TurningPoint
from simengine.solve.solution import SolveError

SOLVER = GridSolver().set_refine_criteria(ratio=3, slope=0.2, curve=0.4, prune=0.05)
METHANE = Mixture({"CH4": 1.0})
Family = Callable[[torch.Tensor], DiffusionFlame]


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def methane(T: torch.Tensor, constants: torch.Tensor | None = None) -> DiffusionFlame:
    """Cold methane against hot air of T; constants: A, Ea and both conductivities, relative."""
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    own = gas.rate_parameters
    scale = torch.ones(3, dtype=torch.float64) if constants is None else constants
    return DiffusionFlame(
        gas=gas,
        mixture=METHANE,
        p=number(101325.0),
        T_in=number(300.0),
        T_right=T,
        mass_flux_left=number(2.0),
        mass_flux_right=number(2.0),
        A=own.A * scale[0],
        Ea=own.Ea * scale[1],
        lam_factor=scale[2],
    )


def lights(found: TurningPoint, family: Family, value: float) -> bool:
    """Whether the streams come to 1000 K in some 50 ms, by linearly implicit steps from those that just do not."""
    problem, state, step = turning.under(found.problem, family(number(value))), found.solution.state, 5e-5
    with torch.no_grad():
        for _ in range(250):
            f, jacobian = problem.linearise(state)
            state = state - jacobian.shifted(-problem.mass(state) / step).factor().solve(f)
            step = min(1.1 * step, 2e-4)
            if float(state[..., problem.flame.fields.index("T")].max()) > 1000:
                return True
    return False


@pytest.fixture(scope="module")
def found() -> TurningPoint:
    return ignition(methane, 760.0, SOLVER)


def test_ignition_has_the_gradient_of_turning_points_found_again(found: TurningPoint) -> None:
    """On one grid; each constant alone agrees to 1e-8."""
    ones, way, step, again = torch.ones(3).double(), torch.tensor([1.0, -0.5, 2.0]).double(), 1e-4, []
    for sign in (1, -1):
        constants = ones + sign * step * way
        near = turning.again(found, lambda T, own=constants: methane(T, own))  # type: ignore[misc]
        assert near is not None
        again.append(near)
    exact = float(found.derivative(methane, ones) @ way)
    assert exact == pytest.approx((again[0] - again[1]) / (2 * step), rel=1e-6)


def test_ignition_is_where_streams_begin_to_burn_in_time(found: TurningPoint) -> None:
    assert 750 < found.value < 830
    assert not lights(found, methane, found.value - 5)
    assert lights(found, methane, found.value + 5)


def test_streams_that_burn_cannot_ignite() -> None:
    with pytest.raises(SolveError, match="start with colder ones, or at a higher strain"):
        ignition(methane, 900.0, SOLVER)
    with pytest.raises(ValueError, match="expected a CounterflowFlame"):
        ignition(lambda T: TwinFlame(gas=methane(T).gas, mixture=METHANE, phi=T, p=T, T_in=T), 300.0, SOLVER)


@pytest.mark.slow
def test_hydrogen_lights_at_the_same_place_hotter_or_slower() -> None:
    """Chains branch here: radicals are 1e-11 before. Once by heating the air, once by slowing both streams."""
    cantera = pytest.importorskip("cantera")
    solver = SOLVER.set_refine_criteria(slope=0.1, curve=0.2, prune=0.05)
    gas = Gas(load_mechanism(Path(cantera.__file__).parent / "data" / "h2o2.yaml"), smoothing=1e-7)

    def streams(T: torch.Tensor, flux: torch.Tensor) -> DiffusionFlame:
        flame = DiffusionFlame(
            gas=gas,
            mixture=Mixture({"H2": 1.0}),
            dilution={"N2": 4.0},
            p=number(101325.0),
            T_in=number(300.0),
            T_right=T,
            mass_flux_left=flux,
            mass_flux_right=flux,
        )
        return flame.reduced()  # type: ignore[return-value]

    slowed = ignition(lambda flux: streams(number(975.0), flux), 3.2, solver)
    heated = ignition(lambda T: streams(T, number(slowed.value)), 850.0, solver)
    assert 1.5 < slowed.value < 2.5
    assert heated.value == pytest.approx(975.0, abs=0.5)  # on two grids
