"""Measurements of combustion in files of their own, as rows of a scene."""

from pathlib import Path

import pytest

import simengine as se
from simengine.scene import load_scene

DELAYS = Path(__file__).parents[2] / "data" / "hydrogen_delays.yaml"
SCENE = """
kind = "flame"
[gas]
mechanism = "h2o2.yaml"
[flame]
type = "free"
fuel = { H2 = 1.0 }
[grid]
[observations.delays]
type = "experiments"
file = "FILE"
conditions = { T_in = "temperature", p = "pressure", composition = "composition" }
measured = { ignition_delay = { column = "ignition-delay", sigma = "ignition-delay uncertainty" } }
where = { "ignition-type target" = "pressure" }
[unknowns]
"gas.reactions.*.factor" = { prior.uncertainty_factor = 2.0 }
"""


def told(folder: Path, name: str, text: str) -> "se.Prediction":
    """What the delays of a scene are predicted to be."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return se.predict(load_scene(path))["delays"]


def test_a_scene_takes_such_a_file(tmp_path: Path) -> None:
    """Its delays are predicted as those of a csv of the same numbers; `Ar` is what the mechanism calls AR."""
    own = told(tmp_path, "own.toml", SCENE.replace("FILE", str(DELAYS)))
    conditions = ((1100.0, 220.0), (1173.15, 222.915))
    rows = ["T [K],p [kPa],gas,tau [us]", *(f'{T},{p},"H2: 4%, O2: 2%, AR: 94%",400' for T, p in conditions)]
    (tmp_path / "delays.csv").write_text("\n".join(rows), encoding="utf-8")
    columns = (
        'file = "delays.csv"\nconditions = { T_in = "T", p = "p", composition = "gas" }\n'
        'measured = { ignition_delay = "tau" }\nsigma = { relative = 0.1 }\n'
    )
    plain = SCENE[: SCENE.index("file =")] + columns + SCENE[SCENE.index("[unknowns]") :]
    other = told(tmp_path, "plain.toml", plain)
    assert own.values.shape == (2, 1)
    assert own.values[:, 0].tolist() == pytest.approx(other.values[:, 0].tolist(), rel=1e-9)
    assert own.measured.values[:, 0].tolist() == pytest.approx([471.54e-6, 4e-4])
    assert own.measured.sigma[:, 0].tolist() == pytest.approx([47.154e-6, 3e-5])
