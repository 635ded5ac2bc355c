"""The page of a sweep, and its table for pandas and xarray."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.cli.view import pages_of
from simengine.fit.sweep import swept
from simengine.io.registry import write
from simengine.view.sweep_page import told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four values of E times two seeds: nu grows with E; one task failed, all but it left a picture."""
    out = tmp_path / "runs"
    (out / "tasks").mkdir(parents=True)
    over = ["bodies.0.material.E=logspace(1e3, 1e6, 4)", "seed=range(2)"]
    (out / "sweep.json").write_text(json.dumps({"scene": "x", "over": over, "verb": "fit", "overrides": []}))
    names = ["bodies.0.material.E", "seed", "solves", "nu.value", "same", "error"]
    rows = [[E, seed, 10 + seed, 0.1 * k, 7, ""] for k, E in enumerate((1e3, 1e4, 1e5, 1e6)) for seed in (0, 1)]
    rows[3][2:] = ["", "", "", "unstable"]
    with (out / "results.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])
    for number in range(8):
        if number != 3:
            (out / f"{number:04d}").mkdir()
            write(out / f"{number:04d}" / "frame.png", np.full((8, 8, 3), 30 * number, np.uint8))
    return out


def test_a_sweep_has_a_page(folder: Path) -> None:
    (kind, page) = pages_of(folder)["/"]
    text = page.decode()
    assert kind.startswith("text/html") and "8 tasks over bodies.0.material.E, seed; 1 failed." in text
    assert "bodies.0.material.E = 1e+04, seed = 1: unstable" in text
    assert text.count("<img") == 2 + 7 and "http" not in text  # two figures; nothing is fetched
    assert '<th scope="col">nu.value</th>' in text and ">same</th>" not in text  # what never moves is no result
    keys, rows = swept(folder)
    assert told(keys, rows) == ["nu.value", "solves"]


def test_a_sweep_that_has_not_ended_says_so(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no results\.csv of a sweep"):
        pages_of(tmp_path)


def test_a_sweep_goes_to_parquet_and_netcdf(folder: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5netcdf")
    for name in ("t.parquet", "t.nc"):
        assert main(["export", str(folder), "--out", str(tmp_path / name)]) == 0
    table = pandas.read_parquet(tmp_path / "t.parquet")
    assert table["nu.value"].isna().tolist() == [k == 3 for k in range(8)] and table["error"][3] == "unstable"
    with xarray.open_dataset(tmp_path / "t.nc", engine="h5netcdf") as grid:
        assert dict(grid.sizes) == {"bodies.0.material.E": 4, "seed": 2}
        assert grid["nu.value"].sel({"bodies.0.material.E": 1e5, "seed": 1}).item() == pytest.approx(0.2)
        assert np.isnan(grid["solves"].values[1, 1]) and grid["error"].values[1, 1] == "unstable"


def test_a_table_in_another_form_is_refused_in_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder), "--out", "t.ply"]) == 2
    assert "t.ply: expected .parquet or .nc" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    assert main(["export", str(folder), "--out", "t.parquet"]) != 0
    assert "t.parquet needs pandas: pip install 'simengine[tables]'" in capsys.readouterr().err
