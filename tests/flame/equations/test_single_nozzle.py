"""Twin flames and flames against a wall: beside the counterflow they are half of, Cantera, and differences."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.single_nozzle import AbstractNozzleFlame, ImpingingFlame, TwinFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.flame.solver.turning import extinction
from simengine.solve.solution import SolveError
from simengine.worlds.flames.readings import scalars

METHANE = Mixture({"CH4": 1.0})
BOTH = [TwinFlame, ImpingingFlame]


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-7)


def flame_of(gas: Gas, kind: type[AbstractNozzleFlame], **more) -> AbstractNozzleFlame:
    own = {"mixture": METHANE, "phi": scalar(0.8), "p": scalar(101325.0), "T_in": scalar(300.0)}
    return kind(gas=gas, **{**own, "mass_flux": scalar(1.0), "length": 0.01, **more})


def read(found: FlameSolution, *names: str) -> torch.Tensor:
    return scalars(found.flame, found.problem, found.state, names)


def test_twins_are_half_of_two_opposed_nozzles(gas: Gas) -> None:
    """The counterflow knows nothing of symmetry; it is solved on both halves of the twin's own grid."""
    solver = GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.1, curve=0.2)
    twin = solver.solve(flame_of(gas, TwinFlame)).value
    flow = twin.flame
    X = {name: float(x) for name, x in zip(gas.mechanism.species, gas.mole_fractions(flow.Y_in)[0], strict=True)}
    both = CounterflowFlame(
        gas=gas,
        mixture=METHANE,
        phi=scalar(0.8),
        p=scalar(101325.0),
        T_in=scalar(300.0),
        length=0.02,
        opposed=X,
        mass_flux_left=scalar(1.0),
        mass_flux_right=scalar(1.0),
    )
    x, y = twin.x, twin.y.detach()
    mirrored = y.flip(1) * torch.tensor([-1.0] + [1.0] * (y.shape[-1] - 1)).double()
    edges = torch.cat((x, 0.02 - x.flip(1)[:, 1:]), 1)
    problem = solver.problem(both, edges, edges.shape[1] - 1)
    fields = torch.cat((y, mirrored[:, 1:]), 1)[:, None]
    problem = problem.near(fields, twin.eigenvalue.detach())
    whole = solver.solve(both, start=FlameSolution(both, problem, problem.pack(fields, twin.eigenvalue.detach()))).value
    # The plane's condition is of first order on this grid: no gradient in the last interval.
    assert float(whole.eigenvalue[0]) == pytest.approx(float(twin.eigenvalue[0]), rel=2e-3)
    assert float(whole.field("T").max()) == pytest.approx(float(twin.field("T").max()), rel=1e-4)
    speed = read(twin, "consumption_speed")
    assert float(read(whole, "consumption_speed")) == pytest.approx(2 * float(speed), rel=1e-3)


def test_a_wall_takes_heat_and_no_species(gas: Gas) -> None:
    found = SpectralSolver(resolution=1e-5).solve(flame_of(gas, ImpingingFlame)).value
    grid = GridSolver().set_refine_criteria(slope=0.06, curve=0.12).solve(flame_of(gas, ImpingingFlame)).value
    for name in ("pressure_curvature", "T_max", "consumption_speed"):
        assert float(read(grid, name)) == pytest.approx(float(read(found, name)), rel=2e-3), name
    assert float(found.field("T")[0, -1]) == pytest.approx(600.0)
    assert float(found.field("rho u")[0, -1]) == pytest.approx(0.0, abs=1e-12)
    y, z = found.problem.unpack(found.state)
    dy = found.problem.slope @ y
    _, j = found.flame.diffusive_flux(y[..., 2], y[..., 3:], dy[..., 2], dy[..., 3:])
    inner = float(j.abs().amax())
    own = [k for k in range(len(gas.W)) if k != found.flame.closing]
    assert float(j[:, -1, -1, own].abs().amax()) < 1e-9 * inner
    assert z.shape[0] == 1


@pytest.mark.parametrize("kind", BOTH)
def test_local_jacobian_is_the_derivative(gas: Gas, kind: type[AbstractNozzleFlame]) -> None:
    flame, generator = flame_of(gas, kind), torch.Generator().manual_seed(0)
    m = len(flame.fields)
    y = torch.rand((1, 1, 3, m), dtype=torch.float64, generator=generator)
    y[..., 2] = 300 + 1800 * y[..., 2]
    y[..., 3:] /= y[..., 3:].sum(-1, keepdim=True)
    dy = torch.rand((1, 1, 3, m), dtype=torch.float64, generator=generator) - 0.5
    z = torch.full((1, 1, 3, 1), -100.0, dtype=torch.float64)
    own, full = flame.local_jacobian(y, dy, z)[1], local_jacobian(flame.flux_and_source, y, dy, z)[1]
    assert float(((own - full).abs() / full.abs().amax(-1, keepdim=True).clamp_min(1e-300)).max()) < 1e-10


@pytest.mark.parametrize("kind", BOTH)
def test_gradients_are_those_of_differences(gas: Gas, kind: type[AbstractNozzleFlame]) -> None:
    solver = GridSolver(tolerance=1e-11).set_refine_criteria(slope=0.15, curve=0.3)
    names = ["Ea", "mass_flux", "phi", "D_factor-CH4"] + (["T_wall"] if kind is ImpingingFlame else [])
    base = flame_of(gas, kind)
    start = solver.solve(base).value
    for name in names:
        value = base.parameter(name).detach()
        leaf = value.clone().requires_grad_()
        found = solver.solve(base.replace(**{name: leaf}), start=start).value
        told = read(found, "consumption_speed").sum()
        (slope,) = torch.autograd.grad(told, leaf)
        step = 1e-5 * value
        ends = [
            float(read(solver.solve(base.replace(**{name: value + s * step}), start=start).value, "consumption_speed"))
            for s in (-2, -1, 1, 2)
        ]
        difference = (8 * (ends[2] - ends[1]) - (ends[3] - ends[0])) / (12 * float(step.sum()))
        assert float(slope.sum()) == pytest.approx(difference, rel=1e-6), name


@pytest.mark.slow
def test_too_fast_a_stream_puts_twins_out_and_their_end_is_found(gas: Gas) -> None:
    with pytest.raises(SolveError, match="does not burn"):
        GridSolver().solve(flame_of(gas, TwinFlame, mass_flux=scalar(30.0)))
    solver = GridSolver().set_refine_criteria(slope=0.2, curve=0.4)
    start = solver.solve(flame_of(gas, TwinFlame)).value

    def family(flux: torch.Tensor) -> AbstractNozzleFlame:
        return flame_of(gas, TwinFlame, mass_flux=flux)

    end = extinction(start, family, 1.0, solver)
    assert 1.5 < end.value < 30.0
    assert solver.solve(family(scalar(0.9 * end.value)), start=end.solution, throw=False).success


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("mechanism", "fuel", "phi", "flux"), [("h2o2.yaml", "H2", 0.5, 2.0), ("gri30.yaml", "CH4", 0.8, 0.6)]
)
def test_consumption_speeds_are_canteras(
    kind: type[AbstractNozzleFlame], mechanism: str, fuel: str, phi: float, flux: float
) -> None:
    """On our points, upwind as Cantera is; Cantera starts from our fields and solves its own equations."""
    cantera = pytest.importorskip("cantera")
    gas = Gas(load_mechanism(Path(cantera.__file__).parent / "data" / mechanism), smoothing=1e-8)
    more = {"mixture": Mixture({fuel: 1.0}), "phi": scalar(phi), "mass_flux": scalar(flux)}
    solver = GridSolver(convection="upwind").set_refine_criteria(slope=0.1, curve=0.2)
    found = solver.solve(flame_of(gas, kind, **more)).value
    solution = cantera.Solution(mechanism)
    solution.set_equivalence_ratio(phi, f"{fuel}:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    x = found.x[0].numpy()
    twin = kind is TwinFlame
    other = (cantera.CounterflowTwinPremixedFlame if twin else cantera.ImpingingJet)(solution, grid=x)
    other.transport_model = "mixture-averaged"
    inlet = other.reactants if twin else other.inlet
    inlet.mdot, inlet.T, inlet.X = flux, 300.0, solution.X
    if not twin:
        other.surface.T = 600.0
    other.set_initial_guess()
    fields = found.profiles(found.x[0])
    told = {"velocity": fields["u"], "spreadRate": fields["V"], "T": fields["T"]}
    told |= {"Lambda": found.eigenvalue[:, None].expand(1, len(x))}
    told |= {name: found.field(name) for name in gas.mechanism.species}
    for name, values in told.items():
        other.flame.set_profile(name, x / x[-1], values[0].numpy())
    other.solve(0, refine_grid=False, auto=False)
    rise = (max(other.T) - 300.0) * other.density_mass[0]
    theirs = np.trapezoid(other.heat_release_rate / other.cp_mass, x) / rise
    assert float(read(found, "consumption_speed")) == pytest.approx(float(theirs), rel=3e-3)  # measured: 2e-4 to 1.2e-3
    assert float(found.field("T").max()) == pytest.approx(max(other.T), rel=3e-3)
