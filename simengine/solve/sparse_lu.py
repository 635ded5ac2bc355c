"""A sparse system of equations: solves, also transposed, and solves that carry gradients; here by factors."""

import abc
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu

_SINGULAR = 1e-13  # smallest pivot over the largest one, of rows and columns of size 1: rounding


class AbstractSparseSystem(abc.ABC):
    """A square sparse matrix without a gradient, and what solves with it."""

    @abc.abstractmethod
    def solve(self, right: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """The x with A x = right, or A^T x = right, for a right side of n numbers in any shape; without a gradient."""

    def applied(self, right: torch.Tensor) -> torch.Tensor:
        """`solve` with the gradient to the right side, which costs one more solve."""
        found: torch.Tensor = _SparseSolve.apply(right, self, False)
        return found


class SparseFactors(AbstractSparseSystem):
    """The factors of a square sparse matrix whose rows and columns are scaled to a largest entry of 1 before.

    Args:
        matrix: Any sparse matrix, float64, (n, n).

    Raises:
        ArithmeticError: The matrix is singular to rounding.
    """

    def __init__(self, matrix: Any) -> None:
        own = csc_array(matrix, dtype=np.float64)
        self._rows = _inverse(abs(own).max(axis=1).toarray())
        own = csc_array(diags_array(self._rows) @ own)
        self._columns = _inverse(abs(own).max(axis=0).toarray())
        try:
            self._factors = splu(csc_array(own @ diags_array(self._columns)))
        except RuntimeError:
            raise ArithmeticError("the matrix is exactly singular") from None
        pivots = abs(self._factors.U.diagonal())
        if not np.isfinite(pivots).all() or pivots.min() <= _SINGULAR * pivots.max():
            raise ArithmeticError(
                f"the matrix is singular to rounding: pivots of {pivots.min():.1e} to {pivots.max():.1e}"
            )

    def solve(self, right: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """By the two triangles."""
        before, after = (self._columns, self._rows) if transposed else (self._rows, self._columns)
        flat = before * right.detach().numpy().ravel()
        return torch.from_numpy(after * self._factors.solve(flat, trans="T" if transposed else "N")).reshape(
            right.shape
        )


def _inverse(largest: Any) -> Any:
    flat = np.ravel(largest)
    return 1.0 / np.where(flat > 0, flat, 1.0)


class _SparseSolve(torch.autograd.Function):
    """A^-1 b for a matrix that carries no gradient; differentiable again and again."""

    @staticmethod
    def forward(ctx: Any, right: torch.Tensor, factors: AbstractSparseSystem, transposed: bool) -> torch.Tensor:
        ctx.factors, ctx.transposed = factors, transposed
        return factors.solve(right, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _SparseSolve.apply(gradients[0], ctx.factors, not ctx.transposed), None, None
