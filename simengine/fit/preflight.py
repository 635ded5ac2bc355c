"""What `simengine check` says of observations and unknowns, at the price of a solve for each unknown."""

import time
from typing import Any

from simengine.fit.certainty.design import at_the_prior
from simengine.fit.inference import stages_of
from simengine.fit.problem import Problem
from simengine.fit.report import misfit_summary
from simengine.scene.base import Refused
from simengine.scene.grammar import Scene

PATIENCE = 60.0  # seconds that a look at what the data will tell may take


def check_observations(scene: Scene) -> dict[str, Any]:
    """Read the files, predict once, and say the misfit, what would be sought and told, and the time of a fit.

    Raises:
        SceneError: A file, a column or a key is wrong.
    """
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
        one = seconds / max(problem.solves, 1)
        found["seconds_of_a_solve"] = one
        if one * world < PATIENCE:
            found["told"] = at_the_prior(problem, z)
        found["seconds_of_a_fit_about"] = one * (world + 1) * 5 * len(stages_of(problem))
    return found
