"""Vessels of a table: `ignition_delay` beside speeds, `stirred_*`, with columns by passes backwards and no solve."""

from pathlib import Path

import pytest
import torch

from simengine.fit.problem import Problem
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.reactor import StirredReactor, stirred
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


JET = """
kind = "flame"
resolution = 1e-4
[gas]
mechanism = "asset:methane_1step.yaml"
[flame]
type = "free"
[reactor]
residence = 1e-2
[observations.jet]
type = "experiments"
file = "jet.csv"
row = "key"
conditions = { phi = "phi", T_in = "T [K]", residence = "tau [ms]" }
measured = { stirred_T = "T out [K]", stirred_X_CO2 = "CO2" }
sigma = { relative = 0.1 }
[unknowns]
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".factor' = { prior.uncertainty_factor = 2.0 }
"reactor.longest" = { prior.lognormal = 0.1 }
"""
STREAMS = """key,phi,T [K],tau [ms],T out [K],CO2
slow,0.7,400,1.0,1800,0.06
fast,0.7,400,0.1,1700,0.05
gone,0.7,400,0.0001,1700,0.05
"""


def test_stirred_reactors_of_a_table(tmp_path: Path) -> None:
    """Each row has its own residence time; what goes out is named; columns are those of differences."""
    (tmp_path / "jet.csv").write_text(STREAMS)
    (tmp_path / "jet.toml").write_text(JET)
    own = Problem(load_scene(tmp_path / "jet.toml"))
    z = own.start()
    own.settle(z)
    (note,) = own.measured["jet"].notes
    assert "goes out at a residence time of" in note and note.endswith(": gone")
    run = own.run_at(z, "", own.instruments["jet"].asks(own.measured["jet"]))
    assert not run.flames  # type: ignore[attr-defined]
    rows = own.predict(z)["jet"].values
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    X = torch.zeros(len(gas.W), dtype=torch.float64)
    for name, moles in {"CH4": 0.7, "O2": 2.0, "N2": 7.52}.items():
        X[gas.mechanism.index(name)] = moles
    for row, residence in zip(rows, (1e-3, 1e-4), strict=False):
        feed = StirredReactor(
            gas=gas,
            T_in=torch.tensor(400.0, dtype=torch.float64),
            p=torch.tensor(101325.0),
            Y_in=gas.mass_fractions(X),
            residence=torch.tensor(residence, dtype=torch.float64),
        )
        T, Y = stirred(feed)
        CO2 = gas.mole_fractions(Y)[gas.mechanism.index("CO2")]
        assert row.tolist() == pytest.approx([float(T), float(CO2)], rel=1e-9)
    assert rows[2].isnan().all()
    solves = own.runs.solves
    _, j = own.linearise(z)
    assert own.runs.solves == solves  # nothing is burnt again for a column
    unit = torch.tensor([1e-4, 0.0], dtype=torch.float64)
    slope = (own.residual(z + unit) - own.residual(z - unit)) / 2e-4
    assert torch.allclose(j[: len(slope), 0], slope, rtol=1e-6, atol=1e-9) and float(slope.abs().max()) > 1e-3


def test_what_burns_must_be_said_where_the_mechanism_lacks_methane(tmp_path: Path) -> None:
    pytest.importorskip("cantera")
    (tmp_path / "no.toml").write_text('kind = "flame"\n[gas]\nmechanism = "h2o2.yaml"\n[flame]\ntype = "free"\n')
    with pytest.raises(ValueError, match=r"flame.fuel: 'CH4' is not in h2o2.yaml; say what burns, as in fuel = \{ H2"):
        load_scene(tmp_path / "no.toml").world.build()
