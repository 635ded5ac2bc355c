"""What `export` writes, read back by other readers; completion in a real shell."""

import csv
import json
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from simengine.cli import main
from simengine.io.arrays import write_npz
from simengine.io.tabular import write_csv


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with three particles at two times."""
    folder = tmp_path / "run"
    folder.mkdir()
    x = np.random.default_rng(0).random((2, 3, 3)).astype(np.float32)
    F = np.tile(np.diag([2.0, 1.0, 0.25]).astype(np.float32), (2, 3, 1, 1))
    write_npz(folder / "states.npz", {"time": np.array([0.0, 0.1]), "x": x, "v": 2 * x, "F": F})
    return folder


def test_csv_has_a_row_for_each_particle_and_time(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "states.csv"
    assert main(["export", str(run), "--out", str(file)]) == 0
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    states = np.load(run / "states.npz")
    assert len(rows) == 6
    last = rows[-1]
    assert (last["frame"], last["particle"], last["time [s]"]) == ("1", "2", "0.1")
    got = [np.float32(last[f"{axis} [m]"]) for axis in "xyz"]
    assert got == states["x"][1, 2].tolist()  # to the last bit
    assert float(last["J [1]"]) == pytest.approx(0.5) and np.float32(last["v_y [m/s]"]) == states["v"][1, 2, 1]


def test_a_series_is_read_by_vtk(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyvista

    file = tmp_path / "states.pvd"
    assert main(["export", str(run), "--out", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    sets = list(ElementTree.parse(file).getroot().iter("DataSet"))
    assert [entry.get("timestep") for entry in sets] == ["0.0", "0.1"]
    states = np.load(run / "states.npz")
    for k, entry in enumerate(sets):
        cloud = pyvista.read(tmp_path / str(entry.get("file")))
        np.testing.assert_array_equal(cloud.points, states["x"][k])
        np.testing.assert_array_equal(cloud.point_data["v"], states["v"][k])
        np.testing.assert_allclose(cloud.point_data["J"], 0.5, rtol=1e-6)


def test_ply_files_are_numbered(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import trimesh

    assert main(["export", str(run), "--out", str(tmp_path / "s.ply")]) == 0
    assert capsys.readouterr().out.strip().endswith("s-0000.ply ... s-0001.ply")
    cloud = trimesh.load(tmp_path / "s-0001.ply")
    np.testing.assert_array_equal(np.asarray(cloud.vertices), np.load(run / "states.npz")["x"][1])


def test_points_of_gltf_move(run: Path, tmp_path: Path) -> None:
    """The first state as another reader has it; the second, by the tables of the file, at its time."""
    import trimesh

    file = tmp_path / "s.glb"
    assert main(["export", str(run), "--out", str(file)]) == 0
    x = np.load(run / "states.npz")["x"]
    (cloud,) = trimesh.load(file).geometry.values()
    np.testing.assert_allclose(np.asarray(cloud.vertices), x[0], atol=1e-7)
    raw = file.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", raw)
    assert (magic, version, size, kind) == (b"glTF", 2, len(raw), b"JSON")
    document, binary = json.loads(raw[20 : 20 + length]), raw[28 + length :]

    def table(index: int) -> np.ndarray:
        accessor = document["accessors"][index]
        count = accessor["count"] * {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
        offset = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        return np.frombuffer(binary, "<f4", count, offset).reshape(accessor["count"], -1)

    primitive = document["meshes"][0]["primitives"][0]
    base, (target,) = table(primitive["attributes"]["POSITION"]), primitive["targets"]
    np.testing.assert_allclose(base + table(target["POSITION"]), x[1], atol=1e-7)
    sampler = document["animations"][0]["samplers"][0]
    assert table(sampler["input"]).ravel().tolist() == pytest.approx([0.0, 0.1])
    assert table(sampler["output"]).ravel().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_arrays_as_they_are(run: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"states{suffix}"
    assert main(["export", str(run), "--out", str(file)]) == 0
    states = np.load(run / "states.npz")
    if suffix == ".h5":
        import h5py

        with h5py.File(file) as found:
            assert set(found) == set(states.files)
            for name in states.files:
                np.testing.assert_array_equal(found[name][()], states[name])
    else:
        for name in states.files:
            np.testing.assert_array_equal(np.load(file)[name], states[name])


def test_profiles_become_columns(tmp_path: Path) -> None:
    folder = tmp_path / "flame"
    folder.mkdir()
    write_npz(folder / "profiles.npz", {"x": np.array([0.0, 1 / 3]), "T": np.array([300.0, 1e-17])})
    assert main(["export", str(folder), "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text() == "x,T\n0.0,300.0\n0.3333333333333333,1e-17\n"


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"x": np.zeros(2), "T": np.zeros(3)}, ["--out", "a.csv"], "use .npz or .h5"),
        ({"u": np.zeros((2, 3))}, ["--out", "a.csv"], "u (2, 3)"),
        ({"u": np.zeros(3)}, ["--out", "a.ply"], "holds moving particles, and this run has none"),
        ({"u": np.zeros(3)}, ["--out", "a.xlsx"], "known: .csv"),
        ({"u": np.zeros(3)}, ["--out", "a.csv", "--of", "b.npz"], "it holds profiles.npz"),
        (None, ["--out", "a.csv"], "it holds no .npz at all"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arrays: dict[str, np.ndarray] | None,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arrays is not None:
        write_npz(tmp_path / "profiles.npz", arrays)
    assert main(["export", str(tmp_path), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not list(tmp_path.glob("a.*")), "nothing half written"


def test_headers_with_commas_are_quoted(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", {'a,"b"': [1, 2], "c": [0.5, 1.5]})
    with (tmp_path / "a.csv").open() as stream:
        assert list(csv.reader(stream)) == [['a,"b"', "c"], ["1", "0.5"], ["2", "1.5"]]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_shell_completes_verbs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "complete.sh"
    script.write_text(capsys.readouterr().out)
    typed = "COMP_WORDS=(simengine expl); COMP_CWORD=1; _simengine; echo ${COMPREPLY[*]}"
    done = subprocess.run(["bash", "-c", f"source {script}; {typed}"], capture_output=True, text=True)
    assert done.stdout.split() == ["explain"], done.stderr
