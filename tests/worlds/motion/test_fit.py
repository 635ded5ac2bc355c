"""Recovery of numbers of motions from positions in files, and what is said of scenes that do not fit."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.cli import main
from simengine.fit.result import FitResult
from simengine.mpm import MPMSolver
from simengine.scene import SceneError, load_scene, load_world
from simengine.scene.address import bounds
from simengine.solve import rollout
from simengine.worlds.motion.world import MPMWorld

SCENE = """
kind = "mpm"
[grid]
num_grids = 16
time_step = 1e-3
num_steps = 60
epsilon = 1e-7
[output]
save_every = 10
[[bodies]]
velocity = [0.0, -3.0, 0.0]
[bodies.shape]
type = "box"
center = [0.5, 0.33, 0.5]
size = [0.2, 0.2, 0.2]
counts = [6, 6, 6]
[bodies.material]
type = "jelly"
E = 5e4
nu = 0.3
[camera]
width = 64
height = 64
"""
SEEN = """
[observations.seen]
type = "markers"
file = "observed.npz"
on = "body"
sigma = SIGMA
[unknowns]
UNKNOWNS
"""


def positions(scene: MPMWorld, noise: float = 0.0) -> np.ndarray:
    """Particles at seven times, of the world at its own numbers, float64; the same lattice as in the fit."""
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 60, save_every=10).states.x.numpy()
    x[1:] += noise * np.random.default_rng(0).standard_normal(x[1:].shape)  # where the marks sit is known
    return np.asarray(x)


def write(folder: Path, unknowns: str, *changes: str, noise: float = 0.0, sigma: str = '"estimate"') -> Path:
    """A scene and what was seen of it, made by the scene itself: these tests are of the search, not of the physics."""
    (folder / "true.toml").write_text(SCENE)
    scene = load_world(folder / "true.toml", changes)
    assert isinstance(scene, MPMWorld)
    dt = scene.grid.time_step
    np.savez(folder / "observed.npz", x=positions(scene, noise), time=np.arange(7) * 10 * dt)
    file = folder / "scene.toml"
    file.write_text(SCENE + SEEN.replace("SIGMA", sigma).replace("UNKNOWNS", unknowns))
    return file


def found(file: Path, *changes: str) -> FitResult:
    return se.identify(load_scene(file, changes), out=file.parent / "run", progress=False)


@pytest.mark.parametrize("num_steps", [60, 80])
def test_a_clock_beyond_the_end_of_the_run_is_a_bad_trial(tmp_path: Path, capfd, num_steps: int) -> None:
    """The last row was seen at 0.072 s: with 60 steps the search stops at the end of the run and says so."""
    file = write(tmp_path, '"observations.seen.clock_rate" = { prior.lognormal = [1.0, 0.5] }', sigma="1e-4")
    model, state = load_world(file).build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 72, save_every=12).states.x.numpy()
    np.savez(tmp_path / "observed.npz", x=x, time=np.arange(7) * 0.01)
    changes = [f"grid.num_steps={num_steps}", "output.save_every=20", "observations.seen.clock_rate=0.9"]
    options = [part for change in changes for part in ("--set", change)]
    assert main(["fit", str(file), "--quiet", "--out", str(tmp_path / "run"), *options]) == 0
    summary = json.loads((tmp_path / "run" / "fit.json").read_text())
    rate = summary["estimates"]["observations.seen.clock_rate"]["value"]
    doubt = "doubt: the search ended at the edge of what has a run: grid.num_steps: the run ends at 0.06 s"
    if num_steps == 80:
        assert rate == pytest.approx(1.2, abs=2e-3)
        assert "doubts" not in summary
    else:
        assert rate == pytest.approx(1.0, abs=1e-3)
    assert (doubt in capfd.readouterr().err) == (num_steps == 60)
    assert ("edge of what has a run" in (tmp_path / "run" / "report.html").read_text()) == (num_steps == 60)


def test_a_search_that_is_cut_off_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One trial a stage from three times the modulus: still falling, and no word of it came before."""
    file = write(tmp_path, '"bodies.0.material.E" = {}', sigma="1e-4")
    options = ["--set", "bodies.0.material.E=1.5e5", "--out", str(tmp_path / "run")]
    for trials in (1, 40):
        assert main(["fit", str(file), "--quiet", *options, "--set", f"inference.iterations={trials}"]) == 0
        said = capfd.readouterr().err
        assert ("still falling after the 1 trials of inference.iterations" in said) == (trials == 1)
        shutil.rmtree(tmp_path / "run")


def test_noise_is_reflected_in_the_uncertainty(tmp_path: Path) -> None:
    sigma = 1e-3
    start = '"bodies.0.material.E" = { initial = 4e4 }\n"bodies.0.material.nu" = { initial = 0.2 }'
    result = found(write(tmp_path, start, noise=sigma))
    assert "doubts" not in result.summary
    # 1296 values along each axis: 1/sqrt(2 m) = 2 %, three of them
    assert result.summary["observations"]["seen"]["rms"] == pytest.approx(dict.fromkeys("xyz", sigma), rel=0.06)
    for name, truth in (("bodies.body.material.E", 5e4), ("bodies.body.material.nu", 0.3)):
        estimate = result.summary["estimates"][name]
        assert abs(estimate["value"] - truth) < 4 * estimate["std"] < 0.2 * truth


def test_a_modulus_is_found_from_ten_times_off(tmp_path: Path) -> None:
    # growing parts of the motion lead home without a start of their own
    far = '"bodies.0.material.E" = { initial = 5e5 }\n"bodies.0.material.nu" = { initial = 0.05 }'
    result = found(write(tmp_path, far), "inference.stages=[0.3,0.6,1.0]")
    assert result.parameters["bodies.body.material.E"] == pytest.approx(5e4, rel=1e-3)


@pytest.mark.parametrize(
    ("material", "key", "truth", "start", "dt"),
    [
        ('{type="sand", E=1e6, nu=0.2, friction_angle=55.0}', "friction_angle", 55.0, 25.0, 5e-4),
        ('{type="tait_water", K=2e4}', "K", 2e4, 3e5, 2e-4),
    ],
)
def test_a_bounded_coefficient_is_found_from_far(
    material: str, key: str, truth: float, start: float, dt: float, tmp_path: Path
) -> None:
    """Where the first step of an unbounded search leads out of the range of the law."""
    changes = [
        f"bodies.0.material={material}",
        f"grid.time_step={dt}",
        "bodies.0.shape.counts=[4, 6, 4]",
        "bodies.0.velocity=[0.0, 0.0, 0.0]",
    ]
    file = write(tmp_path, f'"bodies.0.material.{key}" = {{ initial = {start} }}', *changes)
    result = found(file, *changes)
    assert result.parameters[f"bodies.body.material.{key}"] == pytest.approx(truth, rel=1e-3)


def test_friction_of_the_walls_is_found(tmp_path: Path) -> None:
    """A stiff block slides on the floor: it slows by mu g, in closed form, and mu is found from its positions."""
    changes = [
        'walls={kind="friction", friction=0.25}',
        "bodies.0.shape.center=[0.4, 0.235, 0.5]",
        "bodies.0.velocity=[1.0, -0.5, 0.0]",
    ]
    file = write(tmp_path, '"walls.friction" = { initial = 0.6 }', *changes)
    scene = load_world(file, changes)
    assert isinstance(scene, MPMWorld)
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        moved = rollout(MPMSolver(model), state, 60, save_every=10).states
    # sliding friction takes mu times the momentum that the floor gives upwards
    sideways, upwards = (moved.v[-1] - moved.v[0]).mean(0)[:2]
    assert float(sideways / (upwards + 9.8 * 0.06)) == pytest.approx(-0.25, rel=0.02)
    assert found(file, *changes).parameters["walls.friction"] == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('unknowns={"bodies.0.material.Y"={}}', "bodies.0.material.Y"),
        ('unknowns={"bodies.0.material.E"={initial=-1.0}}', "the search starts at -1, and must start above 0"),
        ("inference.stages=[1.0, 0.5]", "growing fractions"),
        ("observations.seen.file=none.npz", "no such file"),
        ("bodies.0.shape.center=[0.5, 0.1, 0.5]", "outside the walls"),
        ("bodies.0.material.nu=0.5", "below 0.5"),
        ("output.save_every=7", "does not divide"),
    ],
)
def test_bad_scenes_are_one_line(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, '"bodies.0.material.E" = {}')
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--set", override, "--device", "cpu"]) == 2
    captured = capsys.readouterr().err
    assert message in captured and captured.count("\n") == 1
    assert not (tmp_path / "run").exists()


def plain(folder: Path) -> Path:
    """The scene with nothing observed."""
    (folder / "scene.toml").write_text(SCENE)
    return folder / "scene.toml"


def test_run_refuses_an_unstable_step_and_tells_a_stable_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(plain(tmp_path)), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*arguments, "--set", "grid.time_step=2e-2"]) == 2
    message = capsys.readouterr().err
    assert "unstable" in message and "grid.time_step = " in message and "--force" in message


def test_run_render_and_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = plain(tmp_path), tmp_path / "run"
    formats = ["--set", 'output.formats=["vtp", "ply"]', "--json"]
    assert main(["run", str(file), "--out", str(out), *formats]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["mass"] == pytest.approx(8.0)  # 0.2^3 m^3 of 1000 kg/m^3
    assert (out / "states.pvd").is_file() and len(list((out / "states").glob("*.vtp"))) == 7
    assert main(["render", str(out), "--out", str(tmp_path / "again.gif")]) == 0
    assert (tmp_path / "again.gif").stat().st_size > 1000
    # the resolved scene repeats the run bit for bit
    assert main(["run", str(out / "scene.toml"), "--out", str(tmp_path / "twice")]) == 0
    with np.load(out / "states.npz") as a, np.load(tmp_path / "twice" / "states.npz") as b:
        assert (a["x"] == b["x"]).all()
    capsys.readouterr()
    assert main(["run", str(file), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_fit_says_where_it_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, '"bodies.0.material.E" = {}')
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--device", "cuda"]) == 2
    assert "runs on cpu only" in capsys.readouterr().err


def test_check_of_an_unstable_step_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.toml").write_text(SCENE)
    arguments = ["check", str(tmp_path / "scene.toml"), "--device", "cpu", "--json", "--set", "grid.time_step=1e-2"]
    assert main(arguments) == 2
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"] and report["cfl_sound"] > 1
    assert report["gradient_error"] is None and "unstable" in report["gradient_test"]


def test_bounds_are_those_of_the_scene(tmp_path: Path) -> None:
    (tmp_path / "scene.toml").write_text(SCENE)
    sand = 'bodies.0.material={type="sand", E=1e5, nu=0.2, friction_angle=30.0}'
    scene = load_world(tmp_path / "scene.toml", [sand])
    assert bounds(scene, "bodies.0.material.friction_angle") == (0.0, 90.0)
    assert bounds(scene, "bodies.0.material.nu") == (-1.0, 0.5)
    assert bounds(scene, "bodies.0.color.2") == (0.0, 1.0)
    assert bounds(scene, "walls.friction") == (0.0, math.inf)
    assert bounds(scene, "bodies.0.velocity.1") == (-math.inf, math.inf)
    assert bounds(scene, "bodies.7.velocity.1") == bounds(scene, "nothing") == (-math.inf, math.inf)


def test_the_old_table_is_answered_by_the_new_form(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text(SCENE + '[fit]\nobservations = "observed.npz"\n')
    with pytest.raises(SceneError, match=r"fit: \[fit\] is the old form: what was measured goes into"):
        load_world(file)
