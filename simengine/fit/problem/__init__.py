"""A scene as a least-squares problem: its rows, its columns, its runs."""

from simengine.fit.problem.problem import Problem
from simengine.fit.problem.stage import Stage

__all__ = ["Problem", "Stage"]
