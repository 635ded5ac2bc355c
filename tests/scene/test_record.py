"""A run directory repeats anywhere: moved, without the files and the script that it was made from."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.io.arrays import read_npz
from simengine.scene import load_world
from simengine.scene.grammar import build_scene
from simengine.scene.record import record

SCENE = """kind = "mpm"
[grid]
num_grids = 16
time_step = 1e-3
num_steps = 4
[output]
save_every = 2
video = false
[[bodies]]
shape = {type = "mesh", file = "meshes/cube.obj", size = 0.2, center = [0.5, 0.5, 0.5]}
material = {type = "jelly", E = 1e4, nu = 0.3, density = 1e3}
[[bodies]]
shape = {type = "box", center = [0.5, 0.3, 0.5], size = [0.1, 0.1, 0.1]}
material = {type = "neural", weights = "asset:sand_law.safetensors", density = 1e3}
"""
CUBE = "mtllib look.mtl\n" + "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
CUBE += "".join(f"f {face}\n" for face in ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "meshes").mkdir(parents=True)
    (folder / "meshes" / "cube.obj").write_text(CUBE)
    (folder / "meshes" / "look.mtl").write_text("newmtl a\nmap_Kd -s 1 1 1 skin.png\n")
    (folder / "meshes" / "skin.png").write_bytes(b"png")
    (folder / "meshes" / "other.txt").write_text("not named by anything")
    (folder / "scene.toml").write_text(SCENE)
    return folder


def test_a_run_repeats_elsewhere(project: Path, tmp_path: Path) -> None:
    out = project / "run"
    assert main(["run", str(project / "scene.toml"), "--out", str(out), "--device", "cpu", "--json"]) == 0
    recorded = (out / "scene.toml").read_text()
    assert str(tmp_path) not in recorded and "asset:sand_law.safetensors" in recorded
    file = tomllib.loads(recorded)["bodies"][0]["shape"]["file"]
    names = {path.name for path in (out / file).parent.iterdir()}
    assert names == {"cube.obj", "look.mtl", "skin.png"}
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(out, moved)
    shutil.rmtree(project)
    again = tmp_path / "again"
    assert main(["run", str(moved / "scene.toml"), "--out", str(again), "--device", "cpu", "--json"]) == 0
    assert (again / "scene.toml").read_text() == recorded
    first, second = read_npz(moved / "states.npz"), read_npz(again / "states.npz")
    assert all((first[name] == second[name]).all() for name in first)


def test_a_changed_file_is_another_scene(project: Path) -> None:
    before = record(load_world(project / "scene.toml"))
    assert record(load_world(project / "scene.toml")).data == before.data
    (project / "meshes" / "cube.obj").write_text(CUBE + "# changed\n")
    assert record(load_world(project / "scene.toml")).data != before.data


SCRIPT = """
from simengine.scene import load_world
from pathlib import Path
import math

SHARE = 0.5

def middle(x):
    return helper(x).mean(1)

def helper(x):
    return SHARE * x

def scene():
    return load_world(Path(r"{folder}") / "scene.toml")
"""


def test_the_functions_of_a_script_are_kept(project: Path, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.format(folder=project))
    scene = load_world(script, ["gravity=[0,-1,0]"])
    kept = record(scene)
    out = tmp_path / "out"
    for name, content in kept.inputs.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    import tomli_w

    (out / "scene.toml").write_text(tomli_w.dumps(kept.data))
    script.unlink()
    again = load_world(out / "scene.py")
    assert again.gravity == (0.0, -1.0, 0.0)  # type: ignore[attr-defined]
    x = np.arange(24.0).reshape(1, 8, 3)
    assert (again.functions["middle"](x) == 0.5 * x.mean(1)).all()
    assert not load_world(out / "scene.toml").functions  # data never runs code
    third = record(again)
    assert third.data == kept.data and third.inputs["scene.py"] == kept.inputs["scene.py"]


def test_inputs_are_not_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Observations from an earlier run, and that run's folder as --out."""
    out = project / "run"
    assert main(["run", str(project / "scene.toml"), "--out", str(out), "--device", "cpu", "--json"]) == 0
    text = SCENE + '[observations.seen]\ntype = "markers"\nfile = "run/states.npz"\n'
    (project / "fit.toml").write_text(text)
    before = (out / "states.npz").read_bytes()
    for name in ("fit.toml", "run/scene.toml"):
        command = ["run", str(project / name), "--out", str(out), "--device", "cpu", "--overwrite"]
        capsys.readouterr()
        assert main(command) == 2
        assert "--overwrite never touches" in capsys.readouterr().err
    assert (out / "states.npz").read_bytes() == before


def test_whatever_key_names_a_file(project: Path) -> None:
    """Places of marks beside a scene, and a mesh that one run has in another's place, go with the run."""
    marks = {"type": "markers", "file": "marks.csv", "at": "places.csv", "run": "other", "sigma": 1e-4}
    (project / "marks.csv").write_text("time,a.x,a.y,a.z\n0.0,0.5,0.5,0.5\n")
    (project / "places.csv").write_text("name,x,y,z\na,0.5,0.5,0.5\n")
    (project / "meshes" / "second.obj").write_text(CUBE + "# another\n")
    data = tomllib.loads(SCENE) | {"observations": {"marks": marks}}
    data["runs"] = {"other": {"bodies": {"0": {"shape": {"file": "meshes/second.obj"}}}}}
    kept = record(build_scene(data, directory=project, locate=str))
    names = {Path(name).name for name in kept.inputs}
    assert {"marks.csv", "places.csv", "cube.obj", "second.obj"} <= names
    assert kept.data["observations"]["marks"]["at"] in kept.inputs
    assert kept.data["runs"]["other"]["bodies"]["0"]["shape"]["file"] in kept.inputs
