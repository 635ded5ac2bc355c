"""Sparse Jacobians: found by few products where columns share no row, solved by sparse factorisation."""

import functools

import numpy as np
import torch

from simengine.solve.least_squares.structures.gram import AbstractGram, Linearisation, damping_diagonal
from simengine.solve.least_squares.structures.structure import AbstractStructure


class Sparse(AbstractStructure):
    """J with entries at given places only: J (nnz,), in the order of `rows` and `columns`.

    Forward mode takes as many products as colours are needed for columns that share no row (Curtis, Powell & Reid,
    1974). Each problem is factorised on its own by SuperLU, on the CPU.

    Args:
        rows: Of every entry, int64, shape (nnz,).
        columns: Of every entry, int64, shape (nnz,).

    Raises:
        ValueError: The index lists do not fit one another, or name an entry twice.
    """

    def __init__(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        if rows.ndim != 1 or rows.shape != columns.shape or rows.dtype != torch.int64 or columns.dtype != torch.int64:
            raise ValueError(
                f"rows, columns: expected two int64 tensors of one shape (nnz,), got {tuple(rows.shape)}, {rows.dtype} "
                f"and {tuple(columns.shape)}, {columns.dtype}"
            )
        if len(rows) == 0 or int(rows.min()) < 0 or int(columns.min()) < 0:
            raise ValueError("rows, columns: expected at least one entry and no negative index")
        self.rows: torch.Tensor = rows
        self.columns: torch.Tensor = columns
        self.m: int = int(rows.max()) + 1
        self.n: int = int(columns.max()) + 1
        if len(torch.unique(rows * self.n + columns)) < len(rows):
            raise ValueError("rows, columns: an entry is named twice")
        self.gram: SparseGram = SparseGram(self)

    @classmethod
    def from_mask(cls, mask: torch.Tensor) -> "Sparse":
        """The structure whose entries are where `mask` (m, n) is true."""
        rows, columns = mask.nonzero(as_tuple=True)
        return cls(rows, columns)

    def shape(self, m: int, n: int) -> tuple[int, ...]:
        """(nnz,)."""
        if self.m > m or self.n != n:
            raise ValueError(
                f"entries up to row {self.m - 1} and column {self.n - 1} do not fit {m} residuals and {n} unknowns; "
                "every unknown needs an entry"
            )
        return (len(self.rows),)

    @functools.cached_property
    def colours(self) -> torch.Tensor:
        """Colour of every column, shape (n,): columns of one colour share no row; greedy."""
        order = torch.argsort(self.columns, stable=True)
        rows, counts = self.rows[order].tolist(), torch.bincount(self.columns, minlength=self.n).tolist()
        taken = [0] * self.m  # a bit per colour seen in that row
        colours, start = [], 0
        for count in counts:
            mine = rows[start : start + count]
            start += count
            forbidden = functools.reduce(lambda bits, row: bits | taken[row], mine, 0)
            bit = ~forbidden & (forbidden + 1)
            colours.append(bit.bit_length() - 1)
            for row in mine:
                taken[row] |= bit
        return torch.tensor(colours)

    def seeds(self, n: int) -> torch.Tensor:
        """One direction per colour."""
        return torch.nn.functional.one_hot(self.colours).mT.double()

    def unpack(self, products: torch.Tensor) -> torch.Tensor:
        """Every entry stands in the product of its colour."""
        return products[:, self.colours[self.columns], self.rows]

    def product(self, jacobian: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Sum over the entries of every row."""
        return v.new_zeros(len(v), self.m).index_add(1, self.rows, jacobian * v[:, self.columns])

    def transposed_product(self, jacobian: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """J^T r, shape (b, n)."""
        return r.new_zeros(len(r), self.n).index_add(1, self.columns, jacobian * r[:, self.rows])

    def normal_equations(self, jacobian: torch.Tensor, r: torch.Tensor) -> Linearisation:
        """J itself, of which each solve makes a sparse J^T J."""
        zero = r.new_zeros(len(r), self.n)
        return {
            "gradient": self.transposed_product(jacobian, r),
            "diagonal": zero.index_add(1, self.columns, jacobian.square()),
            "jacobian": jacobian,
        }


class SparseGram(AbstractGram):
    """G = J^T J of a sparse J, held as the entries `"jacobian"` (b, nnz)."""

    def __init__(self, structure: Sparse) -> None:
        self._structure = structure

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """SuperLU of the system scaled to a unit diagonal, without pivoting, so that a negative pivot shows.

        Raises:
            RuntimeError: A gradient through the solve is asked for.
        """
        if torch.is_grad_enabled() and (lin["jacobian"].requires_grad or b.requires_grad):
            raise RuntimeError("sparse factorisations have no gradient of their own; use ImplicitAdjoint")
        return self._factored(lin, damping, b)

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """J^T (J v)."""
        jacobian = lin["jacobian"]
        return self._structure.transposed_product(jacobian, self._structure.product(jacobian, v))

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether the scaled G less n times the rounding is no longer positive definite."""
        n = self._structure.n
        shift = torch.full_like(lin["jacobian"][:, 0], -n * torch.finfo(torch.float64).eps)
        return ~self._factored(lin, shift, torch.ones_like(lin["diagonal"])).isfinite().all(dim=1)

    def _factored(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        from scipy.sparse import csc_array, eye_array
        from scipy.sparse.linalg import splu

        here, n = self._structure, self._structure.n
        scale = damping_diagonal(lin["diagonal"]).rsqrt().detach()
        entries = (lin["jacobian"].detach() * scale[:, here.columns]).cpu().numpy()
        places = (here.rows.cpu().numpy(), here.columns.cpu().numpy())
        right, x = (scale * b.detach()).cpu().numpy(), np.full((len(b), n), np.nan)
        for k, shift in enumerate(damping.tolist()):
            if not np.isfinite(entries[k]).all():
                continue
            j = csc_array((entries[k], places), shape=(here.m, n))
            try:
                factors = splu(
                    (j.T @ j + shift * eye_array(n)).tocsc(),
                    permc_spec="MMD_AT_PLUS_A",
                    diag_pivot_thresh=0.0,
                    options={"SymmetricMode": True},
                )
            except RuntimeError:  # exactly singular: the row of NaN says so
                continue
            if (factors.U.diagonal() > 0).all():
                x[k] = factors.solve(right[k])
        return scale * torch.from_numpy(x).to(b)
