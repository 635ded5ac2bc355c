"""Least squares: one Levenberg-Marquardt for fits, layers and flames; structures, constraints, gradients."""

from simengine.solve.least_squares.minimise import (
    AbstractLeastSquaresSolver,
    BlockDiagonal,
    BlockTridiagonal,
    Dense,
    GaussNewton,
    LevenbergMarquardt,
    MatrixFree,
    Sparse,
    covariance,
    least_squares,
    solve_system,
)
from simengine.solve.least_squares.nest import Nest

__all__ = [
    "AbstractLeastSquaresSolver",
    "BlockDiagonal",
    "BlockTridiagonal",
    "Dense",
    "GaussNewton",
    "LevenbergMarquardt",
    "MatrixFree",
    "Nest",
    "Sparse",
    "covariance",
    "least_squares",
    "solve_system",
]
