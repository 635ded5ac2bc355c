"""The method that a scene names, with the one report at its end."""

from simengine.fit.fields.report import field_answer
from simengine.fit.fields.training import FieldFit
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.problem import Problem
from simengine.fit.report import answer
from simengine.fit.starts import SeveralStarts
from simengine.fit.training import AbstractTraining
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest


def training_of(problem: Problem) -> AbstractTraining:
    """The fit of a problem by the method that its scene names, with the one report at its end.

    A field among the unknowns is sought by least squares of its own, whatever else is.

    Raises:
        SceneError: There is no such method.
    """
    method, fields = problem.scene.inference.method, problem.scene.unknowns.keys() & problem.scene.world.fields().keys()
    if problem.scene.inference.refine is not None and (fields or method != "least_squares"):
        raise SceneError("inference.refine: only numbers found by least squares are fitted again; leave it out")
    if problem.scene.inference.search and (fields or method != "least_squares"):
        raise SceneError("inference.search: only numbers found by least squares are searched for; leave it out")
    if fields:
        if method != "least_squares":
            raise SceneError(f'inference.method: a field is sought by "least_squares", the default; got {method!r}')
        return FieldFit(problem, finish=field_answer)
    if method != "least_squares":
        own = problem.scene.world.methods(problem)
        if method in own:
            return own[method]()
        raise SceneError(
            f"inference.method: {method!r} is none of this scene; {nearest(method, ('least_squares', *own))}"
        )
    if problem.scene.inference.starts > 1:
        return SeveralStarts(problem, problem.scene.inference.starts, LeastSquaresFit, finish=answer)
    return LeastSquaresFit(problem, finish=answer)
