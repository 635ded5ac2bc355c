"""A sparse symmetric positive definite system without factors, which in three dimensions fill up: by iterations."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.sparse_lu import AbstractSparseSystem

_TOLERANCE = 1e-10  # of the right side, in the norm of the diagonal's inverse
_SYMMETRIC = 1e-12  # of the largest entry


class SparseIterations(AbstractSparseSystem):
    """Conjugate gradients, preconditioned by the diagonal.

    Args:
        matrix: Any sparse matrix, float64, (n, n).

    Raises:
        ArithmeticError: The matrix is not symmetric, or its diagonal not positive.
    """

    def __init__(self, matrix: Any) -> None:
        self._matrix = csr_array(matrix, dtype=np.float64)
        diagonal = self._matrix.diagonal()
        if abs(self._matrix - self._matrix.T).max() > _SYMMETRIC * abs(self._matrix).max() or not diagonal.min() > 0:
            raise ArithmeticError("the matrix is not symmetric and positive definite: leave out definite=True")
        self._inverse = torch.from_numpy(1 / diagonal)

    def solve(self, right: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """To 1e-10 of the right side.

        Raises:
            ArithmeticError: The matrix is singular or not definite, or its condition too high.
        """
        found = conjugate_gradients(
            lambda v: torch.from_numpy(self._matrix @ v[0].numpy())[None],
            right.detach().reshape(1, -1),
            precondition=lambda v: self._inverse * v,
            tolerance=_TOLERANCE,
            max_iterations=max(100, 10 * right.numel()),
        )
        if not bool(found.isfinite().all()):
            raise ArithmeticError(
                f"conjugate gradients do not converge: the matrix of {right.numel()} unknowns is not positive "
                "definite, or its condition is too high; leave out definite=True"
            )
        return found.reshape(right.shape)
