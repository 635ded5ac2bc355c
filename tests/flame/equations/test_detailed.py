"""Cases 2 and 3: flames of real gases against independent high-order solvers, scaling laws and conservation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.burnt import completely_burnt, temperature_of
from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import SpectralSolver
from simengine.flame.solver.spectral import SpectralMesh, SpectralProblem
from simengine.solve.solution import SolveError

METHANE = Mixture({"CH4": 1.0})


def _t(value: float | list[float]) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-8)


def _free(gas: Gas, phi: float | list[float], p: float | list[float] = 101325.0) -> FreeFlame:
    return FreeFlame(gas=gas, mixture=METHANE, phi=_t(phi), p=_t(p), T_in=_t(300.0))


@pytest.fixture(scope="module")
def stoichiometric(gas: Gas) -> FlameSolution:
    return SpectralSolver().solve(_free(gas, 1.0)).value


def _counterflow(gas: Gas, phi: float) -> CounterflowFlame:
    return CounterflowFlame(gas=gas, mixture=METHANE, phi=_t(phi), p=_t(101325.0), T_in=_t(300.0))


@pytest.fixture(scope="module")
def opposed(gas: Gas) -> FlameSolution:
    return SpectralSolver(resolution=1e-6).solve(_counterflow(gas, 0.8)).value


# sL [m/s] of an independent spectral solver, error <= 3e-9; the last three are printed to 8 digits
@pytest.mark.parametrize(
    ("phi", "p", "sL"), [(0.8, 1, 0.2796691861), (1.0, 1, 0.38091477), (1.2, 1, 0.45244458), (1.0, 5, 0.25473306)]
)
def test_flame_speed_cold(gas: Gas, phi: float, p: float, sL: float) -> None:
    found = SpectralSolver().solve(_free(gas, phi, p * 101325.0)).value
    # the smoothing of sqrt([O2]) below 1e-8 mol/m^3 moves sL by 4e-9, the printed digits hide 1e-8
    assert float(found.flame.flame_speed(found.eigenvalue)[0]) == pytest.approx(sL, rel=3e-8)


def test_fields_against_independent_solver(stoichiometric: FlameSolution, table) -> None:
    reference = table("free_methane_1step")
    x = reference.pop("x")
    inside = (x > float(stoichiometric.x.min())) & (x < 0.9 * float(stoichiometric.x.max()))
    assert inside.sum() > 25 and set(reference) > set(stoichiometric.flame.gas.mechanism.species)
    found = stoichiometric.profiles(torch.tensor(x[inside]))
    for name, values in reference.items():
        error = np.linalg.norm(found[name][0].numpy() - values[inside]) / np.linalg.norm(values[inside])
        assert error < 1e-6, name  # the table's points are interpolated; measured 1e-8 or less


def test_conservation(stoichiometric: FlameSolution) -> None:
    flame, gas = stoichiometric.flame, stoichiometric.flame.gas
    y, z = stoichiometric.problem.unpack(stoichiometric.state)
    dy = stoichiometric.problem.slope @ y
    T, Y = y[..., 0], y[..., 1:]
    assert float((Y.sum(-1) - 1).abs().max()) < 1e-9
    profiles = stoichiometric.profiles(stoichiometric.x)
    assert float((profiles["rho"] * profiles["u"] / stoichiometric.eigenvalue - 1).abs().max()) < 1e-12
    # Element fluxes M Z + sum of j are constant; those of the fresh gas.
    _, j = flame.diffusive_flux(T, Y, dy[..., 0], dy[..., 1:])
    to_elements = gas.mechanism.composition / gas.W[:, None]
    flux = (z * Y + j) @ to_elements
    expected = stoichiometric.eigenvalue[:, None] * (flame.Y_in @ to_elements)
    assert float((flux / expected[:, None, None] - 1).abs().max()) < 1e-6  # resolution 1e-7
    # M h + sum j h - lam T' is constant: the burnt gas has the enthalpy of the fresh one.
    end = temperature_of(gas, gas.h(flame.T_in.expand(1), flame.Y_in), Y[:, -1, -1])
    assert float(T[0, -1, -1]) == pytest.approx(float(end[0]), rel=1e-7)


def test_burnt_gas_is_in_equilibrium(gas: Gas) -> None:
    cantera = pytest.importorskip("cantera")
    solution = cantera.Solution(str(Path(__file__).resolve().parents[3] / "assets" / "methane_1step.yaml"))
    for phi in (0.6, 1.0, 1.4):
        solution.set_equivalence_ratio(phi, "CH4:1", "O2:1, N2:3.76")
        solution.TP = 300.0, 101325.0
        solution.equilibrate("HP")
        T, _ = _free(gas, phi).burnt()
        # Five species dissociate into nothing but each other: complete combustion up to 1e-4 at phi = 1.
        assert float(T[0]) == pytest.approx(solution.T, rel=2e-4)


def test_jacobians_are_derivatives_of_the_residuals(gas: Gas) -> None:
    for flame, edges in ((_free(gas, 1.0), slice(4, 8)), (_counterflow(gas, 0.8), slice(4, 8))):
        count = len(range(*edges.indices(100))) - 1
        mesh = SpectralMesh(flame.edges()[:, edges], 4, 2 if isinstance(flame, FreeFlame) else count)
        problem = SpectralProblem(flame, mesh)
        state = problem.pack(*flame.guess(mesh.x))
        full = torch.autograd.functional.jacobian(problem.residual, state)[0, :, :, 0]
        blocks = problem.linearise(state)[1].dense()[0]
        full = full.reshape(blocks.shape)
        row = full.abs().amax(1, keepdim=True)
        assert float(((full - blocks).abs() / row).max()) < 1e-11


def test_gradients_of_the_flame_speed(gas: Gas, stoichiometric: FlameSolution) -> None:
    base = _free(gas, 1.0)
    leaves = {name: value.clone().requires_grad_() for name, value in base.parameters().items()}
    solver = SpectralSolver(resolution=1e-6)
    flame = base.replace(**leaves)
    found = solver.solve(flame, start=stoichiometric).value
    flame.flame_speed(found.eigenvalue).log().sum().backward()
    slopes = {name: leaf.grad * leaf.detach() for name, leaf in leaves.items() if leaf.grad is not None}
    # One rate, so scaling x by 1/sqrt(A) and M by sqrt(A) gives the same equations: d ln sL/d ln A = 1/2 exactly.
    assert float(slopes["A"][0]) == pytest.approx(0.5, abs=1e-7)
    # Scaling conductivity and all diffusivities by f likewise: sum of the transport sensitivities = 1/2.
    assert float(slopes["lam_factor"] + slopes["D_factor"].sum()) == pytest.approx(0.5, abs=1e-7)
    h = 1e-4
    for name in ("p", "T_in", "phi", "Ea", "lam_factor", "D_factor-CH4", "D_factor-O2"):
        base_name, _, entry = name.partition("-")
        value = base.parameter(name).reshape(-1)[0] if not entry else base.parameter(name)
        logs = []
        for sign in (1, -1):
            changed = base.replace(**{name: value * (1 + sign * h)})
            moved = solver.solve(changed, start=stoichiometric).value
            logs.append(float(changed.flame_speed(moved.eigenvalue)[0].log()))
        difference = (logs[0] - logs[1]) / (2 * h)
        slope = slopes[base_name].reshape(-1)[gas.mechanism.index(entry) if entry else 0]
        assert float(slope) == pytest.approx(difference, abs=1e-6), name  # h^2 times third derivatives up to 50


def test_batch_and_retries(gas: Gas) -> None:
    phi, p = [0.8, 1.0, 1.0], [101325.0, 101325.0, 5 * 101325.0]
    found = SpectralSolver().solve(_free(gas, phi, p)).value
    speeds = found.flame.flame_speed(found.eigenvalue)
    assert torch.allclose(speeds, _t([0.2796691861, 0.38091477, 0.25473306]), rtol=3e-8, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1.0, 3.0, 10.0])
def test_every_condition_is_found_cold(gas: Gas, p: float) -> None:
    solver, speeds = SpectralSolver(resolution=1e-5), []
    for phi in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6):
        found = solver.solve(_free(gas, phi, p * 101325.0)).value
        speeds.append(float(found.flame.flame_speed(found.eigenvalue)[0]))
    assert speeds == sorted(speeds)  # this mechanism has no maximum below phi = 1.6


def test_counterflow_against_independent_solver(opposed: FlameSolution, table) -> None:
    reference = table("counterflow_methane_1step")
    assert float(opposed.eigenvalue[0]) == pytest.approx(-13565.9265, rel=1e-5)  # [Pa/m^2], known to 5e-6
    found = opposed.profiles(torch.tensor(reference["x"]))
    for name in ("T", "u", "V", "rho"):
        error = np.linalg.norm(found[name][0].numpy() - reference[name]) / np.linalg.norm(reference[name])
        assert error < 2e-5, name  # the reference's Lambda is known to 5e-6, its T no better


def test_counterflow_conserves_mass_and_species(opposed: FlameSolution) -> None:
    y, _ = opposed.problem.unpack(opposed.state)
    dy = opposed.problem.slope @ y
    rho = opposed.flame.gas.density(_t(101325.0), y[..., 2], y[..., 3:])
    defect = (dy[..., 0] + 2 * rho * y[..., 1])[:, :, 1:-1]
    assert float(defect.abs().max()) < 1e-8 * float((rho * y[..., 1]).abs().max())
    assert float((y[..., 3:].sum(-1) - 1).abs().max()) < 1e-9
    assert float(y[0, -1, -1, 0]) == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.6, 0.7, 0.9, 1.0, 1.1, 1.2])
def test_every_counterflow_is_found_cold(gas: Gas, phi: float) -> None:
    found = SpectralSolver(resolution=1e-5).solve(_counterflow(gas, phi)).value
    assert float(found.field("T").max()) > 1500.0
    if phi == 1.0:
        assert float(found.eigenvalue[0]) == pytest.approx(-16555.7, rel=1e-5)


def test_what_cannot_burn_is_an_error(gas: Gas) -> None:
    with pytest.raises(SolveError):  # far below the lean limit of anything
        SpectralSolver(max_elements=25).solve(_free(gas, 0.02))
    with pytest.raises(MechanismError, match="expected a fuel"):
        FreeFlame(gas=gas, mixture=Mixture({"N2": 1.0}), phi=_t(1.0), p=_t(1e5), T_in=_t(300.0)).Y_in  # noqa: B018
    with pytest.raises(ValueError, match="p: expected positive"):
        _free(gas, 1.0, -1.0)
    with pytest.raises(ValueError, match="no parameter of this flame"):
        _free(gas, 1.0).replace(viscosity=_t(1.0))


def test_temperature_of_an_enthalpy(gas: Gas) -> None:
    Y = _free(gas, [0.7, 1.2]).Y_in
    T = _t([450.0, 1700.0])
    assert torch.allclose(temperature_of(gas, gas.h(T, Y), Y), T, rtol=1e-10)
    burnt = completely_burnt(gas, Y)
    before, after = (v / gas.W @ gas.mechanism.composition for v in (Y, burnt))
    assert torch.allclose(before, after, rtol=1e-12) and bool((burnt >= -1e-15).all())


@pytest.mark.parametrize("fuel", [{"H2": 1.0}, {"NH3": 1.0, "H2": 0.5}, {"CH4": 1.0, "NO": 0.2}, {"CH3OH": 1.0}])
def test_complete_combustion_keeps_every_element(fuel: dict[str, float]) -> None:
    pytest.importorskip("cantera")
    gas = Gas(load_mechanism("gri30"))
    phi = _t([0.5, 1.0, 1.6])
    Y = Mixture(fuel).mass_fractions(gas, phi)
    burnt = completely_burnt(gas, Y)
    assert float(burnt.min()) > -1e-15
    atoms = gas.mechanism.composition
    assert torch.allclose((burnt / gas.W) @ atoms, (Y / gas.W) @ atoms, rtol=1e-12, atol=1e-15)
    left = sum(burnt[0, gas.mechanism.index(name)] for name in fuel if name != "NO")
    assert float(left) < 1e-15  # lean


def test_a_mechanism_without_carbon_burns(tmp_path: Path) -> None:
    cantera = pytest.importorskip("cantera")
    file = tmp_path / "hydrogen.yaml"
    file.write_text("""units: {length: cm, quantity: mol, activation-energy: cal/mol}
phases:
- name: gas
  thermo: ideal-gas
  species: [{h2o2.yaml/species: [H2, O2, H2O, N2]}]
  kinetics: gas
reactions:
- equation: 2 H2 + O2 => 2 H2O
  rate-constant: {A: 1.8e+16, b: 0, Ea: 30000}
  orders: {H2: 1, O2: 1}
""")
    flame = FreeFlame(
        gas=Gas(load_mechanism(file), smoothing=1e-8),
        mixture=Mixture({"H2": 1.0}),
        phi=_t(0.8),
        p=_t(101325.0),
        T_in=_t(300.0),
    )
    solution = cantera.Solution(file)
    solution.TP = 300.0, 101325.0
    solution.set_equivalence_ratio(0.8, "H2", "O2:1, N2:3.76")
    solution.equilibrate("HP")  # of H2, O2, H2O and N2, in which a lean mixture is burnt but for 1 %
    found = SpectralSolver(resolution=1e-4).solve(flame).value
    assert float(flame.burnt()[0]) == pytest.approx(solution.T, rel=5e-3)
    assert float(found.profiles(found.x[0])["T"].max()) == pytest.approx(float(flame.burnt()[0]), rel=1e-4)
