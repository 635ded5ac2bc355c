"""A temperature that was measured over a burner, in place of the energy equation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.flame.equations.burner import BurnerFlame, piecewise_linear
from simengine.flame.equations.detailed import Mixture
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.scene.base import SceneError
from simengine.scene.loader import load_scene

AT = torch.linspace(0.0, 0.01, 11, dtype=torch.float64)
T = 350 + 1400 * (1 - torch.exp(-AT / 0.0012)) - 8000 * AT
SCENE = """kind = "flame"
[gas]
mechanism = "asset:methane_1step.yaml"
[flame]
type = "burner"
p = 5000.0
mass_flux = 0.03
[flame.temperature]
file = "probe.csv"
columns = { x = "height [mm]", T = "T [degC]" }
[grid]
slope = 0.2
curve = 0.4
"""


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def burner(mechanism: str | Path, fuel: str, **more) -> BurnerFlame:
    own = {"phi": scalar(0.9), "p": scalar(5000.0), "T_in": scalar(300.0), "mass_flux": scalar(0.03)}
    own |= {"temperature": T, "temperature_at": AT, "length": 0.015, **more}
    return BurnerFlame(gas=Gas(load_mechanism(mechanism), smoothing=1e-8), mixture=Mixture({fuel: 1.0}), **own)


def test_the_profile_is_straight_between_its_places_and_constant_beyond() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    at, values = torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([1.0, 3.0, 2.0]).double()
    assert piecewise_linear(at, values, x).tolist() == [1.0, 1.0, 1.5, 3.0, 2.5, 2.0, 2.0]
    assert piecewise_linear(at[:1], values[:1], x).tolist() == [1.0] * 7


def test_without_reactions_a_given_temperature_moves_nothing_but_the_density() -> None:
    flame = burner("methane_1step", "CH4", A=torch.zeros(1, dtype=torch.float64))
    found = GridSolver(tolerance=1e-10).solve(flame).value
    assert torch.allclose(found.y[..., 1:], flame.Y_in.expand_as(found.y[..., 1:]), atol=1e-9)
    wanted = np.interp(found.x[0].numpy(), AT.numpy(), T.numpy())
    assert float((found.field("T")[0] - torch.from_numpy(wanted)).abs().max()) < 1e-9


def test_gradients_are_those_of_differences() -> None:
    """What is left of the fuel at 1 mm, in rates, the flow, and the measured temperatures themselves."""
    solver = GridSolver(tolerance=1e-11).set_refine_criteria(slope=0.15, curve=0.3)
    base = burner("methane_1step", "CH4")
    start = solver.solve(base).value
    at = torch.tensor([1e-3], dtype=torch.float64)
    for name in ("A", "Ea", "mass_flux", "D_factor-CH4", "temperature-1", "temperature-3"):
        value = base.parameter(name).detach()
        leaf = value.clone().requires_grad_()
        left = solver.solve(base.replace(**{name: leaf}), start=start).value.profiles(at)["CH4"]
        (slope,) = torch.autograd.grad(left.sum(), leaf)
        step, ends = 1e-5 * value, []
        for s in (-2, -1, 1, 2):
            moved = solver.solve(base.replace(**{name: value + s * step}), start=start).value
            ends.append(float(moved.profiles(at)["CH4"]))
        difference = (8 * (ends[2] - ends[1]) - (ends[3] - ends[0])) / (12 * float(step.sum()))
        assert float(slope.sum()) == pytest.approx(difference, rel=1e-6), name


def test_hydrogen_over_a_burner_is_canteras() -> None:
    """Fixed temperature on our points, upwind as Cantera is; of radicals the largest, of others every value."""
    cantera = pytest.importorskip("cantera")
    flame = burner(Path(cantera.__file__).parent / "data" / "h2o2.yaml", "H2").reduced()
    solver = GridSolver(convection="upwind").set_refine_criteria(slope=0.1, curve=0.2)
    found = solver.solve(flame).value
    x = found.x[0].numpy()
    solution = cantera.Solution("h2o2.yaml")
    solution.set_equivalence_ratio(0.9, "H2:1", "O2:1, N2:3.76")
    solution.TP = 300.0, 5000.0
    other = cantera.BurnerFlame(solution, grid=x)
    other.transport_model, other.burner.mdot = "mixture-averaged", 0.03
    other.flame.set_fixed_temp_profile(x / x[-1], np.interp(x, AT.numpy(), T.numpy()))
    other.energy_enabled = False
    other.solve(0, refine_grid=False, auto=False)
    for name in ("H2", "O2", "H2O", "OH", "H", "O", "HO2"):
        theirs = other.Y[solution.species_index(name)]
        ours = found.field(name)[0].numpy()
        assert abs(ours - theirs).max() < 3e-3 * theirs.max(), name


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="solve the flame with GridSolver"):
        SpectralSolver().solve(burner("methane_1step", "CH4"))
    with pytest.raises(ValueError, match="temperature: expected positive values"):
        burner("methane_1step", "CH4", temperature_at=AT.flip(0))


def test_a_scene_reads_the_profile_and_can_seek_it(tmp_path: Path) -> None:
    rows = [
        f"{1e3 * x:.6f},{value - 273.15:.6f}" for x, value in zip(AT.flip(0).tolist(), T.flip(0).tolist(), strict=True)
    ]
    (tmp_path / "probe.csv").write_text("\n".join(["height [mm],T [degC]", *rows, "11.0,"]))
    file = tmp_path / "scene.toml"
    file.write_text(SCENE)
    world = load_scene(file).world
    assert world.flame.temperature.knots == pytest.approx(AT.tolist())
    assert world.flame.temperature.values == pytest.approx(T.tolist())
    assert float(world.solution().field("T").max()) == pytest.approx(float(T.max()), rel=0.02)
    for told, why in (
        ("flame.temperature.knots=[0.0, 0.1]", "knots: are not the places of probe.csv"),
        ('flame.temperature.columns={ x = "height [mm]" }', "columns: expected x and T"),
        ('flame.temperature.file="none.csv"', "none.csv: no such file"),
        ('flame.radiation="optically_thin"', "temperature: is given, so no heat that is lost moves it"),
    ):
        with pytest.raises(SceneError, match=why):
            load_scene(file, [told])
    file.write_text(SCENE.partition("[grid]")[0])
    with pytest.raises(SceneError, match=r"add a table \[grid\]"):
        load_scene(file)


@pytest.mark.slow
def test_recovery_of_temperatures_that_thermocouples_read_too_low(tmp_path: Path) -> None:
    """A twin: what is left of the fuel over the true temperatures, on a finer grid; the file reads 60 K less."""
    places = torch.linspace(2e-4, 4e-3, 12, dtype=torch.float64)
    fine = GridSolver().set_refine_criteria(slope=0.05, curve=0.1)
    left = fine.solve(burner("methane_1step", "CH4", length=0.02, phi=scalar(1.0))).value.profiles(places)["CH4"][0]
    noise = 2e-4 * torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = [f"{x:.6g},{y:.8g}" for x, y in zip(places.tolist(), (left + noise).tolist(), strict=True)]
    (tmp_path / "fuel.csv").write_text("\n".join(["x,CH4", *rows]))
    rows = [f"{1e3 * x:.6f},{value - 333.15:.6f}" for x, value in zip(AT.tolist(), T.tolist(), strict=True)]
    (tmp_path / "probe.csv").write_text("\n".join(["height [mm],T [degC]", *rows]))
    file = tmp_path / "scene.toml"
    file.write_text(
        SCENE
        + '[observations.fuel]\ntype = "profiles"\nfile = "fuel.csv"\n[observations.fuel.columns]\nx = "x"\n'
        + 'CH4 = { column = "CH4", sigma = 2e-4 }\n'
        + '[unknowns."flame.temperature"]\nprior = { normal = 60.0, length = 0.01 }\n'
    )
    problem = Problem(load_scene(file))
    training = LeastSquaresFit(problem)
    while not training.converged:
        training.step()
    found = posterior(problem, training.z, problem.predict(training.z)).estimates
    for k in (1, 2, 3):  # where the fuel burns
        estimate = found[f"flame.temperature {k}"]
        assert estimate.std < 30.0
        assert abs(estimate.value - float(T[k])) < 3 * estimate.std
    assert float(found["flame.temperature 2"].value) > float(T[2]) - 40.0  # not what the thermocouple said
