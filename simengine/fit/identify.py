"""A problem in, its answer out: what `simengine fit` and `simengine predict` do, in Python."""

import dataclasses
import tempfile
from pathlib import Path

from simengine.fit.carry import found_in, predicted
from simengine.fit.certainty.bars import posterior_of
from simengine.fit.derived import derived
from simengine.fit.fields.report import field_posterior
from simengine.fit.fields.training import FieldFit
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.loop import Callback, fit
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction
from simengine.fit.result import FitResult
from simengine.fit.spread import read_spread, spread_of
from simengine.fit.starts import SeveralStarts
from simengine.fit.training import AbstractTraining
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.grammar import Scene
from simengine.scene.record import open_run


def identify(
    problem: Problem | Scene | AbstractWorld,
    *,
    out: str | Path | None = None,
    refine: float | None = None,
    overwrite: bool = False,
    progress: bool = True,
    callback: Callback | None = None,
) -> FitResult:
    """Find the unknowns of a problem.

    Args:
        problem: The problem, or a scene with observations and unknowns.
        out: Run directory, for the report, and to go on after an interruption; None for none that stays.
        refine: Times the resolution at which the best fit is fitted again; how far it moves is added to the bars.
        overwrite: Remove what an earlier run left there.
        progress: Whether to show a progress line.
        callback: Called after each iteration; see `simengine.fit.fit`.

    Raises:
        SceneError: Nothing is observed or sought, or a file does not fit.
    """
    problem = problem if isinstance(problem, Problem) else Problem(problem)
    training = training_of(problem)
    if refine is not None and isinstance(training, LeastSquaresFit | SeveralStarts):
        training.refine = refine
    elif refine is not None:
        raise SceneError("refine: only least squares can be refitted at another resolution")
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _driven(problem, training, Path(folder) / "run", False, progress, callback)
    return _driven(problem, training, Path(out), overwrite, progress, callback)


def predict(on: Scene | Problem, *, found: FitResult | str | Path | None = None) -> dict[str, Prediction]:
    """The observations of a scene beside what it predicts: what `simengine predict` does, in Python.

    Args:
        on: The scene, or a problem for its numbers as they stand.
        found: What a fit found, or the run directory of one, to be put in place of the scene's own numbers; `std` of
            the predictions holds its bars. None for the numbers as they stand.

    Returns:
        Observation -> its prediction.

    Raises:
        SceneError: Nothing is observed, or nothing that was found has a place there.
        ValueError: The folder holds no finished fit.
    """
    scene = on.scene if isinstance(on, Problem) else on
    if not scene.observations:
        raise SceneError("on: the scene has no [observations] to predict")
    if isinstance(found, FitResult):
        return dict(found.predict(scene))
    if found is not None:
        return predicted(found_in(Path(found)), read_spread(Path(found)), scene)
    problem = on if isinstance(on, Problem) else Problem(on)
    problem.settle(problem.start())
    return problem.predict()


def _driven(
    problem: Problem,
    training: AbstractTraining,
    folder: Path,
    overwrite: bool,
    progress: bool,
    callback: Callback | None,
) -> FitResult:
    directory = open_run(folder, problem.scene, overwrite=overwrite, resume=True)
    result = fit(training, directory, progress=progress, callback=callback)
    result = dataclasses.replace(result, scene=problem.scene)
    if result.interrupted:
        return result
    if isinstance(training, FieldFit):
        predictions = problem.predict(training.z)
        beside, bars = training.answer or field_posterior(training, predictions)[:2]
        return dataclasses.replace(
            result,
            fields=training.fields(),
            field_bars=bars,
            predictions=predictions,
            estimates=beside.estimates,
            covariance=beside.covariance,
        )
    if not isinstance(training, LeastSquaresFit | SeveralStarts):
        return result  # a method of its own knows its own answer
    predictions = problem.predict(training.z)
    found = posterior_of(training)
    return dataclasses.replace(
        result,
        estimates={**found.estimates, **derived(problem, training.z, found.covariance)},
        covariance=found.covariance,
        directions=found.directions,
        predictions=predictions,
        minima=found.minima,
        samples=found.samples,
        spread=spread_of(problem, training.z, found),
    )
