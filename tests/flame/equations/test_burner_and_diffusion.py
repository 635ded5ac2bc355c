"""Flames on a burner and between opposed nozzles; flames that cannot be are said not to be."""

from pathlib import Path

import pytest
import torch

from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.counterflow import CounterflowFlame, DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.solve.solution import Result, SolveError

METHANE = Mixture({"CH4": 1.0})


def _t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-7)  # fuel and oxygen both run out at phi = 1


def _burner(gas: Gas, flux: float, fuel: str = "CH4") -> BurnerFlame:
    mixture = Mixture({fuel: 1.0})
    return BurnerFlame(gas=gas, mixture=mixture, phi=_t(1.0), p=_t(101325.0), T_in=_t(300.0), mass_flux=_t(flux))


def _diffusion(gas: Gas, flux: float) -> DiffusionFlame:
    return DiffusionFlame(
        gas=gas,
        mixture=METHANE,
        p=_t(101325.0),
        T_in=_t(300.0),
        mass_flux_left=_t(0.5 * flux),
        mass_flux_right=_t(flux),
    )


def test_burner_takes_heat_but_no_species(gas: Gas) -> None:
    found = GridSolver().solve(_burner(gas, 0.2)).value
    flame = found.flame
    y, dy, z = found.problem._middle(found.state)
    T, Y = y[..., 0], y[..., 1:]
    lam, j = flame.diffusive_flux(T, Y, dy[..., 0], dy[..., 1:])
    drop = 0.5 * found.problem.h * found.problem.lean * found.eigenvalue[:, None]
    elements = (z * Y + j - drop[:, None, :, None] * dy[..., 1:]) @ (gas.mechanism.composition / gas.W[:, None])
    # What the burner lets through is what flows everywhere; the condition is met in the middle of the first interval.
    assert float((elements / elements[:, :, :1] - 1).abs().max()) < 2e-3
    # The enthalpy that the burnt gas lacks was conducted into the burner.
    lost = float((lam * dy[..., 0])[0, 0, 0])
    h_in, h_out = gas.h(flame.T_in.expand(1), flame.Y_in), gas.h(found.y[:, -1, 0], found.y[:, -1, 1:])
    assert float(0.2 * (h_in - h_out)) == pytest.approx(lost, rel=0.03)  # first order at the burner's surface
    assert 1500 < float(found.field("T").max()) < float(flame.burnt()[0])


def test_more_than_the_free_flames_mass_flux_blows_the_flame_off(gas: Gas) -> None:
    near, above = 0.425, 0.44  # the free flame takes 0.4276
    assert GridSolver().solve(_burner(gas, near)).success
    for solver in (GridSolver(), SpectralSolver()):
        with pytest.raises(SolveError, match=r"blown off: mass_flux = 0.44 .* above that of the free flame, 0.427"):
            solver.solve(_burner(gas, above))
    solution = GridSolver().solve(_burner(gas, above), throw=False)
    assert solution.result is Result.WRONG_BRANCH and "blown off" in str(solution.stats["obstacle"])


@pytest.mark.slow
def test_burner_with_hydrogen_is_canteras() -> None:
    cantera = pytest.importorskip("cantera")
    gas = Gas(load_mechanism(Path(cantera.__file__).parent / "data" / "h2o2.yaml"), smoothing=1e-8)
    found = GridSolver().solve(_burner(gas, 0.2, "H2")).value
    solution = cantera.Solution("h2o2.yaml")
    solution.set_equivalence_ratio(1.0, "H2:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    flame = cantera.BurnerFlame(solution, width=0.02)
    flame.transport_model, flame.burner.mdot = "mixture-averaged", 0.2
    flame.set_refine_criteria(ratio=3, slope=0.03, curve=0.06)
    flame.solve(0, auto=True)
    assert float(found.field("T").max()) == pytest.approx(max(flame.T), rel=2e-3)


def test_diffusion_flame_burns_where_the_streams_are_stoichiometric(gas: Gas) -> None:
    flame = _diffusion(gas, 1.0)
    found = GridSolver().solve(flame).value
    T, Y = found.field("T")[0], found.y[0, :, 3:]
    assert float(T[0]) == 300.0 and float(T[-1]) == 300.0
    assert 2000 < float(T.max()) < float(flame.burnt()[0])
    # By the mixture fraction of carbon: the peak lies near the stoichiometric value (CH4 diffuses little faster).
    carbon = Y / gas.W @ gas.mechanism.composition[:, gas.mechanism.elements.index("C")]
    share = carbon / carbon[0]
    assert float(share[T.argmax()]) == pytest.approx(flame.stoichiometric, abs=0.02)
    assert flame.stoichiometric == pytest.approx(0.0552, rel=0.01)  # 1/(1 + 17.1)
    assert float((Y.sum(-1) - 1).abs().max()) < 1e-9
    both = Y[:, gas.mechanism.index("CH4")] * Y[:, gas.mechanism.index("O2")]
    assert float(both.max()) < 1e-2  # fuel and oxygen hardly meet


@pytest.mark.parametrize(("fuel", "air", "nitrogen"), [(0.3, 1.0, 0.0), (0.5, 0.5, 1.0)])
def test_hydrogen_against_air_is_canteras(fuel: float, air: float, nitrogen: float) -> None:
    cantera = pytest.importorskip("cantera")
    gas = Gas(load_mechanism(Path(cantera.__file__).parent / "data" / "h2o2.yaml"))
    flame = DiffusionFlame(
        gas=gas,
        mixture=Mixture({"H2": 1.0}),
        dilution={"N2": nitrogen},
        p=_t(101325.0),
        T_in=_t(300.0),
        mass_flux_left=_t(fuel),
        mass_flux_right=_t(air),
    )
    found = GridSolver().set_refine_criteria(slope=0.1, curve=0.2).solve(flame).value
    solution = cantera.Solution("h2o2.yaml")
    solution.TP = 300.0, 101325.0
    other = cantera.CounterflowDiffusionFlame(solution, width=0.02)
    other.transport_model = "mixture-averaged"
    other.fuel_inlet.mdot, other.fuel_inlet.X = fuel, f"H2:1, N2:{nitrogen}"
    other.oxidizer_inlet.mdot, other.oxidizer_inlet.X = air, "O2:1, N2:3.76"
    other.fuel_inlet.T = other.oxidizer_inlet.T = 300.0
    other.set_refine_criteria(ratio=3, slope=0.04, curve=0.08)
    other.solve(0, auto=True)
    # Cantera's curvature falls with the first order, by 0.5 to 1 % from this grid (255 or 280 points) to none.
    assert float(found.eigenvalue[0]) == pytest.approx(float(other.L[0]), rel=1e-2)
    assert float(found.field("T").max()) == pytest.approx(max(other.T), rel=4e-3)


def test_too_much_strain_puts_a_flame_out(gas: Gas) -> None:
    flame = CounterflowFlame(
        gas=gas,
        mixture=METHANE,
        phi=_t(0.8),
        p=_t(101325.0),
        T_in=_t(300.0),
        mass_flux_left=_t(30.0),
        mass_flux_right=_t(30.0),
    )
    with pytest.raises(SolveError, match="does not burn"):
        GridSolver().solve(flame)
    solution = GridSolver().solve(flame, throw=False)
    assert solution.result is Result.WRONG_BRANCH and not bool(solution.stats["burning"])


def test_the_unstable_flame_is_known_from_the_burning_one(gas: Gas) -> None:
    flame = CounterflowFlame(gas=gas, mixture=METHANE, phi=_t(0.6), p=_t(101325.0), T_in=_t(300.0))
    burning = GridSolver().solve(flame)
    assert bool(burning.stats["stable"]) and float(burning.value.field("T").max()) > 1550
    # Half way to the gas that only mixes, Newton finds the solution in between: 1342 K at most.
    found, state = burning.value, burning.value.state.clone()
    nitrogen = found.field("N2")
    share = ((nitrogen - nitrogen[:, :1]) / (nitrogen[:, -1:] - nitrogen[:, :1])).unsqueeze(-1)
    mixed = flame.Y_in[:, None] * (1 - share) + flame.Y_right * share
    state[..., 2] = 300.0 + 0.5 * (state[..., 2] - 300.0)
    state[..., 3:-1] = 0.5 * (state[..., 3:-1] + mixed)
    half = FlameSolution(flame, found.problem, state)
    with pytest.raises(SolveError, match="unstable one between a burning and an extinguished flame"):
        GridSolver().solve(flame, start=half)
    solution = GridSolver().solve(flame, start=half, throw=False)
    assert solution.result is Result.WRONG_BRANCH and not bool(solution.stats["stable"])
    # Small disturbances say the same: in steps of implicit Euler (4 ms) they grow about the one, decay about the other.
    for state, grows in ((solution.value, True), (found, False)):
        mass, step = state.problem.mass(state.state), 4e-3
        factors = state.jacobian.shifted(-mass / step).factor()
        change = torch.randn(state.state.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for _ in range(40):
            before = (mass * change).norm()
            change = -factors.solve(mass / step * change)
            rate = float((mass * change).norm() / before)
            change = change / change.abs().max()
        assert (rate > 1.5) if grows else (rate < 0.9), rate


def test_what_is_too_lean_has_no_flame(gas: Gas) -> None:
    flame = FreeFlame(gas=gas, mixture=METHANE, phi=_t(0.1), p=_t(101325.0), T_in=_t(300.0))
    for solver in (GridSolver(), SpectralSolver()):
        with pytest.raises(SolveError, match=r"phi = 0.1 burns to \d+ K only"):
            solver.solve(flame)
        assert solver.solve(flame, throw=False).stats["obstacle"] is not None


def test_streams_that_cannot_burn_are_refused(gas: Gas) -> None:
    flame = DiffusionFlame(
        gas=gas, mixture=Mixture({"N2": 1.0}), p=_t(101325.0), T_in=_t(300.0), mass_flux_left=_t(0.5)
    )
    with pytest.raises(MechanismError, match="one stream that needs oxygen"):
        GridSolver().solve(flame)
