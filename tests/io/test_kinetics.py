"""Experiments of combustion as their own files keep them."""

from pathlib import Path

import pytest

from simengine.io.tables import read_table

DATA = Path(__file__).parents[1] / "data"
SPEEDS = (DATA / "hydrogen_speeds.xml").read_text(encoding="utf-8")  # both are made up, in the form of the real ones
DELAYS = (DATA / "hydrogen_delays.yaml").read_text(encoding="utf-8")


def test_a_respecth_file_is_a_table() -> None:
    """What is common stands in every row; a share of a value is told in the value's unit; amounts are put together."""
    columns = read_table(DATA / "hydrogen_speeds.xml").columns
    assert columns["laminar burning velocity [cm/s]"].tolist() == [90.0, 210.0]
    assert columns["pressure [torr]"].tolist() == [760.0, 760.0]
    assert columns["laminar burning velocity evaluated standard deviation [cm/s]"].tolist() == [4.5, 10.5]
    told = columns["laminar burning velocity uncertainty [m/s]"]
    assert told[0] == 0.04
    assert told[1] != told[1]  # a gap
    assert columns["composition"].tolist()[1] == "Ar: 0.01, H2: 0.29, O2: 0.15, N2: 0.55"


def test_a_cell_of_respecth_with_nothing_but_a_line_break_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "speeds.xml"
    path.write_text(SPEEDS.replace("<x4>90<", "<x4>\n  <"), encoding="utf-8")
    told = read_table(path).columns["laminar burning velocity [cm/s]"]
    assert told[0] != told[0] and told[1] == 210.0


def test_a_chemked_file_is_a_table() -> None:
    """Units may differ from point to point, temperatures with their zero; the wider side of an uncertainty counts."""
    columns = read_table(DATA / "hydrogen_delays.yaml").columns
    assert columns["ignition-delay [us]"] == pytest.approx([471.54, 400.0])
    assert columns["ignition-delay uncertainty [us]"] == pytest.approx([47.154, 30.0])
    assert columns["temperature [kelvin]"] == pytest.approx([1100.0, 1173.15])
    assert columns["pressure [kilopascal]"] == pytest.approx([220.0, 222.915])
    assert columns["composition"].tolist() == ["H2: 0.04, O2: 0.02, Ar: 0.94"] * 2
    assert columns["ignition-type type"].tolist() == ["d/dt max"] * 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.xml", "<experiment>", "not a readable XML file"),
        ("a.xml", "<experiment/>", "no `dataGroup` with a `dataPoint`"),
        ("a.xml", SPEEDS.replace("<x4>90<", "<x4>ninety<"), "laminar burning velocity: 'ninety' is no number"),
        ("a.xml", SPEEDS.replace('"mole fraction">0.01', '"mass fraction">0.01'), "amounts as 'mass fraction,"),
        ("a.yaml", "{a: [", "not a readable YAML file"),
        ("a.yaml", "a: 1", "it has no list `datapoints`"),
        ("a.yaml", DELAYS.replace("471.54 us", "about us"), "datapoints 0: ignition-delay: 'about' is no number"),
        ("a.yaml", DELAYS.replace("2.2 atm", "2.2 kelvin"), "'kelvin' in one point and 'kilopascal' in another"),
        ("a.yaml", DELAYS.replace("amount: [94.0]", "share: 1"), "expected `species-name` and `amount`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told.replace("'", ".")) as error:
        read_table(path)
    assert name in str(error.value)
