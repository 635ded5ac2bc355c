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

__all__ = [
    "AbstractLeastSquaresSolver",
    "BlockDiagonal",
    "BlockTridiagonal",
    "Dense",
    "GaussNewton",
    "LevenbergMarquardt",
    "MatrixFree",
    "Sparse",
    "covariance",
    "least_squares",
    "solve_system",
]
