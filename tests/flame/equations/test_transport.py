"""Laws of transport in flames: derivatives written out against reverse sweeps, speeds against Cantera."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.transport import AbstractTransport, LewisNumbers, MixtureAveraged, Multicomponent
from simengine.flame.gas.document import find
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.radiation import absorption
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.grid import GridMesh
from simengine.flame.solver.solve import GridSolver
from simengine.flame.solver.upwind import UpwindProblem
from simengine.solve.newton import newton

LAWS = [law(soret=soret) for law in (MixtureAveraged, LewisNumbers, Multicomponent) for soret in (False, True)]


@pytest.fixture(scope="module")
def gas() -> Gas:
    pytest.importorskip("cantera")
    return Gas(load_mechanism(find(Path("h2o2.yaml"))), smoothing=1e-8)


def _flame(gas: Gas, transport: AbstractTransport, **more) -> FreeFlame:
    phi, p, T = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 101325.0, 300.0))
    return FreeFlame(gas=gas, mixture=Mixture({"H2": 1.0}), phi=phi, p=p, T_in=T, transport=transport, **more)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{type(law).__name__}-{law.soret}")
def test_local_jacobian_is_the_derivative(gas: Gas, law: AbstractTransport) -> None:
    K, generator = len(gas.W), torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=generator)

    Y = uniform(1, 1, 4, K)
    y = torch.cat((300 + 2000 * uniform(1, 1, 4, 1), Y / Y.sum(-1, keepdim=True)), -1)
    dy = (uniform(1, 1, 4, 1 + K) - 0.5) * torch.tensor([1e6, *[1e3] * K], dtype=torch.float64)
    z = torch.full((1, 1, 4, 1), 0.5, dtype=torch.float64)
    flame = _flame(gas, law, D_factor=0.5 + uniform(K), radiation="optically_thin")
    value, jacobian = flame.local_jacobian(y, dy, z)
    expected, full = local_jacobian(flame.flux_and_source, y, dy, z)
    assert torch.allclose(value, expected, rtol=1e-10)
    size = full.abs().amax(-1, keepdim=True)
    assert float(((jacobian - full).abs() / size.clamp_min(1e-300)).max()) < 1e-10  # measured 2e-14


def test_laws_differ_and_radiation_cools(gas: Gas) -> None:
    K = len(gas.W)
    Y = torch.full((1, 1, 1, K), 1 / K, dtype=torch.float64)
    y, z = torch.cat((torch.full((1, 1, 1, 1), 1500.0), Y), -1).double(), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    dy = torch.linspace(-1, 1, 1 + K, dtype=torch.float64).expand(1, 1, 1, -1) * 100
    fluxes = [_flame(gas, law).flux_and_source(y, dy, z)[0, 0, 0] for law in LAWS]
    for k, one in enumerate(fluxes):
        assert all(float((one - other).abs().max()) > 1e-6 for other in fluxes[:k])
    thin = _flame(gas, LAWS[0], radiation="optically_thin", radiation_factor=torch.tensor(2.0, dtype=torch.float64))
    lost = fluxes[0][1 + K] - thin.flux_and_source(y, dy, z)[0, 0, 0, 1 + K]
    # 4 sigma (1500^4 - 300^4) of one tenth H2O by mass among ten species, twice: the hand's sum
    X = gas.mole_fractions(Y)[0, 0, 0, gas.mechanism.index("H2O")]
    a = sum(c * (1000 / 1500) ** n for n, c in enumerate((-0.23093, -1.12390, 9.41530, -2.99880, 0.51382, -1.8684e-5)))
    assert float(lost) == pytest.approx(2 * 4 * 5.670374419e-8 * (1500.0**4 - 300.0**4) * a * float(X), rel=1e-6)


def test_absorption_is_that_of_the_fits_and_stays_where_they_end(gas: Gas) -> None:
    """The workshop's polynomials by hand at 400 K, and beyond 300 and 2500 K the values there."""
    water, at = gas.mechanism.index("H2O"), torch.tensor([400.0, 300.0, 250.0, 2500.0, 3000.0], dtype=torch.float64)
    found = absorption(gas.mechanism, at)[:, water]
    by_hand = sum(c * 2.5**n for n, c in enumerate((-0.23093, -1.12390, 9.41530, -2.99880, 0.51382, -1.8684e-5)))
    assert float(found[0]) == pytest.approx(by_hand / 101325.0, rel=1e-9)
    assert found[1] == found[2] and found[3] == found[4] and len(found.unique()) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("law", "model"), [(Multicomponent(soret=True), "multicomponent"), (LewisNumbers(), "unity")])
def test_speed_is_canteras_on_its_points(gas: Gas, law: AbstractTransport, model: str) -> None:
    cantera = pytest.importorskip("cantera")
    solution = cantera.Solution("h2o2.yaml")
    solution.set_equivalence_ratio(1.0, "H2:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    other = cantera.FreeFlame(solution, width=0.03)
    other.set_refine_criteria(ratio=3, slope=0.06, curve=0.12)
    other.transport_model = "mixture-averaged" if law.soret else "unity-Lewis-number"
    other.solve(0, auto=True)
    if law.soret:
        other.transport_model = model
        other.soret_enabled = True
        other.solve(0)
    flame = _flame(gas, law)
    k = int(np.argmin(np.abs(other.T - flame.T_fix)))
    flame = dataclasses.replace(flame, T_fix=float(other.T[k]))
    mesh = GridMesh(torch.tensor(other.grid - other.grid[k])[None], k)
    y = torch.cat((torch.tensor(other.T)[:, None], torch.tensor(other.Y.T.copy())), dim=1)[None, None]
    z = float(other.velocity[0]) * flame.rho_in
    problem = UpwindProblem(flame, mesh).near(y, z)
    found = newton(problem, problem.pack(y, z), throw=True).value
    ratio = float(flame.flame_speed(found[:, 0, -1])) / float(other.velocity[0])
    assert ratio == pytest.approx(1.0, abs=1e-3)  # measured 0.99965 and 1.00008


@pytest.mark.slow
def test_speed_has_its_gradients(gas: Gas) -> None:
    solver = GridSolver().set_refine_criteria(slope=0.2, curve=0.4)
    law = Multicomponent(soret=True)
    leaves = {
        "lam_factor": torch.tensor(1.0),
        "radiation_factor": torch.tensor(1.0),
        "D_factor": torch.ones(len(gas.W)),
    }
    leaves = {name: value.double().requires_grad_() for name, value in leaves.items()}
    first = solver.solve(_flame(gas, law, radiation="optically_thin", **leaves)).value
    first.eigenvalue.sum().backward()
    for name, value in leaves.items():
        speeds, plain = [], {k: v.detach() for k, v in leaves.items()}
        for s in (1e-4, -1e-4):
            moved = plain | {name: plain[name] * 1.0}
            moved[name].view(-1)[0] += s
            flame = _flame(gas, law, radiation="optically_thin", **moved)
            problem = first.problem.of(flame)
            speeds.append(newton(problem, first.state.detach(), tolerance=1e-11, throw=True).value[0, 0, -1])
        slope = float(speeds[0] - speeds[1]) / 2e-4
        assert float(value.grad.view(-1)[0]) == pytest.approx(slope, rel=1e-5), name
