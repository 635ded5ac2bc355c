"""`ignition_delay` of a table: beside speeds, with columns by one pass backwards and no further solve."""

from pathlib import Path

import pytest
import torch

from simengine.fit.problem import Problem
from simengine.scene import SceneError, load_scene
from simengine.scene.base import Refused

SCENE = """
kind = "flame"
resolution = 1e-4
[gas]
mechanism = "asset:methane_1step.yaml"
[flame]
type = "free"
[reactor]
hold = "pressure"
longest = 1.0
[observations.bench]
type = "experiments"
file = "bench.csv"
row = "key"
conditions = { T_in = "T [K]", composition = "gas" }
measured = { flame_speed = "S [cm/s]", ignition_delay = "tau [us]" }
sigma = { relative = 0.1 }
[unknowns]
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".factor' = { prior.uncertainty_factor = 2.0 }
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".Ea' = { prior.lognormal = 0.1 }
"""
TABLE = """key,gas,T [K],S [cm/s],tau [us]
flame,"CH4: 1, O2: 2, N2: 7.52",300,37,
tube,"CH4: 1, O2: 2, N2: 7.52",1500,,100
cold,"CH4: 1, O2: 2, N2: 7.52",400,,100
"""


def problem(folder: Path, text: str = SCENE) -> Problem:
    (folder / "bench.csv").write_text(TABLE)
    (folder / "bench.toml").write_text(text)
    return Problem(load_scene(folder / "bench.toml"))


def test_delays_beside_speeds(tmp_path: Path) -> None:
    """A row asks only for what it has a cell of; what does not ignite is named; columns are those of differences."""
    own = problem(tmp_path)
    z = own.start()
    own.settle(z)
    assert own.measured["bench"].mask.tolist() == [[True, False], [False, True], [False, False]]
    (note,) = own.measured["bench"].notes
    assert "no ignition within 1 s" in note and note.endswith(": cold")
    run = own.run_at(z, "", own.instruments["bench"].asks(own.measured["bench"]))
    assert len(run.flames) == 1  # type: ignore[attr-defined]  # none of the tube's hot gas
    r, j = own.linearise(z)
    assert own.runs.solves == 1
    rows = own.predict(z)["bench"].values
    assert not rows[0, 0].isnan() and not rows[1, 1].isnan() and rows[1, 0].isnan() and rows[0, 1].isnan()
    tube = next(
        k for k in range(len(r)) if abs(float(r[k]) * 0.1 * 100e-6) == pytest.approx(abs(float(rows[1, 1]) - 100e-6))
    )
    for k in range(len(z)):
        unit = torch.zeros_like(z)
        unit[k] = 1e-4
        slope = (own.residual(z + unit)[tube] - own.residual(z - unit)[tube]) / 2e-4
        assert float(j[tube, k]) == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('hold = "pressure"', 'hold = "heat"'), "reactor.hold: .*heat"),
        (('type = "free"', 'type = "diffusion"'), "ignition_delay' is asked of one fresh gas"),
        (("longest = 1.0", "longest = 1e-9"), "no row is answered|no ignition within 1e-09 s"),
    ],
)
def test_what_cannot_ignite_is_told_in_one_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = SCENE.replace(*change).replace('flame_speed = "S [cm/s]", ', "")
    with pytest.raises((SceneError, Refused), match=message) as told:
        own = problem(tmp_path, text)
        own.settle(own.start())
    assert "\n" not in str(told.value)
