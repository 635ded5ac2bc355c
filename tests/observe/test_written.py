"""What `simengine observe` writes is what the same scene reads, however its columns are named."""

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.fit.twin import write_twin
from simengine.io.tables import read_table
from simengine.observe.columns import Column, take
from simengine.observe.written import column_as_read, write_csv
from simengine.scene import SceneError, load_scene
from simengine.scene.instrument import AbstractInstrument

PASTE = """
kind = "specimen"
material = { type = "paste", E = 1e3, nu = 0.4, yield_stress = 4.0, consistency = 2.5, exponent = 0.55 }
test.type = "steady_shear"
[unknowns]
"material.yield_stress" = {}
[observations.data]
type = "curve"
against = "shear_rate"
file = "data.csv"
"""


@pytest.mark.parametrize(
    "spec",
    [
        "load",
        "load [kN]",
        "T (degC)",
        Column(column="load", unit="kN", sigma="spread [N]"),
        Column(column="load [mm]", gain=-0.5, offset=2.0, sigma="spread"),
        Column(column="load", unit=0.025),
    ],
)
def test_a_column_is_taken_as_it_was_written(spec: str | Column, tmp_path: Path) -> None:
    values = torch.tensor([1.5, torch.nan, -2e4], dtype=torch.float64)
    sigma = torch.tensor([0.1, torch.nan, 3.0], dtype=torch.float64)
    write_csv(tmp_path / "a.csv", {"row": ["one", "two, three", "four"], **column_as_read(spec, values, sigma)})
    found, spread = take(read_table(tmp_path / "a.csv"), spec, key="k")
    assert torch.allclose(found, values, rtol=1e-8, atol=0, equal_nan=True)
    if isinstance(spec, Column) and spec.sigma:
        assert torch.allclose(spread, sigma, rtol=1e-8, atol=0, equal_nan=True)


def _twin(text: str, table: str, folder: Path, overrides: tuple[str, ...]) -> tuple[AbstractInstrument, Path]:
    """The instrument of a scene beside the twin that `observe` writes of it, and that file."""
    (folder / "scene.toml").write_text(text)
    (folder / "data.csv").write_text(table)
    out = folder / "twin"
    scene, hidden = load_scene(folder / "scene.toml"), load_scene(folder / "scene.toml", overrides)
    write_twin(scene, hidden, out)
    (out / "scene.toml").write_text(text)
    return load_scene(out / "scene.toml").observations["data"], out / "data.csv"


def test_a_curve_keeps_its_headers_units_rows_and_the_columns_beside(tmp_path: Path) -> None:
    """By Herschel-Bulkley in closed form, the numbers in kPa; rows of another specimen are not written."""
    text = PASTE + (
        'columns = { shear_rate = "Scherrate (1/s)", shear_stress = { column = "Spannung [kPa]", sigma = "s [Pa]" } }\n'
        'where = { Probe = "A" }\n'
    )
    rates = [0.5, 2.0, 8.0]
    rows = [f"{name};{rate};1.0;1e-6;{k}" for k, (name, rate) in enumerate((n, r) for r in rates for n in "AB")]
    table = "\n".join(["Probe;Scherrate (1/s);Spannung [kPa];s [Pa];run", *rows]) + "\n"
    instrument, file = _twin(text, table, tmp_path, ("material.yield_stress=6.0",))
    measured = instrument.read()
    expected = 6.0 + 2.5 * torch.tensor(rates, dtype=torch.float64) ** 0.55
    assert torch.allclose(measured.values[:, 0], expected, rtol=1e-3)  # below the law's elastic creep at these rates
    assert torch.allclose(measured.sigma, torch.full((3, 1), 1e-6, dtype=torch.float64), rtol=1e-8)
    with file.open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [row["run"] for row in written] == ["0", "2", "4"] and {row["Probe"] for row in written} == {"A"}
    assert np.allclose([float(row["Spannung [kPa]"]) for row in written], expected.numpy() / 1000, rtol=1e-3)
    made = tomllib.loads((file.parent / "reference.toml").read_text())
    assert made["made"]["refine"] == 1.0 and made["reference"] == {"material.yield_stress": 6.0}


def test_rows_that_are_not_in_a_file_take_its_headers_too(tmp_path: Path) -> None:
    text = PASTE + (
        'columns = { shear_rate = "rate (1/min)", shear_stress = "stress [kPa]" }\n'
        "along = { shear_rate = [1.0, 4.0, 4] }\nsigma = 1e-9\n"
    )
    instrument, file = _twin(text, "", tmp_path, ())
    assert file.read_text().splitlines()[0] == "rate (1/min),stress [kPa]"
    measured = instrument.read()
    assert torch.allclose(measured.at["shear_rate"], torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert torch.allclose(measured.values[:, 0], 4.0 + 2.5 * measured.at["shear_rate"] ** 0.55, rtol=1e-3)


FILM = """
[grid]
num_grids = 12
num_steps = 40
time_step = 2e-3
[[bodies]]
name = "jelly"
velocity = [0.0, -0.5, 0.0]
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.3, 0.3, 0.3], counts = [4, 4, 4] }
material = { type = "jelly", E = 3e4, nu = 0.3 }
[observations.data]
type = "markers"
sigma = 1e-9
times = { rate = 50.0 }
points = { count = 3 }
gaps = 0.2
%s
[unknowns]
"bodies.jelly.material.E" = {}
"""


@pytest.mark.parametrize(
    "said",
    [
        'file = "d.csv"\ncolumns = { time = "t (ms)", name = "Punkt", x = "X [mm]", y = "Y [mm]", z = "Z [mm]" }',
        'file = "d.csv"\nunit = "mm"\ncolumns = { time = "t", pattern = "{name}_{axis}_pos" }',
        'file = "d.npz"\nunit = "cm"',
    ],
)
def test_tracks_are_read_as_they_were_written(said: str, tmp_path: Path) -> None:
    films = []
    for k, own in enumerate(('file = "d.csv"', said)):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "s.toml").write_text(FILM % own)
        scene = load_scene(folder / "s.toml")
        write_twin(scene, scene, folder, refine=1.0)
        films.append(load_scene(folder / "s.toml").observations["data"].read())
    plain, other = films
    assert other.labels == plain.labels and torch.equal(other.mask, plain.mask)
    torch.testing.assert_close(other.values, plain.values, rtol=0, atol=1e-8, equal_nan=True)
    torch.testing.assert_close(other.at["time"], plain.at["time"], rtol=1e-8, atol=1e-12)


def test_marks_that_a_scene_names_are_those_that_are_written(tmp_path: Path) -> None:
    """Falling freely: by y0 - t/2 - g t^2/2; the axes that `columns` names, and no other marks."""
    marks = "a = { at = [0.45, 0.5, 0.5] }\nb = { at = [0.55, 0.6, 0.5] }"
    said = f'file = "d.csv"\ncolumns = {{ x = "x", y = "height [mm]" }}\n[observations.data.markers]\n{marks}'
    (tmp_path / "s.toml").write_text("gravity = [0.0, -9.81, 0.0]\n" + FILM.replace("gaps = 0.2", "gaps = 0.0") % said)
    scene = load_scene(tmp_path / "s.toml")
    write_twin(scene, scene, tmp_path, refine=1.0)
    found = load_scene(tmp_path / "s.toml").observations["data"].read()
    assert found.labels == ("a", "b") and found.names == ("x", "y")
    t = found.at["time"].reshape(-1, 2)
    assert torch.allclose(found.values[:, 0].reshape(-1, 2), torch.tensor([0.45, 0.55], dtype=torch.float64), atol=1e-5)
    fallen = torch.tensor([0.5, 0.6], dtype=torch.float64) - 0.5 * t - 4.905 * t**2
    assert torch.allclose(found.values[:, 1].reshape(-1, 2), fallen, atol=2e-3)


def test_marks_whose_place_nobody_told_and_files_that_are_not_written_are_named(tmp_path: Path) -> None:
    for said, message in (
        ('file = "d.csv"\n[observations.data.markers]\na = {}', r"markers\.a: say where it sits"),
        ('file = "d.trc"', r"d\.trc: a \.trc is read and not written"),
        ('file = "d.npz"\ncolumns = { x = "x" }', r"d\.npz: an \.npz holds x, y and z, not x"),
    ):
        (tmp_path / "s.toml").write_text(FILM % said)
        scene = load_scene(tmp_path / "s.toml")
        with pytest.raises(SceneError, match=message):
            write_twin(scene, scene, tmp_path, refine=1.0)
