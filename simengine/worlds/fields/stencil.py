"""Linear systems of cells that see their nearest neighbours, solved with gradients that cost one more solve."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.linalg import lapack
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

Side = tuple[int, int]


class Stencil:
    """The matrix of a step: derivative of each residual by its own cell's fields and by each neighbour's.

    Args:
        own: (worlds, fields, fields, cells): residual, then field.
        beside: Side -> the same for the neighbour there; zero where there is none.
        neighbours: Side -> number of the neighbour of each cell, (cells,).
        chain: Whether the cells are one row that does not close on itself: then the matrix is tridiagonal.

    Raises:
        ArithmeticError: The matrix is singular.
    """

    def __init__(
        self,
        own: torch.Tensor,
        beside: Mapping[Side, torch.Tensor],
        neighbours: Mapping[Side, torch.Tensor],
        *,
        chain: bool,
    ) -> None:
        self.shape: tuple[int, int, int] = (own.shape[0], own.shape[1], own.shape[3])
        self._bands: tuple[Any, Any, Any] | None = None
        self._factors: Any = None
        if not bool(own.isfinite().all()):
            raise ArithmeticError("the derivative of the equation is not finite")
        if chain and self.shape[1] == 1:
            diagonal = own.reshape(-1).numpy()
            lower, upper = beside[0, 0].reshape(-1).numpy()[1:], beside[0, 1].reshape(-1).numpy()[:-1]
            self._bands = (lower, diagonal, upper)  # the worlds in one row: what lies between two of them is zero
        else:
            self._factors = splu(_matrix(own, beside, neighbours))

    def solve(self, right: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """The solution for right sides (..., worlds, fields, cells)."""
        flat = np.ascontiguousarray(right.detach().reshape(-1, math.prod(self.shape)).numpy().T)
        if self._bands is not None:
            lower, diagonal, upper = self._bands if not transposed else self._bands[::-1]
            *_, found, info = lapack.dgtsv(lower, diagonal, upper, flat)
            if info:
                raise ArithmeticError("the equation does not tell its field")
        else:
            found = self._factors.solve(flat, trans="T" if transposed else "N")
        return torch.from_numpy(np.ascontiguousarray(np.asarray(found).T)).reshape(right.shape)

    def applied(self, right: torch.Tensor) -> torch.Tensor:
        """`solve`, with the gradient to the right side."""
        found: torch.Tensor = _StencilSolve.apply(right, self, False)
        return found


class _StencilSolve(torch.autograd.Function):
    """A x = b for a matrix that carries no gradient; many gradients go back through it at once."""

    @staticmethod
    def forward(right: torch.Tensor, stencil: Stencil, transposed: bool = False) -> torch.Tensor:
        return stencil.solve(right, transposed=transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        _, ctx.stencil, *transposed = inputs
        ctx.transposed = bool(transposed and transposed[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _StencilSolve.apply(gradients[0], ctx.stencil, not ctx.transposed), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], right: torch.Tensor, stencil: Stencil, transposed: bool = False
    ) -> tuple[torch.Tensor, int]:
        assert in_dims[0] is not None
        return _StencilSolve.apply(right.movedim(in_dims[0], 0), stencil, transposed), 0


def _matrix(
    own: torch.Tensor, beside: Mapping[Side, torch.Tensor], neighbours: Mapping[Side, torch.Tensor]
) -> csc_array:
    worlds, fields, _, cells = own.shape
    here = np.arange(cells)
    world, residual, field, _ = np.indices(own.shape, sparse=True)
    parts = [(own, here), *((block, neighbours[side].numpy()) for side, block in beside.items())]
    rows = np.broadcast_to((world * fields + residual) * cells + here, own.shape).reshape(-1)
    columns = [np.broadcast_to((world * fields + field) * cells + at, own.shape).reshape(-1) for _, at in parts]
    values = [block.numpy().reshape(-1) for block, _ in parts]
    size = worlds * fields * cells
    matrix = csc_array((np.concatenate(values), (np.tile(rows, len(parts)), np.concatenate(columns))), (size, size))
    matrix.sum_duplicates()
    return matrix
