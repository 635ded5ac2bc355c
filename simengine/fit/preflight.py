"""What `simengine check` says of observations and unknowns, at the price of a solve for each unknown."""

import dataclasses
import sys
import time
from typing import Any

import torch

from simengine.fit.certainty.design import at_the_prior
from simengine.fit.inference import stages_of
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.report import misfit_summary
from simengine.scene.asks import Table
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.grammar import Scene

FOR_OBSERVE = ("points", "gaps", "views", "frames")  # keys that only `simengine observe` reads
PATIENCE = 60.0  # seconds that a look at what the data will tell may take, and one at the rows of a table
FEWEST = 2  # rows of a table that are predicted, however long each takes


def open_observations(scene: Scene) -> Problem | dict[str, Any]:
    """The problem of a scene, its files read; what `simengine observe` would write where they are not there yet.

    A scene that seeks nothing and says where and when it looks may come before its files.

    Raises:
        SceneError: A file, a column or a key is wrong.
    """
    if not scene.unknowns and (planned := _to_be_written(scene)):
        return {"observations": planned}
    return Problem(scene)


def check_observations(problem: Problem, *, seconds_of_one: float = 0.0) -> dict[str, Any]:
    """Predict once, and say the misfit, what would be sought and told, and the time of a fit.

    Of a table whose rows are each an experiment of its own some are predicted, where all would take too long.

    Args:
        problem: Of the scene.
        seconds_of_one: What one experiment takes, from a run of the world as it stands [s].

    Raises:
        SceneError: No row has an answer, or the fit would stop before its first step.
    """
    scene = problem.scene
    z = problem.start()
    try:
        some, known = _some_rows(problem, z, seconds_of_one)
        began = time.perf_counter()
        problem.settle(z)
        problem.estimate_sigmas(z)
        predictions = problem.predict(z)
    except Refused as error:
        return {"ok": False, "observations": f"no run with these numbers: {error}"}
    seconds = time.perf_counter() - began
    summary = misfit_summary(problem, predictions, None)
    found: dict[str, Any] = {"observations": summary["observations"]} | ({"rows_predicted": some} if some else {})
    if problem.doubts:
        found["doubts"] = problem.doubts
    chosen = [c for c in problem.coordinates if c.chosen]
    if chosen:
        world = sum(c.of_world for c in chosen)
        found["unknowns"] = {c.name: f"{c.start:g} {c.unit}".strip() for c in chosen}
        one = seconds / max(problem.runs.solves, 1) if known is None else known
        found["seconds_of_a_solve"] = one
        if one * world < PATIENCE:
            found["told"] = at_the_prior(problem, z)
        columns = (
            1 if _derivatives_are_told(problem, z) else world
        )  # in solves: a row's adjoint is about one of its own
        solves = (columns + 1) * 5 * len(stages_of(problem)) * scene.inference.starts + scene.inference.search
        found["seconds_of_a_fit_about"] = one * solves
    if scene.unknowns:  # last, since it goes to its first stage
        training_of(problem)  # says what would stop the fit before its first step
    return found


def _some_rows(problem: Problem, z: torch.Tensor, seconds: float) -> tuple[dict[str, str], float | None]:
    """Look at some rows of the tables where all would take too long: in words which, and what all would take [s].

    The ends of a table are where a flame is hardest to find, so the rows lie in the middles of equal parts.

    Raises:
        Refused: The world has no run.
    """
    whole = {name: m for name, m in problem.measured.items() if _is_table(problem, name)}
    rows = {name: measured.mask.any(1).nonzero()[:, 0] for name, measured in whole.items()}
    count = sum(map(len, rows.values()))

    def look(most: float) -> dict[str, torch.Tensor]:
        own: dict[str, torch.Tensor] = {}
        for name, of in rows.items():
            few = min(len(of), max(FEWEST, int(most * len(of))))
            own[name] = of[((torch.arange(few) + 0.5) * len(of) / few).long()]
            problem.measured[name] = whole[name]
        problem.look_at({n: torch.isin(torch.arange(len(whole[n].values)), own[n]) for n in own})
        return own

    if seconds * count <= PATIENCE:
        return {}, None
    began = time.perf_counter()
    looked = look(0.0)
    now, least = sum(map(len, looked.values())), seconds * count / 60
    if now < count:  # a row may take minutes more than the flame of the scene
        print(f"check: {count} rows would take some {least:.1f} min at least; {now} are predicted", file=sys.stderr)
    problem.predict(z)  # a row may take much less than the flame of the scene, or more
    seconds = (time.perf_counter() - began) / sum(map(len, looked.values()))
    if seconds * count <= PATIENCE or PATIENCE / seconds > FEWEST * len(rows):
        looked = look(PATIENCE / seconds / count)
    words = {}
    for name, own in looked.items():
        if len(own) < len(rows[name]):
            labels = whole[name].row_names or [str(k) for k in range(len(whole[name].values))]
            told, minutes = ", ".join(labels[k] for k in own.tolist()), seconds * len(rows[name]) / 60
            of = f"{len(own)} of {len(rows[name])} ({told})"
            words[name] = f"{of}; `simengine predict` does all, in some {minutes:.0f} min"
    return words, seconds * count if words else None


def _derivatives_are_told(problem: Problem, z: torch.Tensor) -> bool:
    """Whether the runs know their derivatives, so that no number of a world costs a solve of its own."""
    runs = [problem.run_at(z, run, ()) for run in problem.worlds]
    return all(type(run).derivatives is not AbstractRun.derivatives for run in runs)


def _is_table(problem: Problem, name: str) -> bool:
    """Whether each row of an observation is an experiment of its own."""
    return all(isinstance(ask, Table) for ask in problem.instruments[name].asks(problem.measured[name]))


def _to_be_written(scene: Scene) -> dict[str, str]:
    """What `simengine observe` would write of a scene whose files are not there yet; empty where one is.

    Raises:
        SceneError: A file is missing, and its observation does not say what would be written.
    """
    found: dict[str, str] = {}
    for name, instrument in scene.observations.items():
        try:
            if instrument.path.exists():
                return {}
        except SceneError as missing:
            bare = type(instrument).__dataclass_fields__
            told = [key for key in FOR_OBSERVE if key in bare and getattr(instrument, key) != _default(bare[key])]
            if not told:
                raise  # a file that was measured, and is not where it should be
            try:
                world = scene.runs.get(instrument.run, scene.world)
                measured, _ = instrument.planned(world, torch.Generator().manual_seed(0))
            except SceneError:
                raise missing from None
            count = int(measured.mask.sum())
            found[name] = f"{instrument.file} is not there yet; `simengine observe` would write {count} values"
    return found


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
