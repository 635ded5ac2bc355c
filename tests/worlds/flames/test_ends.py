"""`extinction(KEY)` and `ignition(KEY)` of a table: where each row's flame goes out or lights, and their columns."""

import math
from pathlib import Path

import pytest
import torch

from simengine.fit.problem import Problem
from simengine.scene import SceneError, load_scene
from simengine.scene.base import Refused
from simengine.worlds.flames.stagnation import Diffusion

SCENE = """
kind = "flame"
[gas]
mechanism = "asset:methane_1step.yaml"
[flame]
type = "diffusion"
oxidiser = { O2 = 0.21, N2 = 0.79 }
strain = 400.0
[grid]
slope = 0.2
curve = 0.4
prune = 0.05
[observations.cup]
type = "experiments"
file = "cup.csv"
conditions = { agent = "agent" }
measured = { "extinction(agent_fraction)" = "fraction" }
labels.agent = { "nitrogen" = "N2" }
sigma = 0.01
[unknowns]
"flame.strain" = { prior = { lognormal = 0.5 } }
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".factor' = { prior.uncertainty_factor = 2.0 }
"""


def scene(folder: Path, text: str = SCENE):  # type: ignore[no-untyped-def]
    (folder / "cup.csv").write_text("agent,fraction\nnitrogen,0.3\nneon,0.2\n")
    (folder / "cup.toml").write_text(text)
    return load_scene(folder / "cup.toml")


def test_a_strain_tells_both_mass_fluxes() -> None:
    """Equal momenta, and 4 u/length of the oxidiser."""
    own = load_scene("diffusion_flame_methane").world
    flame = Diffusion(strain=100.0, length=0.03).flame(own.gas)  # type: ignore[attr-defined]
    left, right = flame.rho_in[0], flame.gas.density(flame.p, flame.T_right, flame.Y_right)
    u_fuel, u_air = float(flame.mass_flux_left / left), float(flame.mass_flux_right / right)
    assert 4 * u_air / 0.03 == pytest.approx(100.0) and float(left) * u_fuel**2 == pytest.approx(
        float(right) * u_air**2
    )
    with pytest.raises(ValueError, match="strain: it tells both mass fluxes"):
        Diffusion(strain=100.0, mass_flux_left=0.1)
    with pytest.raises(ValueError, match="agent_fraction: of what"):
        Diffusion(agent_fraction=0.1)


def test_an_agent_takes_its_share_of_the_oxidiser() -> None:
    own = load_scene("diffusion_flame_methane").world
    flame = Diffusion(oxidiser={"O2": 21.0, "N2": 79.0}, agent={"CO2": 1.0, "N2": 1.0}, agent_fraction=0.2).flame(
        own.gas
    )  # type: ignore[attr-defined]
    moles = dict(zip(flame.gas.mechanism.species, flame.gas.mole_fractions(flame.Y_right).tolist(), strict=True))
    assert moles == pytest.approx({"O2": 0.168, "N2": 0.732, "CO2": 0.1, "CH4": 0.0, "H2O": 0.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("agent_fraction)", "agents)"), "extinction.agents.: 'agents' is no number of this flame"),
        (("[grid]\nslope = 0.2\ncurve = 0.4\nprune = 0.05", ""), "only counterflow and diffusion flames on a .grid."),
        (("extinction(agent_fraction)", "ignition(flux)"), "ignition.flux.: 'flux' is no number of this flame"),
    ],
)
def test_what_cannot_put_a_flame_out_is_told_in_one_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises((SceneError, Refused), match=message) as told:
        Problem(scene(tmp_path, SCENE.replace(*change))).predict()
    assert "\n" not in str(told.value)


def test_a_geometry_tells_the_strain_of_its_nozzles() -> None:
    """4 u/length about an axis, pi u/length between slots, of streams with the same momentum."""
    gas = load_scene("diffusion_flame_methane").world.gas  # type: ignore[attr-defined]
    speeds = []
    for geometry in ("axisymmetric", "planar"):
        flame = Diffusion(strain=100.0, geometry=geometry).flame(gas)  # type: ignore[arg-type]
        assert flame.geometry == geometry
        speeds.append(float(flame.mass_flux_right / flame.gas.density(flame.p, flame.T_right, flame.Y_right)))
    assert speeds[0] == pytest.approx(100 * 0.02 / 4) and speeds[1] == pytest.approx(100 * 0.02 / math.pi)


def test_streams_light_in_a_table_without_a_flame(tmp_path: Path) -> None:
    """Hot air against methane: the temperature at which it lights, and its columns beside differences."""
    text = SCENE.replace('"extinction(agent_fraction)" = "fraction"', '"ignition(T_right)" = "T [K]"')
    text = text.replace("strain = 400.0", "mass_flux_left = 2.0\nmass_flux_right = 2.0\nT_right = 760.0")
    text = text.replace('"flame.strain" = { prior = { lognormal = 0.5 } }', "").replace("sigma = 0.01", "sigma = 5.0")
    text = text.replace('conditions = { agent = "agent" }', 'conditions = { mass_flux_left = "flux" }')
    text = text.replace('labels.agent = { "nitrogen" = "N2" }', "")
    (tmp_path / "hot.toml").write_text(text)
    (tmp_path / "cup.csv").write_text("flux,T [K]\n2.0,780\n")
    problem = Problem(load_scene(tmp_path / "hot.toml"))
    z = problem.start()
    problem.settle(z)
    r, j = problem.linearise(z)
    assert problem.runs.solves == 1
    assert 5 * abs(float(r[0])) < 20  # 786 K
    unit = torch.full_like(z, 1e-3)
    slope = (problem.residual(z + unit)[0] - problem.residual(z - unit)[0]) / 2e-3
    assert float(j[0, 0]) == pytest.approx(float(slope), rel=2e-3)  # on grids of their own


@pytest.mark.slow
def test_columns_of_an_extinction_are_those_of_differences(tmp_path: Path) -> None:
    """The row of a gas that the mechanism lacks is left out; of the other the columns cost no solve."""
    problem = Problem(scene(tmp_path))
    z = problem.start()
    problem.settle(z)
    assert problem.measured["cup"].mask[:, 0].tolist() == [True, False]
    _, j = problem.linearise(z)
    assert problem.runs.solves == 1
    for k in range(len(z)):
        unit = torch.zeros_like(z)
        unit[k] = 1e-3
        slope = (problem.residual(z + unit)[0] - problem.residual(z - unit)[0]) / 2e-3
        assert float(j[0, k]) == pytest.approx(float(slope), rel=1e-4)
