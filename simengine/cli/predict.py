"""`simengine predict`."""

import sys
from typing import Any

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
    if not as_json:  # curves and tables stand in the report
        summary = {k: _brief(v) for k, v in summary.items()}
    emit(summary, as_json=as_json, title=f"predict {scene}")
    return 0


def _brief(value: Any) -> Any:
    """A summary without curves, and an estimate as one line."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"value", "low", "high"}:
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return {key: _brief(item) for key, item in value.items() if key != "along"}
