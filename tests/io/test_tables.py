"""Tables as testing machines and spreadsheets write them."""

from pathlib import Path

import numpy as np
import pytest

from simengine.io.tables import read_table


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_a_german_testing_machine_is_read(encoding: str, tmp_path: Path) -> None:
    """A title, a line of units, semicolons, decimal commas, gaps and a remark."""
    head = ["Versuch Nr. 3, Größe 2;;;", "Zeit;Weg;Kraft;Bemerkung", "s;mm;kN;"]
    lines = [*head, "0,0;0,00;0,1;ok", "0,5;0,01;-;", "1,0;;0,3;x"]
    (tmp_path / "z.csv").write_bytes("\r\n".join(lines).encode(encoding))
    table = read_table(tmp_path / "z.csv")
    assert list(table.columns) == ["Zeit [s]", "Weg [mm]", "Kraft [kN]", "Bemerkung"]
    assert np.allclose(table.columns["Kraft [kN]"], [0.1, np.nan, 0.3], equal_nan=True)
    assert np.allclose(table.columns["Weg [mm]"], [0.0, 0.01, np.nan], equal_nan=True)
    assert list(table.columns["Bemerkung"]) == ["ok", "", "x"]


def test_words_are_no_units(tmp_path: Path) -> None:
    """A first row of words that happen to be units stays a row where nothing below is a number."""
    (tmp_path / "w.csv").write_text("fuel,site\nH,m\nC,s\nN,K\n")
    assert list(read_table(tmp_path / "w.csv").columns["fuel"]) == ["H", "C", "N"]


def test_a_title_may_hold_separators(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("run 7, warm; second day\ntime load\n0 1\n1 2\n2 3\n3 4\n")
    assert list(read_table(tmp_path / "t.txt").columns) == ["time", "load"]
    (tmp_path / "u.txt").write_text("run 7 warm\ntime load\n0 1\n1 2\n")
    with pytest.raises(ValueError, match="cells under"):  # blanks separate: the 7 makes it a row under no headers
        read_table(tmp_path / "u.txt")
    (tmp_path / "t.csv").write_text("run 7 warm\ntime,load\n0,1\n1,2\n")
    assert list(read_table(tmp_path / "t.csv").columns) == ["time", "load"]


@pytest.mark.parametrize("units", ["", "s;mm;kN\n"])
def test_titles_of_as_many_cells_stand_above_the_headers(units: str, tmp_path: Path) -> None:
    text = f"Versuch drei;Halle Nord;Meier\nZeit;Weg;Kraft\n{units}0,0;0,00;0,1\n0,5;0,01;0,2\n"
    (tmp_path / "z.csv").write_text(text)
    columns = read_table(tmp_path / "z.csv").columns
    assert [name.split(" ")[0] for name in columns] == ["Zeit", "Weg", "Kraft"]
    assert np.allclose(columns["Kraft [kN]" if units else "Kraft"], [0.1, 0.2])


def test_a_first_row_of_words_and_gaps_is_no_line_of_headers(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("name,load,time\nzero,,nan\none,1,0.5\n")
    columns = read_table(tmp_path / "g.csv").columns
    assert list(columns["name"]) == ["zero", "one"] and columns["load"][1] == 1.0
