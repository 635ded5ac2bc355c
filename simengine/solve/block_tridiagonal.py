"""Batched block-tridiagonal linear systems: what every discretised boundary-value problem in one dimension leaves.

Factored once by block elimination with row pivoting inside the blocks, then solved for any number of right-hand sides,
plain or transposed; the transposed solve is the one linear solve an implicit gradient costs.
"""

import dataclasses
from typing import Protocol

import torch

from simengine.solve.band import BandFactors

BAND_UP_TO = 600  # b n^2; above, eliminating whole blocks of all matrices at once is faster than LAPACK's band


class Factors(Protocol):
    """A factored matrix."""

    @property
    def sign(self) -> torch.Tensor:
        """Sign of the determinant of each matrix, (b,)."""

    def solve(self, b: torch.Tensor) -> torch.Tensor:
        """X of A x = b; b of shape (b, K, n) or, for several right-hand sides, (b, K, n, c)."""

    def solve_transposed(self, b: torch.Tensor) -> torch.Tensor:
        """X of A^T x = b, with shapes as in `solve`."""


@dataclasses.dataclass(frozen=True)
class BlockTridiagonalMatrix:
    """A x with (A x)_k = lower_k x_{k-1} + diagonal_k x_k + upper_k x_{k+1}.

    Attributes:
        lower: Blocks below the diagonal, shape (b, K, n, n); the first is not used.
        diagonal: Shape (b, K, n, n).
        upper: Blocks above, shape (b, K, n, n); the last is not used.
    """

    lower: torch.Tensor
    diagonal: torch.Tensor
    upper: torch.Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(t.shape) for t in (self.lower, self.diagonal, self.upper)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 4 or shapes[0][2] != shapes[0][3]:
            raise ValueError(f"lower, diagonal, upper: expected three equal shapes (b, K, n, n), got {shapes}")

    def matvec(self, x: torch.Tensor) -> torch.Tensor:
        """A x for x of shape (b, K, n)."""
        y = torch.einsum("bkij,bkj->bki", self.diagonal, x)
        y[:, 1:] += torch.einsum("bkij,bkj->bki", self.lower[:, 1:], x[:, :-1])
        y[:, :-1] += torch.einsum("bkij,bkj->bki", self.upper[:, :-1], x[:, 1:])
        return y

    def dense(self) -> torch.Tensor:
        """The same matrix stored in full, shape (b, K n, K n); for tests and small problems."""
        b, count, n, _ = self.diagonal.shape
        full = self.diagonal.new_zeros(b, count, n, count, n)
        for k in range(count):
            full[:, k, :, k] = self.diagonal[:, k]
            if k > 0:
                full[:, k, :, k - 1] = self.lower[:, k]
            if k < count - 1:
                full[:, k, :, k + 1] = self.upper[:, k]
        return full.reshape(b, count * n, count * n)

    def shifted(self, shift: torch.Tensor) -> "BlockTridiagonalMatrix":
        """A + diag(shift) for a shift of shape (b, K, n)."""
        return dataclasses.replace(self, diagonal=self.diagonal + torch.diag_embed(shift))

    def factor(self) -> Factors:
        """LU factors, O(b K n^3); singular matrices give non-finite solutions, which the caller sees."""
        like = self.diagonal
        b, _, n, _ = like.shape
        if b * n * n <= BAND_UP_TO and like.dtype == torch.float64 and like.device.type == "cpu":
            return BandFactors.of(self.lower.detach(), self.diagonal.detach(), self.upper.detach())
        return self.block_factor()

    def block_factor(self) -> "BlockFactors":
        """LU factors by eliminating whole blocks."""
        count = self.diagonal.shape[1]
        sizes = self.diagonal.abs().amax(-1)
        sizes[:, 1:] = torch.maximum(sizes[:, 1:], self.lower[:, 1:].abs().amax(-1))
        sizes[:, :-1] = torch.maximum(sizes[:, :-1], self.upper[:, :-1].abs().amax(-1))
        rows = torch.where(sizes > 0, 1 / sizes, 1.0)  # rows of one size, or pivoting would compare units
        lower, upper = self.lower * rows.unsqueeze(-1), self.upper * rows.unsqueeze(-1)
        lu: list[torch.Tensor] = []
        pivots: list[torch.Tensor] = []
        carried: list[torch.Tensor] = []
        for k in range(count):
            block = self.diagonal[:, k] * rows[:, k].unsqueeze(-1)
            if k > 0:
                block = torch.baddbmm(block, lower[:, k], carried[-1], alpha=-1)
            factors, pivot, _ = torch.linalg.lu_factor_ex(block)
            lu.append(factors)
            pivots.append(pivot)
            if k < count - 1:
                carried.append(torch.linalg.lu_solve(factors, pivot, upper[:, k]))
        return BlockFactors(rows, lower, tuple(lu), tuple(pivots), tuple(carried))


@dataclasses.dataclass(frozen=True)
class BlockFactors:
    """diag(rows) A = (lower + D)(1 + G): the factors of a `BlockTridiagonalMatrix`."""

    rows: torch.Tensor
    lower: torch.Tensor
    lu: tuple[torch.Tensor, ...]
    pivots: tuple[torch.Tensor, ...]
    carried: tuple[torch.Tensor, ...]

    @property
    def sign(self) -> torch.Tensor:
        """Sign of the determinant of each matrix, (b,)."""
        lu, pivots = torch.stack(self.lu, dim=1), torch.stack(self.pivots, dim=1)
        swaps = (pivots != torch.arange(1, pivots.shape[-1] + 1, device=pivots.device)).sum((1, 2))
        return lu.diagonal(dim1=-2, dim2=-1).sign().flatten(1).prod(1) * (1 - 2 * (swaps % 2))

    def solve(self, b: torch.Tensor) -> torch.Tensor:
        """X of A x = b; b of shape (b, K, n) or, for several right-hand sides, (b, K, n, c)."""
        right = (b if b.dim() == 4 else b.unsqueeze(-1)) * self.rows.unsqueeze(-1)
        x: list[torch.Tensor] = []
        for k, (lu, pivots) in enumerate(zip(self.lu, self.pivots, strict=True)):
            rest = right[:, k] if k == 0 else torch.baddbmm(right[:, k], self.lower[:, k], x[-1], alpha=-1)
            x.append(torch.linalg.lu_solve(lu, pivots, rest))
        for k in range(len(x) - 2, -1, -1):
            x[k] = torch.baddbmm(x[k], self.carried[k], x[k + 1], alpha=-1)
        return torch.stack(x, dim=1).reshape(b.shape)

    def solve_transposed(self, b: torch.Tensor) -> torch.Tensor:
        """X of A^T x = b, with shapes as in `solve`."""
        right = b if b.dim() == 4 else b.unsqueeze(-1)
        y = [right[:, 0]]
        for k in range(1, len(self.lu)):
            y.append(torch.baddbmm(right[:, k], self.carried[k - 1].mT, y[-1], alpha=-1))
        for k in range(len(y) - 1, -1, -1):
            if k < len(y) - 1:
                y[k] = torch.baddbmm(y[k], self.lower[:, k + 1].mT, y[k + 1], alpha=-1)
            y[k] = torch.linalg.lu_solve(self.lu[k], self.pivots[k], y[k], adjoint=True)
        return (torch.stack(y, dim=1) * self.rows.unsqueeze(-1)).reshape(b.shape)
