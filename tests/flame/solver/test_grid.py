"""Flames on adaptive grids: exact Jacobians, second-order accuracy, criteria, detailed mechanisms, gradients."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from simengine.flame.equations.base import AbstractFlame, local_jacobian
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.equations.transport import MixtureAveraged, Multicomponent
from simengine.flame.gas.equilibrium import equilibrium
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.grid import GridMesh, GridProblem
from simengine.flame.solver.refine import RefineCriteria
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.flame.solver.upwind import UpwindProblem
from simengine.solve.newton import newton


def test_lean_weights_are_exact_for_exponentials_on_both_sides_of_the_series() -> None:
    # coth(P/2) - 2/P = P/6 - P^3/360 + P^5/15120 - ..., by which differences of an interval meet exp(P x) exactly
    P = torch.tensor([[-2e-2, -9.9e-3, 1e-4, 5e-3, 9.9e-3, 1.1e-2, 5e-2]], dtype=torch.float64)
    flame = SimpleNamespace(drift=lambda mean, z: torch.ones_like(mean[..., 0]))
    fields = torch.zeros(1, 1, P.shape[1] + 1, 2, dtype=torch.float64)
    weights = GridProblem._weights(SimpleNamespace(flame=flame, h=P), fields, torch.zeros(1, dtype=torch.float64))  # type: ignore[arg-type]
    # the series is cut after its first term below 1e-2: 1e-4/60 of it
    assert torch.allclose(weights, P / 6 - P**3 / 360 + P**5 / 15120, rtol=2e-6, atol=0.0)


METHANE = Mixture({"CH4": 1.0})


def _t(value: float | list[float]) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-8)


def _cantera_gas(name: str) -> Gas:
    cantera = pytest.importorskip("cantera")
    return Gas(load_mechanism(Path(cantera.__file__).parent / "data" / f"{name}.yaml"), smoothing=1e-8)


def _free(gas: Gas, phi: float, fuel: str = "CH4") -> FreeFlame:
    return FreeFlame(gas=gas, mixture=Mixture({fuel: 1.0}), phi=_t(phi), p=_t(101325.0), T_in=_t(300.0))


def _counterflow(gas: Gas, phi: float) -> CounterflowFlame:
    return CounterflowFlame(gas=gas, mixture=METHANE, phi=_t(phi), p=_t(101325.0), T_in=_t(300.0))


def test_jacobians_are_derivatives_of_the_residuals(gas: Gas) -> None:
    flames: list[AbstractFlame] = [SimplifiedFlame(), _free(gas, 1.0), _counterflow(gas, 0.8)]
    for flame in flames:
        solver = GridSolver(first=1)
        edges = solver.first_edges(flame)
        problem = solver.problem(flame, edges, solver.anchor(flame, edges))
        guess = flame.guess(problem.mesh.x)
        problem = problem.near(*guess)
        state = problem.pack(*guess)
        full = torch.autograd.functional.jacobian(problem.residual, state)[0, :, :, 0]
        blocks = problem.linearise(state)[1].dense()[0]
        full = full.reshape(blocks.shape)
        row = full.abs().amax(1, keepdim=True)
        assert float(((full - blocks).abs() / row).max()) < 1e-11


@pytest.mark.parametrize("mechanism", ["methane_1step", "h2o2"])
def test_written_out_derivatives_are_those_of_sweeps(mechanism: str) -> None:
    gas = Gas(load_mechanism(mechanism), smoothing=1e-8) if mechanism[0] == "m" else _cantera_gas(mechanism)
    fuel = {"methane_1step": "CH4", "h2o2": "H2"}[mechanism]
    for kind in (FreeFlame, CounterflowFlame):
        flame = kind(gas=gas, mixture=Mixture({fuel: 1.0}), phi=_t([0.8, 1.2]), p=_t(2e5), T_in=_t(320.0))
        generator = torch.Generator().manual_seed(0)
        x = flame.edges()[:, None]
        y, z = flame.guess(x)
        y = y + 2e-3 * torch.rand(y.shape, generator=generator, dtype=y.dtype)
        dy = 1e3 * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        z = z[:, None, None, None].expand(-1, 1, x.shape[2], 1)
        for found, expected in zip(
            flame.local_jacobian(y, dy, z), local_jacobian(flame.flux_and_source, y, dy, z), strict=True
        ):
            axes = tuple(range(1, expected.dim() - 1)) if expected.dim() == 4 else (1, 2, 4)
            size = expected.abs().amax(axes, keepdim=True).clamp_min(1e-30)
            assert float(((found - expected).abs() / size).max()) < 1e-11


def test_speeds_and_curvature_within_a_thousandth(gas: Gas) -> None:
    cases: list[tuple[AbstractFlame, float]] = [
        (SimplifiedFlame(), 0.29278611206),
        (_free(gas, 1.0), 0.38091477),
        (_counterflow(gas, 0.8), -13565.92654146),
    ]
    for flame, truth in cases:
        solution = GridSolver().solve(flame)
        figure = float(next(iter(flame.figures(solution.value.eigenvalue).values())))
        assert figure == pytest.approx(truth, rel=1e-3), type(flame).__name__
        assert solution.stats["num_points"] <= 400


def test_error_is_of_second_order() -> None:
    errors = []
    for curve in (0.08, 0.04, 0.02):
        solution = GridSolver().set_refine_criteria(slope=curve / 2, curve=curve).solve(SimplifiedFlame())
        points = solution.stats["num_points"]
        errors.append((points, abs(float(solution.value.eigenvalue[0]) / 0.29278611206 - 1)))
    (first, coarse), _, (last, fine) = errors
    assert fine < 4e-5
    assert coarse / fine > 0.5 * (last / first) ** 2  # grids that adapt are not exact multiples


def test_conservation(gas: Gas) -> None:
    found = GridSolver().solve(_free(gas, 1.0)).value
    flame, state = found.flame, found.state
    y, dy, z = found.problem._middle(state)
    T, Y = y[..., 0], y[..., 1:]
    assert float((found.y[..., 1:].sum(-1) - 1).abs().max()) < 1e-9
    _, j = flame.diffusive_flux(T, Y, dy[..., 0], dy[..., 1:])
    to_elements = gas.mechanism.composition / gas.W[:, None]
    # F and S are joined with weights: M Y + j of the interval, moved by the share of the convection it hands on
    drop = 0.5 * found.problem.h * found.problem.lean * found.eigenvalue[:, None]
    flux = (z * Y + j - drop[:, None, :, None] * dy[..., 1:]) @ to_elements
    expected = found.eigenvalue[:, None] * (flame.Y_in @ to_elements)
    assert float((flux / expected[:, None, None] - 1).abs().max()) < 1e-7  # Newton's tolerance


def test_implicit_gradients_against_differences(gas: Gas) -> None:
    base = _free(gas, 0.9)
    start = GridSolver().solve(base).value
    leaves = {name: value.clone().requires_grad_() for name, value in base.parameters().items()}
    found = GridSolver(tolerance=1e-10).solve(base.replace(**leaves), start=start).value
    # On the same points the discrete equations are differentiated exactly; a solve from `start` may refine.
    assert found.state.shape == start.state.shape
    found.flame.flame_speed(found.eigenvalue).log().sum().backward()
    for name in ("p", "lam_factor", "Ea-0", "D_factor-O2"):
        value, logs = base.parameter(name), []
        for sign in (1, -1):
            changed = base.replace(**{name: value * (1 + sign * 1e-4)})
            moved = GridSolver(tolerance=1e-10).solve(changed, start=start).value
            assert moved.state.shape == start.state.shape
            logs.append(float(changed.flame_speed(moved.eigenvalue)[0].log()))
        key, _, entry = name.partition("-")
        slope = (leaves[key].grad * leaves[key].detach()).reshape(-1)
        index = gas.mechanism.index(entry) if entry and not entry.isdigit() else 0
        assert float(slope[index]) == pytest.approx((logs[0] - logs[1]) / 2e-4, abs=2e-6), name


def test_speed_and_fields_have_gradients_to_every_rate_constant() -> None:
    gas = _cantera_gas("h2o2")
    base = _free(gas, 1.0, "H2")
    solver = dataclasses.replace(GridSolver(tolerance=1e-10).set_refine_criteria(slope=0.3, curve=0.6), first=2)
    start = solver.solve(base).value
    at = _t([-1e-4, 1e-4, 4e-4])

    def figures(found: FlameSolution) -> torch.Tensor:
        fields = found.at(at)[0]
        hydrogen, hydroxyl = (1 + gas.mechanism.index(name) for name in ("H", "OH"))
        return torch.cat((found.eigenvalue.log(), fields[:, 0].log(), fields[:, [hydrogen, hydroxyl]].flatten() * 100))

    names = ("A", "b", "Ea", "A_low", "b_low", "Ea_low")
    leaves = {name: base.parameter(name).clone().requires_grad_() for name in names}
    values = figures(solver.solve(base.replace(**leaves), start=start).value)
    rows = [torch.autograd.grad(value, list(leaves.values()), retain_graph=True) for value in values]
    falloff = gas.kinetics.falloff.nonzero()[:, 0].tolist()
    wanted = [("A", r) for r in range(len(base.A))] + [(name, r) for name in names for r in (3, *falloff)]
    for name, r in wanted:
        if name.endswith("_low") and r not in falloff:
            continue
        # relative steps of 1e-4 of the rate constant at 1500 K in any of its three parameters
        h = {"A": float(base.parameter(name)[r]), "b": 1 / math.log(1500.0), "E": 8.3145 * 1500.0}[name[0]] * 1e-4
        moved = []
        for sign in (1, -1):
            changed = base.parameter(name).clone()
            changed[r] += sign * h
            found = solver.solve(base.replace(**{name: changed}), start=start).value
            assert found.state.shape == start.state.shape
            moved.append(figures(found))
        slopes = torch.stack([row[names.index(name)][r] for row in rows]) * h / 1e-4
        # central differences: h^2 times third derivatives of order 10 to 100
        assert torch.allclose(slopes, (moved[0] - moved[1]) / 2e-4, rtol=1e-6, atol=1e-6), (name, r)


def test_upwind_convection_is_canteras() -> None:
    cantera = pytest.importorskip("cantera")
    solution = cantera.Solution("h2o2.yaml")
    solution.set_equivalence_ratio(1.0, "H2:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    other = cantera.FreeFlame(solution, width=0.03)
    other.transport_model = "mixture-averaged"
    other.set_refine_criteria(ratio=3, slope=0.06, curve=0.12)
    other.solve(0, auto=True)
    flame = _free(_cantera_gas("h2o2"), 1.0, "H2")
    same = GridSolver(convection="upwind").set_refine_criteria(slope=0.06, curve=0.12).solve(flame).value
    assert float(flame.flame_speed(same.eigenvalue)) == pytest.approx(float(other.velocity[0]), rel=5e-4)
    # On its very points, and with the default scheme below it by its error of first order.
    k = int(np.argmin(np.abs(other.T - flame.T_fix)))
    flame = dataclasses.replace(flame, T_fix=float(other.T[k]))
    mesh = GridMesh(torch.tensor(other.grid - other.grid[k])[None], k)
    y = torch.cat((torch.tensor(other.T)[:, None], torch.tensor(other.Y.T.copy())), dim=1)[None, None]
    speeds, z = [], float(other.velocity[0]) * flame.rho_in
    for kind in (UpwindProblem, GridProblem):
        problem = kind(flame, mesh).near(y, z)
        found = newton(problem, problem.pack(y, z), throw=True).value
        speeds.append(float(flame.flame_speed(found[:, 0, -1])) / float(other.velocity[0]))
    assert speeds[0] == pytest.approx(1.0, abs=1e-3) and 0.995 < speeds[1] < 0.998


def test_upwind_jacobian_is_the_derivative_of_the_residual(gas: Gas) -> None:
    for flame in (_free(gas, 1.0), _counterflow(gas, 0.8)):
        solver = GridSolver(first=1, convection="upwind")
        edges = solver.first_edges(flame)
        problem = solver.problem(flame, edges, solver.anchor(flame, edges))
        guess = flame.guess(problem.mesh.x)
        problem = problem.near(*guess)
        assert isinstance(problem, UpwindProblem)
        state = problem.pack(*guess)
        full = torch.autograd.functional.jacobian(problem.residual, state)[0, :, :, 0]
        blocks = problem.linearise(state)[1].dense()[0]
        full = full.reshape(blocks.shape)
        assert float(((full - blocks).abs() / full.abs().amax(1, keepdim=True)).max()) < 1e-11


def test_criteria_add_keep_and_remove_points() -> None:
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)[None]
    y = torch.tanh(8 * x).unsqueeze(-1)
    points, anchor, error = RefineCriteria(3, 0.1, 0.2).apply(x, 20, y, torch.ones(1, 1, 1))
    assert points.shape[1] > 41 and abs(float(points[0, anchor])) < 1e-15 and float(error) > 0
    assert bool((points.diff(dim=1) > 0).all())
    fine = points
    for _ in range(6):
        fine, anchor, _ = RefineCriteria(3, 0.1, 0.2).apply(
            fine, anchor, torch.tanh(8 * fine).unsqueeze(-1), torch.ones(1, 1, 1)
        )
    change = torch.tanh(8 * fine).diff(dim=1).abs()
    h = fine.diff(dim=1)
    assert float(change.max()) <= 0.1 * 2 and float((h[:, 1:] / h[:, :-1]).max()) <= 3 * (1 + 1e-6)
    pruned, kept, _ = RefineCriteria(3, 0.1, 0.2, prune=0.09).apply(
        fine, anchor, torch.tanh(8 * fine).unsqueeze(-1), torch.ones(1, 1, 1)
    )
    assert pruned.shape[1] < fine.shape[1] and abs(float(pruned[0, kept])) < 1e-15
    with pytest.raises(ValueError, match="ratio >= 2"):
        RefineCriteria(ratio=1.0)
    with pytest.raises(ValueError, match="prune"):
        RefineCriteria(prune=0.5)


def test_an_error_is_that_of_a_parabola_between_points() -> None:
    """X^2 between points h apart is h^2 / 4 off its chord; over a range of 1."""
    x = torch.linspace(0, 1, 11, dtype=torch.float64)[None]
    _, _, error = RefineCriteria(3, 1.0, 1.0).apply(x, 0, (x**2).unsqueeze(-1), torch.ones(1, 1, 1))
    assert error.tolist() == pytest.approx([0.1**2 / 4], rel=1e-9)


def test_a_wide_interval_is_cut_on_either_side_of_a_narrow_one() -> None:
    x = torch.tensor([[0.0, 1.0, 1.2, 1.4]], dtype=torch.float64)
    flat = torch.zeros(1, 4, 1, dtype=torch.float64)
    for points, wanted in ((x, [0.0, 0.5, 1.0, 1.2, 1.4]), (1.4 - x.flip(1), [0.0, 0.2, 0.4, 0.9, 1.4])):
        found, _, _ = RefineCriteria(3, 0.1, 0.2).apply(points, 0, flat, torch.ones(1, 1, 1))
        assert found[0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("phi", [0.6, 1.0, 1.6])
def test_equilibrium_is_canteras(phi: float) -> None:
    cantera = pytest.importorskip("cantera")
    gas, solution = _cantera_gas("gri30"), cantera.Solution("gri30.yaml")
    solution.set_equivalence_ratio(phi, "CH4:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    Y = torch.tensor(np.array(solution.Y))[None]
    T, Y = equilibrium(gas, _t([solution.enthalpy_mass]), _t([101325.0]), Y)
    solution.equilibrate("HP", rtol=1e-11)
    assert float(T[0]) == pytest.approx(solution.T, rel=1e-9)
    assert np.abs(Y[0].numpy() - solution.Y).max() < 1e-9


def _cantera_speed(mechanism: str, fuel: str, slope: float, curve: float, width: float) -> float:
    cantera = pytest.importorskip("cantera")
    solution = cantera.Solution(f"{mechanism}.yaml")
    solution.set_equivalence_ratio(1.0, f"{fuel}:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 101325.0
    flame = cantera.FreeFlame(solution, width=width)
    flame.transport_model = "mixture-averaged"
    flame.set_refine_criteria(ratio=3, slope=slope, curve=curve)
    flame.solve(0, auto=True)
    return float(flame.velocity[0])


@pytest.mark.parametrize(("phi", "speed"), [(2.0, 3.0116), (4.0, 1.520)])
def test_rich_hydrogen_cold(phi: float, speed: float) -> None:
    # the first guess is 0.26 and 0.06 times the speed; before a start followed the flame, 413 Jacobians and none
    solution = GridSolver().solve(_free(_cantera_gas("h2o2"), phi, "H2"))
    assert solution.stats["num_iterations"] < 60
    found = float(solution.value.flame.flame_speed(solution.value.eigenvalue))
    # Cantera by first-order upwinding at slope 0.06: 3.0254 and 1.5507, 0.5 and 2 % above
    assert found == pytest.approx(speed, rel=2e-3)


@pytest.mark.slow
def test_very_rich_hydrogen_cold() -> None:
    solution = GridSolver().solve(_free(_cantera_gas("h2o2"), 6.0, "H2"))
    assert solution.stats["num_iterations"] < 150  # measured 96; there was no flame before
    found = float(solution.value.flame.flame_speed(solution.value.eigenvalue))
    assert found == pytest.approx(0.5395, rel=3e-3)


def test_hydrogen_is_canteras() -> None:
    solution = GridSolver().solve(_free(_cantera_gas("h2o2"), 1.0, "H2"))
    found = solution.value
    speed = float(found.flame.flame_speed(found.eigenvalue)[0])
    assert speed == pytest.approx(_cantera_speed("h2o2", "H2", 0.06, 0.12, 0.03), rel=5e-3)
    burnt = found.flame.burnt()
    assert float(found.field("T")[0, -1]) == pytest.approx(float(burnt[0]), rel=2e-2)  # recombination is slow


@pytest.mark.slow
def test_gri_30_is_canteras() -> None:
    flame = _free(_cantera_gas("gri30"), 1.0)
    speeds = {}
    for convection in ("upwind", "second_order"):
        solver = GridSolver(convection=convection).set_refine_criteria(slope=0.06, curve=0.12)
        speeds[convection] = float(flame.flame_speed(solver.solve(flame).value.eigenvalue))
    # Cantera 3.2 on 196 points by the same criteria, 517 and 961: falling as its upwind error does, to a limit.
    assert speeds["upwind"] == pytest.approx(0.38093, rel=5e-3)
    limit = (961 * 0.37489 - 517 * 0.37644) / (961 - 517)
    assert speeds["second_order"] == pytest.approx(limit, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1.0, 3.0, 10.0])
def test_every_free_flame_is_found_cold_on_a_grid(p: float) -> None:
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    for tenth in range(5, 17):
        flame = dataclasses.replace(_free(gas, tenth / 10), p=_t(p * 101325.0))
        solution = GridSolver().solve(flame)
        truth = SpectralSolver(resolution=1e-5).solve(flame).value.eigenvalue
        error = float((solution.value.eigenvalue / truth - 1).abs())
        assert error < 1e-3 and error < float(solution.stats["error"]) < 1e-2


@pytest.mark.slow
def test_every_counterflow_is_found_cold_on_a_grid() -> None:
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    for tenth in range(6, 13):
        flame = _counterflow(gas, tenth / 10)
        solution = GridSolver().solve(flame)
        truth = SpectralSolver(resolution=1e-4).solve(flame).value.eigenvalue
        error = float((solution.value.eigenvalue / truth - 1).abs())
        assert error < 1e-3 and error < float(solution.stats["error"]) < 1e-2
        assert bool(solution.stats["stable"])


def test_multicomponent_flames_start_from_mixture_averaged_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them starts cold; where no start comes of it, the flame is found cold, and is the same."""
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    one = torch.tensor(1.0, dtype=torch.float64)
    air = Mixture({"CH4": 1.0}, {"O2": 1.0, "N2": 3.76})
    flame = FreeFlame(
        gas=gas, mixture=air, phi=one, p=101325 * one, T_in=300 * one, transport=Multicomponent(soret=True)
    )
    solver = GridSolver().set_refine_criteria(slope=0.2, curve=0.4)
    cold, started = GridSolver._cold, []
    monkeypatch.setattr(GridSolver, "_cold", lambda self, own: started.append(type(own.transport)) or cold(self, own))
    near = solver.solve(flame).value
    assert started == [MixtureAveraged]
    monkeypatch.setattr(FreeFlame, "simpler", lambda self: None)
    own = solver.solve(flame).value
    assert started == [MixtureAveraged, Multicomponent]
    assert float(near.eigenvalue) == pytest.approx(float(own.eigenvalue), rel=5e-3)  # on other points
