"""`simengine train` and `simengine optimise`."""

import sys
from typing import Any

from simengine.cli.common import AsJson, Device, Out, Overrides, Overwrite, Quiet, With, default_out, emit, pick_device


def train(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train the model of a scene and test it; the run holds it as a folder, which `simengine predict RUN --on` uses.

    Ctrl-C saves and stops; the same command goes on where it stopped.

    Args:
        scene: A .toml or .py file with [model], or the name of a shipped scene.
    """
    given: dict[str, Any] = {"overrides": overrides, "own": own, "out": out, "overwrite": overwrite, "device": device}
    return _drive("model", "train", scene, as_json=as_json, quiet=quiet, **given)


def optimise(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Make the objective of a scene small over its unknowns: a design, as the paint that a detector sees worst.

    Ctrl-C saves and stops; the same command goes on where it stopped.

    Args:
        scene: A .toml or .py file with [objective] and [unknowns], or the name of a shipped scene.
    """
    given: dict[str, Any] = {"overrides": overrides, "own": own, "out": out, "overwrite": overwrite, "device": device}
    return _drive("objective", "optimise", scene, as_json=as_json, quiet=quiet, **given)


def _drive(table: str, verb: str, scene: str, *, as_json: bool, quiet: bool, **given: Any) -> int:
    from simengine.fit.learned import learning_of
    from simengine.fit.loop import fit as drive
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own
    from simengine.scene.record import open_run

    run_own(given["own"] or [])
    loaded = load_scene(scene, given["overrides"] or ())
    training = learning_of(loaded, table=table, device=pick_device(given["device"], loaded.world.fit_devices))
    folder = given["out"] or default_out(scene).with_name(f"{default_out(scene).name}-{verb}")
    directory = open_run(folder, loaded, overwrite=given["overwrite"], resume=True)
    result = drive(training, directory, progress=not quiet and not as_json)
    if result.interrupted:
        print(f"interrupted after iteration {result.iterations}; the same command resumes", file=sys.stderr)
        return 1
    outcome = {
        **result.summary,
        "iterations": result.iterations,
        "loss": result.loss,
        "converged": result.converged,
        "directory": str(folder),
    }
    directory.write("summary.json", outcome)
    emit(outcome, as_json=as_json, title=f"{verb} {scene}")
    return 0
