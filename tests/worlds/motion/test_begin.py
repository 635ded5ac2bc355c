"""Bodies that begin otherwise: as points from a file, and as the last state of another run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.io import write
from simengine.io.run_directory import RunDirectory
from simengine.scene.base import SceneError
from simengine.scene.grammar import make_world
from simengine.worlds.motion.world import MPMWorld

GRID = {"lower": [-0.4, 0.0, -0.4], "upper": [0.4, 0.8, 0.4], "spacing": 0.1, "time_step": 5e-4, "num_steps": 40}
SAND = {"type": "sand", "E": 1e5, "nu": 0.3, "friction_angle": 30.0, "viscosity": 5.0}
SAND |= {"relaxation": {"times": [0.01], "shares": [0.3]}, "damping": {"mass": 2.0, "stiffness": 1e-4}}
BOX = {"type": "box", "center": [0.0, 0.3, 0.0], "size": [0.2, 0.2, 0.2]}


def world(folder: Path, *bodies: dict[str, Any], **more: Any) -> MPMWorld:
    data = {"kind": "mpm", "grid": GRID, "bodies": list(bodies), "output": {"video": False}, **more}
    made = make_world(json.loads(json.dumps(data)), directory=folder, locate=lambda key: "scene.toml")
    assert isinstance(made, MPMWorld)
    return made


def body(shape: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"shape": shape, "material": SAND, "velocity": [0.3, -0.5, 0.0], **more}


def cloud(folder: Path, name: str) -> np.ndarray:
    """The particles of `BOX` written as a file of this name."""
    x, volume, _ = world(folder, body(BOX)).particles()
    if name.endswith(".csv"):
        rows = [",".join(map(repr, (*(1e3 * p).tolist(), 1e9 * float(v)))) for p, v in zip(x, volume, strict=True)]
        (folder / name).write_text("\n".join(["x [mm],y [mm],z_mm,volume [mm^3]", *rows]) + "\n")
    elif name.endswith(".npz"):
        np.savez(folder / name, x=100 * x)
    else:
        write(folder / name, {"x": x})
    return np.asarray(x)


def ran(made: MPMWorld, folder: Path) -> None:
    """Run a world into a folder."""
    folder.mkdir()
    made.run(RunDirectory(folder), device="cpu")


@pytest.mark.parametrize(
    ("file", "more", "close"),
    [
        ("points.csv", {}, 1e-15),
        ("points.npz", {"unit": "cm", "spacing": 0.05}, 1e-15),
        ("points.ply", {"spacing": 0.05}, 1e-7),  # a .ply of ours holds float32
    ],
)
def test_points_lie_where_the_file_has_them(tmp_path: Path, file: str, more: dict[str, Any], close: float) -> None:
    x = cloud(tmp_path, file)
    found, volume, _ = world(tmp_path, body({"type": "points", "file": file, **more})).particles()
    np.testing.assert_allclose(found, x, rtol=0, atol=close)
    np.testing.assert_allclose(volume, 0.05**3, rtol=1e-12)


def test_a_cloud_moves_as_the_box_that_it_was(tmp_path: Path) -> None:
    cloud(tmp_path, "points.csv")
    ends = []
    for shape in (BOX, {"type": "points", "file": "points.csv"}):
        ran(world(tmp_path, body(shape, turn=[0.0, 0.0, 0.3])), tmp_path / f"run{len(ends)}")
        ends.append(np.load(tmp_path / f"run{len(ends)}" / "last_state.npz")["x"])
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("file", "more", "words"),
    [
        ("none.csv", {}, "no such file"),
        ("points.npz", {"unit": "cm"}, "spacing: points.npz tells no volumes"),
        ("points.csv", {"spacing": 0.05}, "spacing: points.csv tells the volumes itself"),
        ("points.npz", {"unit": "mm", "spacing": 0.05}, "lie 0.1 times as far apart as their volumes are wide"),
        ("points.npz", {"unit": "kg", "spacing": 0.05}, "unit: 'kg' is no length"),
        ("points.stl", {}, "points come from a file that ends in"),
        ("short.csv", {"spacing": 0.05}, "no column 'z'"),
        ("gap.csv", {"spacing": 0.05}, "x, y, z of point 2 is no number"),
        ("heavy.csv", {}, "is in kg, which is no volume"),
        ("twice.csv", {"spacing": 0.05}, "lie in one place"),
    ],
)
def test_a_file_that_is_no_cloud_is_named(tmp_path: Path, file: str, more: dict[str, Any], words: str) -> None:
    cloud(tmp_path, "points.npz")
    cloud(tmp_path, "points.csv")
    (tmp_path / "points.stl").write_text("solid\n")
    (tmp_path / "short.csv").write_text("x [m],y [m]\n0,0.3\n0.05,0.3\n")
    (tmp_path / "gap.csv").write_text("x,y,z\n0,0.3,0\n0.05,,0\n")
    (tmp_path / "heavy.csv").write_text("x,y,z,volume [kg]\n0,0.3,0,1\n0.05,0.3,0,1\n")
    (tmp_path / "twice.csv").write_text("x,y,z\n0,0.3,0\n0.05,0.3,0\n0,0.3,0\n")
    with pytest.raises(SceneError, match=words):
        world(tmp_path, body({"type": "points", "file": file, **more})).particles()


def test_a_cloud_in_another_body_is_refused(tmp_path: Path) -> None:
    """Where matter would count twice; beside it, or where the two pass through each other, it may lie."""
    cloud(tmp_path, "points.csv")
    first = body({"type": "points", "file": "points.csv"}, name="cloud")
    inside = body({**BOX, "center": [0.1, 0.3, 0.0]}, name="box")
    with pytest.raises(SceneError, match="32 particles of 'box' begin inside 'cloud', where matter would count twice"):
        world(tmp_path, first, inside).particles()
    world(tmp_path, first, body({**BOX, "center": [0.2, 0.3, 0.0]}, name="box")).particles()
    world(tmp_path, first, inside, contact={"cloud-box": {"kind": "none"}}).particles()


PLATE = {
    "type": "plane",
    "name": "plate",
    "point": [0.0, 0.19, 0.0],
    "normal": [0.0, 1.0, 0.0],
    "velocity": [0, 0.5, 0],
}


@pytest.mark.parametrize("integrator", ["explicit", "implicit"])
def test_a_run_goes_on_to_the_last_bit(tmp_path: Path, integrator: str) -> None:
    """Clay with branches and damping on a plate that moves, 40 steps at once and 20 after 20; implicit 2 after 2."""
    every = 10 if integrator == "explicit" else 1
    small = {**BOX, "counts": [2, 2, 2]} if integrator == "implicit" else BOX
    losses = {name: SAND[name] for name in ("viscosity", "relaxation", "damping")}
    clay = {"type": "plasticine", "E": 1e5, "nu": 0.3, "yield_stress": 300.0, **losses}
    more: dict[str, Any] = {"colliders": [PLATE], "output": {"video": False, "save_every": every}}

    def go(name: str, steps: int, **other: Any) -> dict[str, np.ndarray]:
        grid = {**GRID, "num_steps": steps * every // 10, "integrator": integrator}
        ran(world(tmp_path, body(small, material=clay), grid=grid, **more, **other), tmp_path / name)
        return dict(np.load(tmp_path / name / "last_state.npz"))

    whole, half = go("whole", 40), go("half", 20)
    rest = go("rest", 20, state="half/last_state.npz")
    assert int(half["step"]) * 2 == int(rest["step"]) == int(whole["step"])
    for name, value in whole.items():
        assert np.array_equal(value, rest[name]), name
    assert not np.array_equal(half["x"], whole["x"]) and (np.abs(whole["q"]).max() > 0 or integrator == "implicit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "none.npz"}, "no such file; it is the last_state.npz of a run"),
        ({"state": "run/states.npz"}, "holds no 'C'"),
        ({"grid": {**GRID, "time_step": 2e-4}}, "state: time_step was 0.0005 there, here 0.0002"),
        ({"bodies": [body({**BOX, "size": [0.1, 0.1, 0.1]})]}, "holds 64 particles, the bodies 8"),
        ({"bodies": [{**body(BOX), "material": {"type": "jelly", "E": 1e5, "nu": 0.3}}]}, "2 branches, these 0"),
        ({"start": "equilibrium"}, "leave one of them out"),
    ],
)
def test_a_state_of_another_scene_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    ran(world(tmp_path, body(BOX), grid={**GRID, "num_steps": 10}), tmp_path / "run")
    bodies = change.pop("bodies", [body(BOX)])
    with pytest.raises(SceneError, match=words):
        world(tmp_path, *bodies, **{"state": "run/last_state.npz", **change}).build(device="cpu")


def test_observations_of_what_moves_by_the_clock_are_refused(tmp_path: Path) -> None:
    from simengine.scene.asks import Series

    ran(world(tmp_path, body(BOX), grid={**GRID, "num_steps": 10}, colliders=[PLATE]), tmp_path / "run")
    ask = Series(names=("kinetic_energy",), against="time", values=torch.tensor([5e-3], dtype=torch.float64))
    with pytest.raises(SceneError, match=r"colliders\.plate goes by the time before it"):
        world(tmp_path, body(BOX), state="run/last_state.npz", colliders=[PLATE]).solve((ask,))
    still = {**PLATE, "velocity": [0, 0, 0]}
    world(tmp_path, body(BOX), state="run/last_state.npz", colliders=[still]).solve((ask,))
