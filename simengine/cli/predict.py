"""`simengine predict`."""

import sys

from simengine.cli.common import AsJson, Out, Overrides, Overwrite, With, default_out, emit


def predict(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> int:
    """Predict the observations of a scene with its numbers as they stand, and report the misfits.

    Args:
        scene: A .toml or .py file with [observations], or the name of a shipped scene.
    """
    from simengine.fit.problem import Problem
    from simengine.fit.report import misfit_report
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own
    from simengine.scene.record import open_run

    run_own(own or [])
    loaded = load_scene(scene, overrides or ())
    problem = Problem(loaded)
    for doubt in problem.doubts:
        print(f"doubt: {doubt}", file=sys.stderr)
    folder = out or default_out(scene).with_name(default_out(scene).name + "-predict")
    directory = open_run(folder, loaded, overwrite=overwrite, resume=False)
    summary = {**misfit_report(problem, directory), "directory": str(folder)}
    directory.write("summary.json", summary)
    emit(summary, as_json=as_json, title=f"predict {scene}")
    return 0
