"""A linear system with one more unknown and one more equation, where the system alone may be singular.

    (A    b) (x)   (f)
    (c^T  d) (s) = (g)

At a turning point of a path of solutions A is singular and the bordered matrix is not.
"""

import dataclasses

import torch

from simengine.solve.block_tridiagonal import Factors


@dataclasses.dataclass(frozen=True)
class Bordered:
    """A bordered matrix, solved with the factors of its large block.

    Attributes:
        factors: Of A, of a batch of one.
        column: b, shape (1, K, n).
        row: c, shape (1, K, n).
        corner: d.
    """

    factors: Factors
    column: torch.Tensor
    row: torch.Tensor
    corner: float = 0.0

    def solve(self, f: torch.Tensor, g: float) -> tuple[torch.Tensor, float]:
        """X (1, K, n) and s.

        Mixed block elimination, stable however near A is to singular (Govaerts & Pryce, Numer. Math. 63, 1993).
        """
        return self._mixed(f, g, self.column, self.row, transposed=False)

    def solve_transposed(self, f: torch.Tensor, g: float) -> tuple[torch.Tensor, float]:
        """The same of the transposed matrix."""
        return self._mixed(f, g, self.row, self.column, transposed=True)

    def _mixed(
        self, f: torch.Tensor, g: float, b: torch.Tensor, c: torch.Tensor, *, transposed: bool
    ) -> tuple[torch.Tensor, float]:
        plain, other = self.factors.solve, self.factors.solve_transposed
        if transposed:
            plain, other = other, plain
        v, w = other(c), plain(b)
        first = (g - float((v * f).sum())) / (self.corner - float((v * b).sum()))
        x = plain(f - b * first)
        second = (g - self.corner * first - float((c * x).sum())) / (self.corner - float((c * w).sum()))
        return x - w * second, first + second
