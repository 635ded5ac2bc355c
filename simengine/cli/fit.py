"""`simengine fit`."""

import sys
from typing import TYPE_CHECKING

from simengine.cli.common import AsJson, Device, Out, Overrides, Overwrite, Quiet, default_out, emit, pick_device

if TYPE_CHECKING:
    from simengine.fit.training import AbstractTraining


def fit(
    scene: str,
    *,
    overrides: Overrides = None,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find the unknowns of a scene from its observations.

    Ctrl-C saves and stops; the same command goes on where it stopped.

    Args:
        scene: A .toml or .py file with [observations] and [unknowns], or the name of a shipped scene.
    """
    from simengine.fit.loop import fit as drive
    from simengine.io.run_directory import RunDirectory
    from simengine.scene import load_scene, resolved

    loaded = load_scene(scene, overrides or ())
    chosen = pick_device(device, loaded.world.devices)
    training: AbstractTraining
    if loaded.observations or loaded.unknowns:
        from simengine.fit.inference import training_of
        from simengine.fit.problem import Problem

        problem = Problem(loaded)
        for doubt in problem.doubts:
            print(f"doubt: {doubt}", file=sys.stderr)
        training = training_of(problem)
    else:
        training = loaded.world.training(device=chosen)
    folder = out or default_out(scene).with_name(default_out(scene).name + "-fit")
    directory = RunDirectory.create(folder, resolved(loaded), overwrite=overwrite, resume=True)
    result = drive(training, directory, progress=not quiet and not as_json)
    outcome = {
        "parameters": result.parameters,
        **result.summary,
        "iterations": result.iterations,
        "loss": result.loss,
        "converged": result.converged,
        "directory": str(folder),
    }
    if result.interrupted:
        print(f"interrupted after iteration {result.iterations}; the same command resumes", file=sys.stderr)
        return 1
    directory.write("summary.json", outcome)
    emit(outcome, as_json=as_json, title=f"fit {scene}")
    return 0
