"""Inverse problems: named parameters, an objective, an optimiser, and the one loop that drives them all."""

from simengine.fit.gradient import GradientTraining
from simengine.fit.identify import identify
from simengine.fit.least_squares_training import LeastSquaresTraining, difference_jacobian, forward_jacobian
from simengine.fit.loop import fit
from simengine.fit.parameters import Parameter, ParameterSet
from simengine.fit.problem import Problem
from simengine.fit.result import FitResult
from simengine.fit.training import AbstractTraining

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
]
