"""What `export` writes, read back by other readers; completion in a real shell."""

import csv
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import simengine as se
from simengine.cli import main
from simengine.io.arrays import write_npz
from simengine.io.tabular import write_csv
from simengine.worlds.motion.world import MPMWorld


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


def gltf_of(file: Path) -> tuple[dict[str, Any], Callable[[int], np.ndarray]]:
    """The document of a `.glb`, and its tables (rows, parts) by number."""
    raw = file.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", raw)
    assert (magic, version, size, kind) == (b"glTF", 2, len(raw), b"JSON")
    document, binary = json.loads(raw[20 : 20 + length]), raw[28 + length :]

    def table(index: int) -> np.ndarray:
        accessor = document["accessors"][index]
        count = accessor["count"] * {"VEC4": 4, "VEC3": 3, "SCALAR": 1}[accessor["type"]]
        offset = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        return np.frombuffer(binary, kind, count, offset).reshape(accessor["count"], -1)

    return document, table


def channels_of(file: Path) -> dict[tuple[str, str], np.ndarray]:
    """What an animation does, by name of the node and path."""
    document, table = gltf_of(file)
    (animation,) = document["animations"]
    return {
        (document["nodes"][own["target"]["node"]]["name"], own["target"]["path"]): table(
            animation["samplers"][own["sampler"]]["output"]
        )
        for own in animation["channels"]
    }


MOVING = """
kind = "mpm"
[grid]
num_grids = 16
[[bodies]]
name = "jelly"
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.3, 0.3, 0.3], counts = [4, 4, 4] }
material = { type = "jelly", E = 1e5, nu = 0.3 }
[[bodies]]
name = "pile"
shape = { type = "sphere", center = [0.2, 0.3, 0.3], radius = 0.08 }
material = { type = "sand", E = 1e5, nu = 0.2, friction_angle = 30.0 }
[[colliders]]
type = "capsule"
name = "bar"
center = [0.8, 0.3, 0.5]
radius = 0.05
half_length = 0.2
velocity = [-1.0, 0.0, 0.0]
angular_velocity = [0.0, 10.0, 0.0]
[[colliders]]
type = "plane"
point = [0.0, 0.1, 0.0]
normal = [0.0, 1.0, 0.0]
"""


def test_surfaces_of_gltf_move(tmp_path: Path) -> None:
    """A box in an affine motion, a turning capsule: against the maps; the first state as another reader has it."""
    import trimesh

    (tmp_path / "scene.toml").write_text(MOVING, encoding="utf-8")
    world = se.load_scene(tmp_path / "scene.toml").world
    assert isinstance(world, MPMWorld)
    x, _, ids = world.particles()
    bent, shift = np.array([[1.1, 0.2, 0.0], [0.0, 0.9, 0.1], [0.3, 0.0, 1.0]]), np.array([0.1, -0.2, 0.05])
    write_npz(tmp_path / "states.npz", {"time": np.array([0.0, 0.1]), "x": np.stack([x, x @ bent.T + shift])})
    file = tmp_path / "s.glb"
    assert main(["export", str(tmp_path), "--surfaces", "--out", str(file)]) == 0

    parts = trimesh.load(file).geometry
    assert set(parts) == {"jelly", "pile", "bar"}  # the plane has no end
    assert parts["jelly"].is_watertight and parts["bar"].is_watertight
    assert parts["jelly"].volume == pytest.approx(0.027, rel=1e-6)
    assert parts["bar"].volume == pytest.approx(np.pi * 0.05**2 * (0.4 + 4 / 3 * 0.05), rel=0.02)
    np.testing.assert_allclose(parts["bar"].bounds, [[-0.05, -0.05, -0.25], [0.05, 0.05, 0.25]], atol=1e-3)
    np.testing.assert_allclose(parts["pile"].vertices, x[ids == 1], atol=1e-7)

    document, table = gltf_of(file)
    primitive = document["meshes"][0]["primitives"][0]
    first = table(primitive["attributes"]["POSITION"])
    moved = first + table(primitive["targets"][0]["POSITION"])
    np.testing.assert_allclose(moved, first @ bent.T + shift, atol=1e-6)
    channels = channels_of(file)
    np.testing.assert_allclose(channels["bar", "translation"], [[0.8, 0.3, 0.5], [0.7, 0.3, 0.5]], atol=1e-6)
    np.testing.assert_allclose(channels["bar", "rotation"][1], [0, np.sin(0.5), 0, np.cos(0.5)], atol=1e-6)
    assert channels["jelly", "weights"].ravel().tolist() == [0.0, 1.0]


def test_balls_of_gltf_roll(tmp_path: Path) -> None:
    """A ball that rolls 1 m/s turns by way over radius; past half a turn its quaternion stays on its side."""
    scene, run = tmp_path / "ball.toml", tmp_path / "run"
    scene.write_text(
        """
kind = "rigid"
duration = 1.0
[[bodies]]
name = "ball"
shape = { type = "sphere", center = [0.0, 0.1, 0.0], radius = 0.1 }
mass = 0.2
velocity = [1.0, 0.0, 0.0]
rolling = true
[[colliders]]
name = "floor"
point = [0.0, 0.0, 0.0]
normal = [0.0, 1.0, 0.0]
[contact]
"ball-floor" = { friction = 0.5 }
""",
        encoding="utf-8",
    )
    assert main(["run", str(scene), "--out", str(run)]) == 0
    file = tmp_path / "s.glb"
    assert main(["export", str(run), "--surfaces", "--out", str(file)]) == 0
    channels, t = channels_of(file), np.linspace(0, 1, 101)
    np.testing.assert_allclose(channels["ball", "translation"], np.stack([t, 0 * t + 0.1, 0 * t], 1), atol=1e-6)
    half = -t / 0.1 / 2  # about z, clockwise
    turn = np.stack([0 * t, 0 * t, np.sin(half), np.cos(half)], 1)
    np.testing.assert_allclose(channels["ball", "rotation"], turn, atol=1e-6)
    assert main(["export", str(run), "--out", str(tmp_path / "s.csv")]) == 0  # centres, as of particles
    with (tmp_path / "s.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 101


@pytest.mark.parametrize(("out", "told"), [("s.ply", "written as .glb"), ("s.glb", "no scene.toml")])
def test_surfaces_that_cannot_be_written(
    run: Path, out: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--surfaces", "--out", str(tmp_path / out)]) == 2
    assert told in capsys.readouterr().err


def test_points_of_gltf_move(run: Path, tmp_path: Path) -> None:
    """The first state as another reader has it; the second, by the tables of the file, at its time."""
    import trimesh

    file = tmp_path / "s.glb"
    assert main(["export", str(run), "--out", str(file)]) == 0
    x = np.load(run / "states.npz")["x"]
    (cloud,) = trimesh.load(file).geometry.values()
    np.testing.assert_allclose(np.asarray(cloud.vertices), x[0], atol=1e-7)
    document, table = gltf_of(file)
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
