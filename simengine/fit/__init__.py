"""Inverse problems: named parameters, an objective, an optimiser, and the one loop that drives them all."""

from simengine.fit.identify import identify, predict
from simengine.fit.loop import fit
from simengine.fit.problem import Problem
from simengine.fit.result import FitResult
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining, difference_jacobian, forward_jacobian
from simengine.fit.trainings.parameters import Parameter, ParameterSet

__all__ = [
    "AbstractTraining",
    "FitResult",
    "GradientTraining",
    "LeastSquaresTraining",
    "Parameter",
    "ParameterSet",
    "Problem",
    "difference_jacobian",
    "fit",
    "forward_jacobian",
    "identify",
    "predict",
]
