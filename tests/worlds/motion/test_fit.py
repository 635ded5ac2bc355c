"""Recovery of material parameters from motions, and what is said of observations that do not fit."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.fit.trainings.staged import StagedTraining
from simengine.mpm import MPMSolver
from simengine.scene import SceneError, load_world
from simengine.scene.address import bounds
from simengine.solve import rollout
from simengine.worlds.motion.sought import scene_parameters
from simengine.worlds.motion.training import MotionMisfit, ObservedMotion, misfits_start
from simengine.worlds.motion.world import MPMScene, ParameterSpec

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
[fit]
observations = "observed.npz"
METHOD
[fit.parameters."bodies.0.material.E"]
initial = 2e4
[fit.parameters."bodies.0.material.nu"]
initial = 0.1
[fit.truth]
"bodies.0.material.E" = 5e4
"bodies.0.material.nu" = 0.3
"""


def prepare(folder: Path, method: str = "", noise: float = 0.0) -> Path:
    """A scene and its observations, made by the scene itself at the true values."""
    file = folder / "scene.toml"
    file.write_text(SCENE.replace("METHOD", method))
    scene = load_world(file)
    assert isinstance(scene, MPMScene)
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 60, save_every=10).states.x.numpy()
    x = x + noise * np.random.default_rng(0).standard_normal(x.shape)
    np.savez(folder / "observed.npz", x=x, time=np.arange(7) * 1e-2)
    return file


def test_recovery_by_least_squares_with_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = prepare(tmp_path)
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # the observations are exact, so only the tolerance of the last step (1e-6) remains
    assert max(result["relative_error"].values()) < 1e-5
    assert all(result["identified"].values())
    assert result["gradient_check"]["relative_error"] < 1e-4
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:video/mp4" in page and "bodies.0.material.nu" in page
    for name in ("scene.toml", "versions.json", "log.jsonl", "fit.json", "comparison.mp4", "comparison.gif"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    # the same command finds everything done
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == result["parameters"]


def test_noise_is_reflected_in_the_uncertainty(tmp_path: Path) -> None:
    sigma = 1e-3
    file = prepare(tmp_path, noise=sigma)
    training = load_world(file).training()
    while not training.converged:
        training.step()
    report = training.stage.uncertainty()  # type: ignore[attr-defined]
    assert report["sigma"] == pytest.approx(sigma, rel=0.05)  # 3888 residuals: 1/sqrt(2 m) = 1.1 %, four of them
    for name, truth in (("bodies.0.material.E", 5e4), ("bodies.0.material.nu", 0.3)):
        assert abs(training.estimates()[name] - truth) < 4 * report["std"][name]


def test_descent_through_the_adjoint_lowers_the_misfit(tmp_path: Path) -> None:
    training = load_world(prepare(tmp_path, 'method = "adam"\niterations = 12\nlearning_rate = 0.1')).training()
    losses = [training.step()["loss"] for _ in range(12)]
    assert losses[-1] < 0.2 * losses[0]


def test_two_motions_tell_more_than_one(tmp_path: Path) -> None:
    file = prepare(tmp_path, noise=1e-3)
    faster = load_world(file, ["bodies.0.velocity=[2.0, -4.0, 0.0]"])
    assert isinstance(faster, MPMScene)
    model, state = faster.build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 60, save_every=10).states.x.numpy()
    x = x + 1e-3 * np.random.default_rng(1).standard_normal(x.shape)
    np.savez(tmp_path / "faster.npz", x=x, time=np.arange(7) * 1e-2)
    values = '{"bodies.0.velocity.0"=2.0, "bodies.0.velocity.1"=-4.0}'
    stds = []
    for others in ("[]", f'[{{observations="faster.npz", values={values}}}]'):
        training = load_world(file, [f"fit.others={others}"]).training()
        while not training.converged:
            training.step()
        report = training.stage.uncertainty()  # type: ignore[attr-defined]
        assert report["sigma"] == pytest.approx(1e-3, rel=0.05)  # both motions fit to their noise
        stds.append(report["std"]["bodies.0.material.E"])
    assert stds[1] < 0.75 * stds[0]  # at least the square root of two, were both equally telling


@pytest.mark.parametrize("objective", ["center_of_mass", "distribution"])
def test_objectives_without_correspondence(objective: str, tmp_path: Path) -> None:
    file = prepare(tmp_path)
    data = dict(np.load(tmp_path / "observed.npz"))
    data["x"] = data["x"][:, np.random.default_rng(0).permutation(216)]
    np.savez(tmp_path / "observed.npz", **data)
    scene = load_world(file)
    assert isinstance(scene, MPMScene) and scene.fit is not None
    misfit = MotionMisfit(scene, ObservedMotion(scene, scene.fit, tmp_path / "observed.npz"), 7, objective)
    right = misfit.residual({})
    wrong = misfit.residual({"bodies.0.material.E": torch.tensor(2e4, dtype=torch.float64)})
    assert float(right.abs().max()) < 1e-12 < 1e-6 < float(wrong.abs().max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((7, 5, 3))}, "5 points, the scene has 216"),
        ({"x": np.zeros((7, 216))}, "expected `x`"),
        ({"x": np.full((7, 216, 3), np.nan)}, "not finite"),
        ({"time": np.arange(7) * 1e-2 + 5e-4}, "no multiples"),
        ({"time": np.zeros(7)}, "start at 0 and grow"),
        ({"time": np.arange(3.0)}, "does not go with"),
        ({"time": np.arange(7) * 2e-2}, "end before the observations"),
    ],
)
def test_bad_observations(change: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    file = tmp_path / "scene.toml"
    file.write_text(SCENE.replace("METHOD", ""))
    np.savez(tmp_path / "observed.npz", **{"x": np.zeros((7, 216, 3)), "time": np.arange(7) * 1e-2, **change})
    with pytest.raises(SceneError, match=message):
        load_world(file).training()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('fit.parameters={"bodies.0.material.Y"={initial=1.0}}', "no number that can vary"),
        ('fit.parameters={"bodies.0.material.E"={initial=-1.0}}', "must lie between"),
        ("fit.parameters={}", "name at least one"),
        ("fit.stages=[1.0, 0.5]", "growing fractions"),
        ("fit.observations=none.npz", "no such file"),
        ("bodies.0.shape.center=[0.5, 0.1, 0.5]", "outside the walls"),
        ("bodies.0.material.nu=0.5", "below 0.5"),
        ("output.save_every=7", "does not divide"),
    ],
)
def test_bad_scenes_are_one_line(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = prepare(tmp_path)
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--set", override, "--device", "cpu"]) == 2
    captured = capsys.readouterr().err
    assert message in captured and captured.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_run_refuses_an_unstable_step_and_tells_a_stable_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(prepare(tmp_path)), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*arguments, "--set", "grid.time_step=2e-2"]) == 2
    message = capsys.readouterr().err
    assert "unstable" in message and "grid.time_step = " in message and "--force" in message


def test_run_render_and_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = prepare(tmp_path), tmp_path / "run"
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


@pytest.mark.parametrize("objective", ["center_of_mass", "distribution"])
def test_markers_are_no_distribution(objective: str, tmp_path: Path) -> None:
    """30 of 216 particles: refused whatever the objective, with the way that is right."""
    file = prepare(tmp_path)
    data = dict(np.load(tmp_path / "observed.npz"))
    data["x"] = data["x"][:, :30]
    np.savez(tmp_path / "observed.npz", **data)
    with pytest.raises(SceneError, match="name a function there"):
        load_world(file, [f'fit.objective="{objective}"']).training()


def test_only_a_sample_of_the_whole_body_is_a_distribution() -> None:
    """A cube of 10 x 10 x 10: a random sample passes, other lattices too; its skin, its half, a shifted one do not."""
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 10)
    cube = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    skin = cube[((cube == 0) | (cube == 1)).any(1)]
    fine = np.stack(np.meshgrid(*[np.linspace(0, 1, 14)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for good in (*(cube[rng.choice(1000, 400, replace=False)] for _ in range(5)), fine, rng.uniform(0, 1, (600, 3))):
        assert misfits_start(good, cube, "distribution") is None
    for bad in (skin, cube[cube[:, 2] > 0.45], cube[:300] + 0.2, cube[rng.choice(1000, 40)]):
        assert misfits_start(bad, cube, "distribution") is not None
    assert misfits_start(fine, cube, "center_of_mass") is None
    assert misfits_start(cube[rng.choice(1000, 40)], cube, "center_of_mass") is not None


def test_a_fit_says_where_it_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = prepare(tmp_path)
    assert main(["fit", str(file), "--out", str(tmp_path / "run"), "--device", "cuda"]) == 2
    assert "runs on cpu only" in capsys.readouterr().err
    with pytest.raises(SceneError, match="runs on the CPU"):
        load_world(file).training(device="cuda")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "no such file"),
        ({"x": np.zeros((7, 5, 3))}, "5 points, the scene has 216"),
        ({"y": np.zeros(3)}, "expected `x`"),
    ],
)
def test_check_reads_the_observations(
    change: dict[str, np.ndarray] | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scene.toml"
    file.write_text(SCENE.replace("METHOD", ""))
    if change is not None:
        np.savez(tmp_path / "observed.npz", time=np.arange(7) * 1e-2, **change)
    assert main(["check", str(file), "--device", "cpu"]) == 2
    captured = capsys.readouterr().err
    assert message in captured and captured.count("\n") == 1


def test_check_of_an_unstable_step_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", str(prepare(tmp_path)), "--device", "cpu", "--json", "--set", "grid.time_step=1e-2"]
    times = np.arange(7) * 1e-2
    np.savez(tmp_path / "observed.npz", x=np.load(tmp_path / "observed.npz")["x"], time=times)
    assert main(arguments) == 2
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"] and report["cfl_sound"] > 1
    assert report["gradient_error"] is None and "unstable" in report["gradient_test"]


def test_bounds_are_those_of_the_scene(tmp_path: Path) -> None:
    scene = load_world(prepare(tmp_path), ['bodies.0.material={type="sand", E=1e5, nu=0.2, friction_angle=30.0}'])
    assert bounds(scene, "bodies.0.material.friction_angle") == (0.0, 90.0)
    assert bounds(scene, "bodies.0.material.nu") == (-1.0, 0.5)
    assert bounds(scene, "bodies.0.color.2") == (0.0, 1.0)
    assert bounds(scene, "walls.friction") == (0.0, math.inf)
    assert bounds(scene, "bodies.0.velocity.1") == (-math.inf, math.inf)
    assert bounds(scene, "bodies.7.velocity.1") == bounds(scene, "nothing") == (-math.inf, math.inf)
    table = {"bodies.0.material.friction_angle": ParameterSpec(initial=30.0, lower=-5.0, upper=60.0)}
    entry = scene_parameters(table, key="fit.parameters", scene=scene).entries["bodies.0.material.friction_angle"]
    assert (entry.lower, entry.upper) == (0.0, 60.0)


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
    name = f"bodies.0.material.{key}"
    file = tmp_path / "scene.toml"
    file.write_text(SCENE.replace("METHOD", "").partition("[fit.parameters")[0])
    changes = [
        f"bodies.0.material={material}",
        f"grid.time_step={dt}",
        "bodies.0.shape.counts=[4, 6, 4]",
        "bodies.0.velocity=[0.0, 0.0, 0.0]",
        f'fit.parameters={{"{name}"={{initial={start}}}}}',
    ]
    scene = load_world(file, changes)
    assert isinstance(scene, MPMScene)
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 60, save_every=10).states.x.numpy()
    np.savez(tmp_path / "observed.npz", x=x, time=np.arange(7) * 10 * dt)
    training = scene.training()
    for _ in range(12):
        if training.converged:
            break
        training.step()
    assert training.estimates()[name] == pytest.approx(truth, rel=1e-5)


def test_a_stage_sees_its_part_of_the_motion_only(tmp_path: Path) -> None:
    """Later frames that are wrong do not matter to an early stage, and do to the last."""
    file = prepare(tmp_path)
    data = dict(np.load(tmp_path / "observed.npz"))
    data["x"][4:] += 0.05
    np.savez(tmp_path / "observed.npz", **data)
    training = load_world(file, ["fit.stages=[0.5, 1.0]"]).training()
    assert isinstance(training, StagedTraining)
    truth = {"bodies.0.material.E": 5e4, "bodies.0.material.nu": 0.3}
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in truth.items()}
    first, last = (stage.residual(values) for stage in training.stages)  # type: ignore[attr-defined]
    assert float(first.abs().max()) < 1e-12 and len(first) == 3 * 216 * 3
    assert float(last.abs().max()) == pytest.approx(0.05) and len(last) == 6 * 216 * 3


def test_friction_of_the_walls_is_found(tmp_path: Path) -> None:
    """A stiff block slides on the floor: it slows by mu g, in closed form, and mu is found from its positions."""
    file = tmp_path / "scene.toml"
    file.write_text(SCENE.replace("METHOD", "").partition("[fit.parameters")[0])
    changes = [
        'walls={kind="friction", friction=0.25}',
        'fit.parameters={"walls.friction"={initial=0.6}}',
        "bodies.0.shape.center=[0.4, 0.235, 0.5]",
        "bodies.0.velocity=[1.0, -0.5, 0.0]",
    ]
    scene = load_world(file, changes)
    assert isinstance(scene, MPMScene)
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        moved = rollout(MPMSolver(model), state, 60, save_every=10).states
    np.savez(tmp_path / "observed.npz", x=moved.x.numpy(), time=np.arange(7) * 1e-2)
    # sliding friction takes mu times the momentum that the floor gives upwards
    sideways, upwards = (moved.v[-1] - moved.v[0]).mean(0)[:2]
    assert float(sideways / (upwards + 9.8 * 0.06)) == pytest.approx(-0.25, rel=0.02)
    training = scene.training()
    for _ in range(12):
        if training.converged:
            break
        training.step()
    assert training.estimates()["walls.friction"] == pytest.approx(0.25, rel=1e-5)


def test_markers_are_fitted_by_a_function_of_the_script(tmp_path: Path) -> None:
    """As docs/mpm.md shows: 30 markers a little beside particles; at the true values nothing is left."""
    file = prepare(tmp_path)
    data = dict(np.load(tmp_path / "observed.npz"))
    chosen = np.random.default_rng(0).choice(216, 30, replace=False)
    data["x"] = data["x"][:, chosen] + 1e-3
    np.savez(tmp_path / "observed.npz", **data)
    file.write_text(file.read_text().replace("[fit]\n", '[fit]\nobjective = "markers"\n'))
    (tmp_path / "markers.py").write_text(
        f"""
import numpy as np
import torch
import simengine as se

scene = se.load_world({str(file)!r})
particles = torch.as_tensor(scene.particles()[0])
seen = torch.as_tensor(np.load({str(tmp_path / "observed.npz")!r})["x"][0])
nearest = torch.cdist(seen, particles).argmin(1)


def markers(x):
    return x if x.shape[1] == len(seen) else x[:, nearest] + (seen - particles[nearest])
"""
    )
    training = load_world(tmp_path / "markers.py").training()
    assert isinstance(training, StagedTraining)
    truth = {"bodies.0.material.E": 5e4, "bodies.0.material.nu": 0.3}
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in truth.items()}
    residual = training.stages[-1].residual(values)  # type: ignore[attr-defined]
    assert residual.shape == (6 * 30 * 3,) and float(residual.abs().max()) < 1e-12
