"""`simengine fit`, `train`, `optimise` and `demo`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from simengine.cli.common import (
    AsJson,
    Device,
    Out,
    Overrides,
    Overwrite,
    Quiet,
    With,
    brief,
    default_out,
    emit,
    pick_device,
)

if TYPE_CHECKING:
    from simengine.fit.training import AbstractTraining
    from simengine.scene.grammar import Scene

DEMONSTRATIONS = {
    "motion": "soft_beam",
    "materials": "rubber_treloar",
    "flames": "calibrate_methane",
    "fields": "diffusion_sorption_inverse",
    "pictures": "jelly_from_video",
}
Area = Literal["motion", "materials", "flames", "fields", "pictures"]


def fit(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    refine: float | None = None,
    workers: int = 1,
    cluster: str = "",
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find the unknowns of a scene from its observations.

    Ctrl-C saves and stops; the same command goes on where it stopped.

    Args:
        scene: A .toml or .py file with [observations] and [unknowns], or the name of a shipped scene.
        refine: Fit the answer again at so many times the resolution; how far it moves is added to the bars
            (inference.refine).
        workers: Processes that starts of the fit (inference.starts) and replicas of a bootstrap are shared among; what
            is done is kept, and a worker that dies is replaced.
        cluster: Address of a Dask scheduler, as tcp://host:8786, whose workers see the same files and take their place.
    """
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own

    run_own(own or [])
    loaded = load_scene(scene, overrides or ())
    chosen = pick_device(device, loaded.world.fit_devices)
    training: AbstractTraining
    said: set[str] = set()
    for table, verb in {"learner": "train", "objective": "optimise"}.items():
        if getattr(loaded, table) is not None:
            raise ValueError(f"{scene}: a scene that explains no observation; use `simengine {verb}`")
    if loaded.observations or loaded.unknowns:
        from simengine.fit.method import training_of
        from simengine.fit.problem import Problem

        problem = Problem(loaded)
        said |= set(problem.doubts)
        for doubt in problem.doubts:
            print(f"doubt: {doubt}", file=sys.stderr)
        training = training_of(problem)
        if refine is not None and hasattr(training, "refine"):
            training.refine = refine
        elif refine is not None:
            raise ValueError("--refine: only least squares can be refitted at another resolution")
    elif refine is not None:
        raise ValueError("--refine: a scene without [observations] has no bars to add to; leave it out")
    else:
        training = loaded.world.training(device=chosen)
    folder = out or default_out(scene).with_name(default_out(scene).name + "-fit")
    if workers != 1 or cluster:
        _share(training, loaded, scene, overrides or (), own or (), folder / "shared", workers, cluster)
    outcome = _drive(training, loaded, folder, overwrite=overwrite, progress=not quiet and not as_json)
    if outcome is None:
        return 1
    for doubt in outcome.get("doubts", ()):  # those that the search came upon
        if doubt not in said:
            print(f"doubt: {doubt}", file=sys.stderr)
    if "estimates" in outcome and not as_json:
        _print_answer(outcome)
    else:
        emit(outcome, as_json=as_json, title=f"fit {scene}")
    return 0


def _share(
    training: "AbstractTraining",
    loaded: "Scene",
    scene: str,
    overrides: Sequence[str],
    own: Sequence[Path],
    folder: Path,
    workers: int,
    cluster: str,
) -> None:
    """Give a fit the processes that its starts and replicas are shared among."""
    from simengine.fit.trainings.elsewhere import Elsewhere

    if workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {workers}")
    several = loaded.inference.starts > 1 or loaded.inference.posterior == "bootstrap"
    if not hasattr(training, "elsewhere") or not several:
        raise ValueError(
            '--workers: starts (inference.starts) and replicas (inference.posterior = "bootstrap") are shared, '
            "and this fit has neither; leave it out"
        )
    training.elsewhere = Elsewhere(
        scene=str(Path(scene).resolve()) if Path(scene).exists() else scene,
        overrides=tuple(overrides),
        own=tuple(str(Path(file).resolve()) for file in own),
        folder=folder,
        workers=workers,
        cluster=cluster,
    )


def _learning(table: str, verb: str, what: str, scenes: str) -> Callable[..., int]:
    """The command of what explains no observation: the same options, loop and answer for every table."""

    def command(
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
        from simengine.fit.trainings.learned import learning_of
        from simengine.scene import load_scene
        from simengine.scene.own_code import run_own

        run_own(own or [])
        loaded = load_scene(scene, overrides or ())
        training = learning_of(loaded, table=table, device=pick_device(device, loaded.world.fit_devices))
        folder = out or default_out(scene).with_name(f"{default_out(scene).name}-{verb}")
        outcome = _drive(training, loaded, folder, overwrite=overwrite, progress=not quiet and not as_json)
        if outcome is None:
            return 1
        emit(outcome if as_json else brief(outcome), as_json=as_json, title=f"{verb} {scene}")
        return 0

    command.__name__ = command.__qualname__ = verb
    command.__doc__ = f"""{what}

    Ctrl-C saves and stops; the same command goes on where it stopped.

    Args:
        scene: A .toml or .py file with {scenes}, or the name of a shipped scene.
    """
    return command


train = _learning(
    "model",
    "train",
    "Train the model of a scene and test it; the run holds it as a folder, which `simengine predict RUN --on` uses.",
    "[model]",
)
optimise = _learning(
    "objective",
    "optimise",
    "Make the objective of a scene small over its unknowns: a design, as the paint that a detector sees worst.",
    "[objective] and [unknowns]",
)


def _drive(
    training: "AbstractTraining", loaded: "Scene", folder: Path, *, overwrite: bool, progress: bool
) -> dict[str, Any] | None:
    """The outcome of a training, also written to the run; None where it was interrupted."""
    from simengine.fit.loop import fit as drive
    from simengine.scene.record import open_run

    directory = open_run(folder, loaded, overwrite=overwrite, resume=True)
    result = drive(training, directory, progress=progress)
    if result.interrupted:
        print(f"interrupted after iteration {result.iterations}; the same command resumes", file=sys.stderr)
        return None
    outcome = {
        **({"parameters": result.parameters} if result.parameters else {}),
        **result.summary,
        "iterations": result.iterations,
        "loss": result.loss,
        "converged": result.converged,
        "directory": str(folder),
    }
    directory.write("summary.json", outcome)
    return outcome


def demo(
    area: Area = "motion",
    *,
    out: Annotated[Path | None, Parameter(help="Run directory; runs/demo-AREA if not given.")] = None,
    quiet: Quiet = False,
) -> int:
    """Fit a scene that ships, from its file to the report; what an earlier demo left there is replaced.

    Args:
        area: motion (a silicone beam as measured), materials (rubber), flames (a rate), fields (sorption), pictures (a
            film).
    """
    folder = out or Path("runs") / f"demo-{area}"
    return fit(DEMONSTRATIONS[area], out=folder, overwrite=True, quiet=quiet)


def _print_answer(outcome: dict[str, Any]) -> None:
    """A table that fits 80 columns: what was found, and how well the data are explained."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from simengine.fit.report import number

    found = Table("unknown", "value", "+-", "unit", "told", title_justify="left")
    for name, e in outcome["estimates"].items():
        spread = "-" if e["std"] is None else f"{e['std']:.2g}"
        found.add_row(name, number(e["value"], e["std"]), spread, e["unit"], "yes" if e["identified"] else e["why"])
    fit = Table("observation", "values", "chi-square", "held out", title_justify="left")
    for name, entry in outcome["observations"].items():
        chi = "sigma estimated" if entry.get("sigma") == "estimated" else f"{entry.get('chi_square_per_row', 0):.3g}"
        held = entry.get("held_out", {}).get("chi_square_per_row")
        fit.add_row(name, str(entry["rows"]), chi, "-" if held is None else f"{held:.3g}")
    console = Console()
    if found.row_count:
        console.print(found)
    for name, figures in outcome.get("fields", {}).items():
        field = Table(name, "value", title_justify="left")
        for figure, value in figures.items():
            if isinstance(value, float):
                field.add_row(escape(figure), f"{value:.4g}")
        console.print(field)
    console.print(fit)
    if outcome.get("explained") is False:
        console.print("The model does not explain the data within their noise; the report shows where.")
    for text in outcome.get("directions", ()):
        console.print(text)
    console.print(f"report: {outcome['directory']}/report.html", soft_wrap=True)
