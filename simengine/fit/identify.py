"""A problem in, its answer out: what `simengine fit` does, in Python."""

import dataclasses
import tempfile
from pathlib import Path

from simengine.fit.derived import derived
from simengine.fit.inference import LeastSquaresFit, training_of
from simengine.fit.loop import fit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.result import FitResult
from simengine.fit.training import AbstractTraining
from simengine.scene.base import AbstractScene
from simengine.scene.grammar import Scene
from simengine.scene.record import open_run


def identify(
    problem: Problem | Scene | AbstractScene,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> FitResult:
    """Find the unknowns of a problem.

    Args:
        problem: The problem, or a scene with observations and unknowns.
        out: Run directory, for the report, and to go on after an interruption; None for none that stays.
        overwrite: Remove what an earlier run left there.
        progress: Whether to show a progress line.

    Raises:
        SceneError: Nothing is observed or sought, or a file does not fit.
    """
    problem = problem if isinstance(problem, Problem) else Problem(problem)
    training = training_of(problem)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _driven(problem, training, Path(folder) / "run", overwrite=False, progress=progress)
    return _driven(problem, training, Path(out), overwrite=overwrite, progress=progress)


def _driven(
    problem: Problem, training: AbstractTraining, folder: Path, *, overwrite: bool, progress: bool
) -> FitResult:
    directory = open_run(folder, problem.scene, overwrite=overwrite, resume=True)
    result = fit(training, directory, progress=progress)
    if result.interrupted or not isinstance(training, LeastSquaresFit):
        return result  # a method of its own knows its own answer
    predictions = problem.predict(training.z)
    found = posterior(problem, training.z, predictions)
    return dataclasses.replace(
        result,
        estimates={**found.estimates, **derived(problem, training.z, found.covariance)},
        covariance=found.covariance,
        directions=found.directions,
        predictions=predictions,
    )
