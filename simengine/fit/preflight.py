"""What `simengine check` says of observations and unknowns, at the price of a solve for each unknown."""

import dataclasses
import time
from typing import Any

import torch

from simengine.fit.certainty.design import at_the_prior
from simengine.fit.inference import stages_of
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.report import misfit_summary
from simengine.scene.base import Refused, SceneError
from simengine.scene.grammar import Scene

FOR_OBSERVE = ("points", "gaps", "views", "frames")  # keys that only `simengine observe` reads
PATIENCE = 60.0  # seconds that a look at what the data will tell may take


def check_observations(scene: Scene) -> dict[str, Any]:
    """Read the files, predict once, and say the misfit, what would be sought and told, and the time of a fit.

    A scene that seeks nothing and says where and when it looks may come before its files: `simengine observe` writes
    them.

    Raises:
        SceneError: A file, a column or a key is wrong.
    """
    if not scene.unknowns and (planned := _to_be_written(scene)):
        return {"observations": planned}
    problem = Problem(scene)
    z = problem.start()
    began = time.perf_counter()
    try:
        problem.settle(z)
        problem.estimate_sigmas(z)
        predictions = problem.predict(z)
    except Refused as error:
        return {"ok": False, "observations": f"no run with these numbers: {error}"}
    seconds = time.perf_counter() - began
    summary = misfit_summary(problem, predictions, None)
    found: dict[str, Any] = {"observations": summary["observations"]}
    if problem.doubts:
        found["doubts"] = problem.doubts
    chosen = [c for c in problem.coordinates if c.chosen]
    if chosen:
        world = sum(c.of_world for c in chosen)
        found["unknowns"] = {c.name: f"{c.start:g} {c.unit}".strip() for c in chosen}
        one = seconds / max(problem.runs.solves, 1)
        found["seconds_of_a_solve"] = one
        if one * world < PATIENCE:
            found["told"] = at_the_prior(problem, z)
        found["seconds_of_a_fit_about"] = one * (world + 1) * 5 * len(stages_of(problem))
    if scene.unknowns:  # last, since it goes to its first stage
        training_of(problem)  # says what would stop the fit before its first step
    return found


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
