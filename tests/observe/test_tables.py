"""Tables as laboratories write them."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch

from simengine.io.tables import read_table
from simengine.io.units import ending, split_header, to_si
from simengine.observe import Column, Curve, Experiments, HoldOut, Noise
from simengine.observe.columns import take
from simengine.scene import SceneError


def _file(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "t,x\n0,1.5\n1,2.5\n",
        "\ufefft,x\r\n0,1.5\r\n1,2.5\r\n",  # a byte-order mark, lines of Windows
        "t;x\n0;1,5\n1;2,5\n",  # a decimal comma
        "# made by hand\nt\tx\n0\t1.5\n\n1\t2.5\n",
        "t  x\n0  1.5\n1  2.5\n",
    ],
)
def test_any_separator_is_read(tmp_path: Path, text: str) -> None:
    raw = read_table(_file(tmp_path, text))
    assert raw.columns["t"].tolist() == [0, 1] and raw.columns["x"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4\n", "expected a line of column headers, got numbers"),
        ("t,x\n0,1,2\n", "data.csv:2: 3 cells under 2 headers"),
        ("t,t\n0,1\n", "two columns are named 't'"),
        ("t,x\n", "at least one row"),
        ("", "at least one row"),
        (f"t,x\n1,{'9' * 200000}\n", "field larger than field limit"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_table(_file(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("cm/s", 0.01),
        ("MPa", 1e6),
        ("1/s", 1.0),
        ("%", 0.01),
        ("mm", 1e-3),
        ("d", 86400.0),
        ("kJ/mol", 1e3),
        ("m2/day", 1 / 86400),
    ],
)
def test_units_are_those_of_the_si(unit: str, factor: float) -> None:
    assert to_si(unit)[0] == pytest.approx(factor, rel=1e-12)


def test_a_temperature_is_shifted_and_a_wrong_unit_is_named() -> None:
    assert to_si("degC") == (1.0, 273.15)
    for wrong in ("furlong/jiffyx", "1e400 m", "m**-400 * 1e-300"):
        with pytest.raises(ValueError, match=re.escape(f"unit {wrong!r} is not known")):
            to_si(wrong)
    assert split_header("load [N]") == ("load", "N") and split_header("load (N)") == ("load", "N")
    assert [ending(h) for h in ("stress_MPa", "S_u_cm_s", "rate_1_s", "Y_CO", "time")] == ["MPa", "cm/s", "1/s", "", ""]


def test_a_curve_is_read_in_si_with_gaps_errors_and_windows(tmp_path: Path) -> None:
    _file(tmp_path, "t [ms],force [kN],sd [kN]\n0,1,.1\n10,,.1\n20,3,.2\n30,4,.2\n")
    curve = Curve(
        name="c",
        directory=tmp_path,
        file="data.csv",
        within={"time": (0.0, 0.025)},
        start=0.0,
        columns={"time": "t", "force": Column(column="force", sigma="sd")},
    )
    m = curve.read()
    assert m.at["time"].tolist() == pytest.approx([0, 0.01, 0.02])  # a run need not go on to what is not compared
    assert m.mask[:, 0].tolist() == [True, False, True]
    assert m.values[2, 0] == 3000 and curve.noise(m)[2, 0] == 200


def test_a_header_that_hides_its_unit_is_refused_with_the_line_that_mends_it(tmp_path: Path) -> None:
    _file(tmp_path, "time,stress_MPa\n0,1\n1,2\n")
    curve = Curve(name="c", directory=tmp_path, file="data.csv", columns={"time": "time", "stress": "stress_MPa"})
    with pytest.raises(SceneError, match=r'write "stress_MPa \[MPa\]"'):
        curve.read()
    mended = Curve(
        name="c", directory=tmp_path, file="data.csv", columns={"time": "time", "stress": "stress_MPa [MPa]"}
    )
    assert mended.read().values[:, 0].tolist() == [1e6, 2e6]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time": "tim", "x": "x"}, "did you mean 'time'"),
        ({"x": "x"}, "the column 'time' is missing"),
        ({"time": "time"}, "name what was measured"),
        ({"time": "time", "x": "word"}, "'a' is no number"),
        ({"time": "time", "x": "x [jiffyx]"}, r"c\.columns\.x: data\.csv: column 'x': unit 'jiffyx' is not known"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    _file(tmp_path, "time,x,word\n0,1,a\n1,2,b\n")
    with pytest.raises(SceneError, match=message):
        Curve(name="c", directory=tmp_path, file="data.csv", columns=columns).read()


def test_noise_and_what_is_held_out(tmp_path: Path) -> None:
    _file(tmp_path, "phi,speed [cm/s]\n0.8,20\n1.0,40\n1.2,30\n")
    table = Experiments(
        name="e",
        directory=tmp_path,
        file="data.csv",
        conditions={"phi": "phi"},
        measured={"flame_speed": "speed"},
        sigma=Noise(relative=0.05, absolute=0.01),
        sigma_level=2.0,
        hold_out=HoldOut(rows=(1,)),
    )
    m = table.read()
    expected = [(0.01**2 + (0.05 * v) ** 2) ** 0.5 / 2 for v in (0.2, 0.4, 0.3)]
    assert table.noise(m)[:, 0].tolist() == pytest.approx(expected)
    assert m.held_out[:, 0].tolist() == [False, True, False]
    (ask,) = table.asks(m)
    assert ask.conditions["phi"].tolist() == [0.8, 1.0, 1.2] and torch.is_tensor(ask.conditions["phi"])


def test_rounding_by_the_converter_adds_its_twelfth(tmp_path: Path) -> None:
    """Variances add: sigma over its level squared, and the step squared over 12."""
    _file(tmp_path, "time,x\n0,1\n1,2\n")
    table = Curve(name="c", directory=tmp_path, file="data.csv", columns={"time": "time", "x": "x"}, sigma=0.02)
    table = dataclasses.replace(table, sigma_level=2.0, quantum=0.05)
    assert table.noise(table.read())[:, 0].tolist() == pytest.approx([math.sqrt(0.01**2 + 0.05**2 / 12)] * 2)


def test_a_column_of_standard_deviations_is_scaled_like_its_values(tmp_path: Path) -> None:
    """Load in kN from a cell that reads half, its deviation in N in the same file: both doubled, both in newtons."""
    (tmp_path / "load.csv").write_text("load [kN],sd [N]\n1.5,20\n-2.0,30\n")
    values, sigma = take(
        read_table(tmp_path / "load.csv"), Column(column="load", sigma="sd", gain=2.0), key="columns.force"
    )
    assert values.tolist() == [3000.0, -4000.0] and sigma.tolist() == [40.0, 60.0]


def test_a_comma_is_a_decimal_one_only_where_semicolons_separate(tmp_path: Path) -> None:
    """ "1,234" in a file with tabs may be a thousand: the column stays words, and is refused for a number."""
    (tmp_path / "a.csv").write_text("load;x\n1,5;2\n2,25;3\n")
    assert read_table(tmp_path / "a.csv").columns["load"].tolist() == [1.5, 2.25]
    (tmp_path / "b.txt").write_text("load\tx\n1,234\t2\n2,5\t3\n")
    raw = read_table(tmp_path / "b.txt")
    with pytest.raises(ValueError, match="load"):
        take(raw, "load", key="columns.force")
