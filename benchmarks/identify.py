"""Known-form identification of the four materials of NCLaw from positions: error, position MSE and time.

The observed motions are those of the NCLaw scene (1000 particles, 1000 steps), simulated at the true values in float64.
Every search starts with each parameter wrong by a factor of two to three.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from simengine.fit import fit
from simengine.io.run_directory import RunDirectory
from simengine.mpm import MPMSolver
from simengine.scene import load_world, resolved
from simengine.solve import rollout
from simengine.worlds.motion.world import MPMWorld

# material table of the scene, true values, starting values
PROBLEMS = {
    "jelly": ('type="jelly"', {"E": 1e5, "nu": 0.2}, {"E": 3e5, "nu": 0.07}),
    "plasticine": (
        'type="plasticine"',
        {"E": 3e5, "nu": 0.25, "yield_stress": 5e3},
        {"E": 1e5, "nu": 0.1, "yield_stress": 1e4},
    ),
    "sand": (
        'type="sand", volume_correction=false',
        {"E": 1e6, "nu": 0.2, "friction_angle": 25.0},
        {"E": 5e5, "nu": 0.1, "friction_angle": 40.0},
    ),
    "water": ('type="water", nu=0.3', {"E": 1e5}, {"E": 3e4}),
}


def problem(name: str, folder: Path) -> MPMWorld:
    """The scene of one identification, its observations made at the true values."""
    table, truth, start = PROBLEMS[name]

    def material(values: dict[str, float]) -> list[str]:
        entries = ", ".join(f"{key}={value}" for key, value in values.items())
        return ["--", f"bodies.0.material={{{table}, {entries}}}"][1:]

    observed = load_world("jelly_drop", material(truth))
    assert isinstance(observed, MPMWorld)
    model, state = observed.build(device="cpu", double=True)
    with torch.no_grad():
        trajectory = rollout(MPMSolver(model), state, 1000, save_every=10)
    file = folder / f"{name}.npz"
    np.savez(file, x=trajectory.states.x.numpy(), time=np.arange(101) * 10 * observed.grid.time_step)
    keys = {key: f'"bodies.0.material.{key}"' for key in truth}
    parameters = ", ".join(f"{keys[key]}={{initial={value}}}" for key, value in start.items())
    truths = ", ".join(f"{keys[key]}={value}" for key, value in truth.items())
    fit_table = (
        f"fit={{observations='{file}', stages=[0.1, 0.3, 1.0], parameters={{{parameters}}}, truth={{{truths}}}}}"
    )
    scene = load_world("jelly_drop", [*material(start), fit_table])
    assert isinstance(scene, MPMWorld)
    return scene


def identify(name: str) -> dict[str, object]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        scene = problem(name, Path(folder))
        training = scene.training(device="cpu")
        training._finish = None  # type: ignore[attr-defined]  # no pictures: the time is that of the search
        out = RunDirectory.create(Path(folder) / "run", resolved(scene), overwrite=False, resume=False)
        start, wall = time.process_time(), time.perf_counter()
        result = fit(training, out, progress=False)
        assert scene.fit is not None
        worst = max(abs(result.parameters[key] / value - 1) for key, value in scene.fit.truth.items())
        return {
            "name": name,
            "position_mse": result.loss,
            "worst_parameter_error": worst,
            "iterations": result.iterations,
            "cpu_seconds": time.process_time() - start,
            "seconds": time.perf_counter() - wall,
        }


def main() -> list[dict[str, object]]:
    torch.set_num_threads(1)
    return [identify(name) for name in PROBLEMS]


if __name__ == "__main__":
    for row in main():
        print(row)
