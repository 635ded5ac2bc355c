"""Recovery of material parameters from motions, and what is said of observations that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.mpm import MPMSolver
from simengine.scene import SceneError, load_world
from simengine.solve import rollout
from simengine.worlds.motion.training import MotionMisfit, ObservedMotion
from simengine.worlds.motion.world import MPMScene

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
        ({"x": np.zeros((7, 5, 3))}, "5 particles, the scene has 216"),
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
