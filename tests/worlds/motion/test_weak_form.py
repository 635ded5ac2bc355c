"""The start from the balance of momentum (recovery), and objectives that a script brings along."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.mpm import MPMSolver
from simengine.scene import SceneError, load_world, resolved
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
[[bodies]]
angular_velocity = [3.0, 6.0, 9.0]
[bodies.shape]
type = "box"
center = [0.5, 0.55, 0.5]
size = [0.3, 0.2, 0.24]
counts = [7, 6, 6]
[bodies.material]
MATERIAL
[fit]
observations = "observed.npz"
start = "momentum_balance"
"""
MATERIALS = {
    "jelly": ('type = "jelly"', {"E": 2e4, "nu": 0.3}, {"E": 2e5, "nu": 0.1}),
    "plasticine": (
        'type = "plasticine"',
        {"E": 1e5, "nu": 0.3, "yield_stress": 4e2},
        {"E": 1e6, "nu": 0.1, "yield_stress": 4e3},
    ),
}


def prepare(folder: Path, name: str) -> Path:
    """A scene whose search starts ten times off, and the motion of the true material every 4 steps."""
    head, truth, start = MATERIALS[name]
    file = folder / "scene.toml"
    values = "\n".join(f"{key} = {value}" for key, value in truth.items())
    search = "".join(f'[fit.parameters."bodies.0.material.{k}"]\ninitial = {v}\n' for k, v in start.items())
    file.write_text(SCENE.replace("MATERIAL", f"{head}\n{values}") + search)
    scene = load_world(file)
    assert isinstance(scene, MPMScene)
    model, state = scene.build(device="cpu", double=True)
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, 60, save_every=4).states.x.numpy()
    np.savez(folder / "observed.npz", x=x, time=np.arange(16) * 4e-3)
    return file


@pytest.mark.parametrize("name", list(MATERIALS))
def test_recovery_from_ten_times_off(name: str, tmp_path: Path) -> None:
    training = load_world(prepare(tmp_path, name)).training()
    truth = MATERIALS[name][1]
    losses = []
    while not training.converged and len(losses) < 60:
        losses.append(training.step())
        if losses[-1]["stage"] == 0:
            after_start = training.estimates()
    for key, value in truth.items():
        # frames every 4 ms, waves that cross the body in 25 ms: accelerations are known roughly, and so is the start
        assert 0.5 < after_start[f"bodies.0.material.{key}"] / value < 2, key
        assert training.estimates()[f"bodies.0.material.{key}"] == pytest.approx(value, rel=1e-4), key


def test_a_script_brings_its_own_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = prepare(tmp_path, "jelly")
    script = tmp_path / "scene.py"
    script.write_text(
        "from simengine.scene import load_world\n\n\n"
        "def height(x):\n    return x[..., 1].amax(1) - x[..., 1].amin(1)\n\n\n"
        f"scene = load_world({str(file)!r}, ['fit.objective=height', 'fit.start=given'])\n"
    )
    scene = load_world(script)
    assert isinstance(scene, MPMScene) and scene.fit is not None
    misfit = MotionMisfit(scene, ObservedMotion(scene, scene.fit, tmp_path / "observed.npz"), 16, "height")
    assert misfit.residual({}).shape == (15,) and float(misfit.residual({}).abs().max()) < 1e-12
    stiff = {"bodies.0.material.E": torch.tensor(2e5, dtype=torch.float64)}
    assert float(misfit.residual(stiff).abs().max()) > 1e-4
    with pytest.raises(SceneError, match=r"'height' is none; known: .*, or make the scene a Python"):
        load_world(file, ["fit.objective=height", "fit.start=given"]).training()
    assert main(["fit", str(file), "--set", "fit.objective=center_of_mass", "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert 'needs objective = "positions"' in message and len(message.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert "functions" not in resolved(scene)
