"""`simengine predict`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from simengine.cli.common import AsJson, Out, Overrides, Overwrite, With, brief, default_out, emit


def predict(
    scene: str,
    *,
    on: Annotated[str, Parameter(help="A scene or file that what RUN found is used on.")] = "",
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> int:
    """Predict the observations of a scene with its numbers as they stand, and report the misfits.

    `predict RUN --on SCENE` uses what a run found: numbers of a fit in another scene, a law that was learned in a new
    scene, a network on photographs, a texture or a new member, a detector on a folder of pictures.

    Rows of a table of flames are kept as they are found: the same command goes on where it stopped, and tries again the
    rows that have no flame yet.

    Args:
        scene: A .toml or .py file with [observations], or the name of a shipped scene; with --on the folder of a run,
            or of a model.
    """
    if on:
        return _use(Path(scene), on, overrides, own, out, overwrite=overwrite, as_json=as_json)
    from simengine.fit.problem import Problem
    from simengine.fit.report import FOUND, misfit_report
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own
    from simengine.scene.record import open_run

    run_own(own or [])
    loaded = load_scene(scene, overrides or ())
    problem = Problem(loaded)
    for doubt in problem.doubts:
        print(f"doubt: {doubt}", file=sys.stderr)
    folder = out or default_out(scene).with_name(default_out(scene).name + "-predict")
    begun = (folder / FOUND).is_dir()  # else a run that is there is a finished one
    directory = open_run(folder, loaded, overwrite=overwrite, resume=begun)
    summary = {**misfit_report(problem, directory), "directory": str(folder)}
    directory.write("summary.json", summary)
    if not as_json:  # curves and tables stand in the report
        summary = {k: brief(v) for k, v in summary.items()}
    emit(summary, as_json=as_json, title=f"predict {scene}")
    return 0


def _use(
    run: Path,
    on: str,
    overrides: list[str] | None,
    own: list[Path] | None,
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> int:
    from simengine.io.model_folder import find_model, read_model
    from simengine.scene import SceneError, load_scene
    from simengine.scene.kinds import learned_method
    from simengine.scene.own_code import run_own
    from simengine.scene.record import open_run

    run_own(own or [])
    if not run.is_dir():
        raise SceneError(f"{run}: no such folder; name that of a run, as in `simengine predict runs/NAME --on {on}`")
    folder = out or run.parent / f"{run.resolve().name}-on-{Path(on).stem}"
    if find_model(run) is None:
        from simengine.fit.carry import carried, found_in
        from simengine.fit.problem import Problem
        from simengine.fit.report import FOUND, misfit_report
        from simengine.fit.spread import read_spread

        made = carried(found_in(run), load_scene(on, overrides or ()))
        directory = open_run(folder, made.scene, overwrite=overwrite, resume=(folder / FOUND).is_dir())
        if made.scene.observations:
            bars = None
            try:
                bars = made.bars(read_spread(run))
            except SceneError as error:
                print(f"note: predictions without bars: {error}", file=sys.stderr)
            summary = misfit_report(Problem(made.scene), directory, bars)
        else:
            summary = made.scene.world.run(directory)
        for name, why in made.left.items():
            print(f"note: {name} stays behind: {why}", file=sys.stderr)
        summary = {"found": made.values, **summary}
    else:
        model = read_model(run)
        use = learned_method("model", model.type, "use")
        if use is None:
            raise SceneError(f"{run}: a model of type {model.type!r} is told by its training's report alone")
        if overrides:
            raise SceneError("--set: the model is as it was trained; change the scene that --on names")
        directory = open_run(folder, load_scene(model.scene), overwrite=overwrite, resume=False)
        summary = use(model, Path(on), directory)
        summary = {"model": str(run), "sha256": model.sha256, **summary}
    summary |= {"on": on, "directory": str(folder)}
    directory.write("summary.json", summary)
    emit(summary if as_json else {k: brief(v) for k, v in summary.items()}, as_json=as_json, title=f"predict {run}")
    return 0
