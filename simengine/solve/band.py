"""Banded factors of block-tridiagonal matrices with small blocks: one LAPACK call instead of several for each block."""

import dataclasses
from functools import cache

import numpy as np
import torch
from scipy.linalg import lapack


@cache
def _places(count: int, n: int) -> tuple[int, np.ndarray]:
    """Rows of LAPACK's band storage, and where in it (padded by a block at both ends) the entries of a matrix go.

    The entries are those of the rows of blocks, [lower, diagonal, upper], of shape (K, n, 3 n).
    """
    width = 2 * n - 1
    rows = 3 * width + 1
    a, c = np.arange(n)[:, None], np.arange(3 * n)[None, :]
    row = 2 * width + a - c + n
    column = np.arange(count)[:, None, None] * n + c
    return rows, (column * rows + row).reshape(-1)


@dataclasses.dataclass(frozen=True)
class BandFactors:
    """LU factors with partial pivoting of diag(rows) A, for each matrix of a batch.

    Attributes:
        rows: One over the largest entry of each row, shape (b, K, n).
        factors: Of LAPACK's dgbtrf: band and pivots.
    """

    rows: torch.Tensor
    factors: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, lower: torch.Tensor, diagonal: torch.Tensor, upper: torch.Tensor) -> "BandFactors":
        """Factor blocks (b, K, n, n) in float64 on the CPU; singular matrices give solutions that are not finite."""
        b, count, n, _ = diagonal.shape
        entries = torch.cat((lower, diagonal, upper), dim=-1).numpy()
        entries[:, 0, :, :n], entries[:, -1, :, 2 * n :] = 0.0, 0.0
        sizes = np.abs(entries).max(-1)
        rows = 1 / np.where(sizes > 0, sizes, 1.0)  # rows of one size, or pivoting would compare units
        entries *= rows[..., None]
        height, places = _places(count, n)
        width, size = 2 * n - 1, count * n
        factors = []
        for matrix in entries.reshape(b, -1):
            band = np.zeros((size + 2 * n) * height)
            band[places] = matrix
            inner = band[n * height : (n + size) * height].reshape(size, height).T
            lu, pivots, _ = lapack.dgbtrf(inner, width, width, overwrite_ab=1)
            factors.append((lu, pivots))
        return cls(torch.as_tensor(rows), tuple(factors))

    def solve(self, b: torch.Tensor) -> torch.Tensor:
        """X of A x = b; b of shape (b, K, n) or, for several right-hand sides, (b, K, n, c)."""
        right = b * (self.rows if b.dim() == 3 else self.rows.unsqueeze(-1))
        return self._solve(right, transposed=False)

    def solve_transposed(self, b: torch.Tensor) -> torch.Tensor:
        """X of A^T x = b, with shapes as in `solve`."""
        return self._solve(b, transposed=True) * (self.rows if b.dim() == 3 else self.rows.unsqueeze(-1))

    @property
    def sign(self) -> torch.Tensor:
        """Sign of the determinant of each matrix, (b,)."""
        width = 2 * self.rows.shape[2] - 1
        signs = [
            np.sign(lu[2 * width]).prod() * (-1.0) ** np.count_nonzero(pivots != np.arange(len(pivots)))
            for lu, pivots in self.factors
        ]
        return torch.tensor(signs, dtype=self.rows.dtype)

    def _solve(self, right: torch.Tensor, *, transposed: bool) -> torch.Tensor:
        width = 2 * right.shape[2] - 1
        columns = right.detach().flatten(1, 2).numpy()
        solved = [
            lapack.dgbtrs(lu, width, width, each, pivots, trans=int(transposed))[0]
            for (lu, pivots), each in zip(self.factors, columns, strict=True)
        ]
        return torch.as_tensor(np.stack(solved)).reshape(right.shape)
