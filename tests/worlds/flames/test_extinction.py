"""`extinction(KEY)` of a table: where each row's flame goes out, and its columns without further solves."""

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
    ],
)
def test_what_cannot_put_a_flame_out_is_told_in_one_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises((SceneError, Refused), match=message) as told:
        Problem(scene(tmp_path, SCENE.replace(*change))).predict()
    assert "\n" not in str(told.value)


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
