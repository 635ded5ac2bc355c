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
    with pytest.raises(ValueError, match="cells under"):  # blanks separate: five words are five headers
        read_table(tmp_path / "t.txt")
    (tmp_path / "t.csv").write_text("run 7 warm\ntime,load\n0,1\n1,2\n")
    assert list(read_table(tmp_path / "t.csv").columns) == ["time", "load"]
