"""J^T J and J^T r of sparse combinations of table rows, without storing J for more than one problem."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.ops.bridge import backend
from simengine.ops.normal_equations_reference import normal_equations as reference


def _jacobian(table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.embedding_bag(index, table, per_sample_weights=coefficient, mode="sum")


class _NormalEquations(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
    ) -> Any:
        ctx.save_for_backward(table, index, coefficient, residual)
        p, _, n = table.shape
        gram, gradient = table.new_empty(p, n, n), table.new_empty(p, n)
        for k in range(p):
            j = _jacobian(table[k], index[k], coefficient[k])
            torch.mm(j.mT, j, out=gram[k])
            torch.mv(j.mT, residual[k], out=gradient[k])
        return gram, gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gram: torch.Tensor, grad_gradient: torch.Tensor) -> Any:
        table, index, coefficient, residual = ctx.saved_tensors
        for_table = torch.zeros_like(table)
        for_coefficient, for_residual = torch.empty_like(coefficient), torch.empty_like(residual)
        for k in range(len(table)):
            j = _jacobian(table[k], index[k], coefficient[k])
            for_j = j @ (grad_gram[k] + grad_gram[k].mT) + residual[k, :, None] * grad_gradient[k]
            for_residual[k] = j @ grad_gradient[k]
            for a in range(index.shape[2]):  # an entry of the row at a time: (m, n) is the largest temporary
                for_table[k].index_add_(0, index[k, :, a], coefficient[k, :, a, None] * for_j)
                for_coefficient[k, :, a] = (table[k][index[k, :, a]] * for_j).sum(dim=1)
        # table, index (no gradient), coefficient, residual
        return for_table, None, for_coefficient, for_residual


def normal_equations(
    table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal matrix and right-hand side of problems whose Jacobian rows are J_i = sum_a coefficient_ia table[index_ia].

    One problem at a time, its rows gathered by a fused gather and sum; once differentiable.

    Args:
        table: Linear functionals of the basis functions, float32 or float64, shape (p, q, n).
        index: Entries of the table that a row combines, int64, shape (p, m, s).
        coefficient: Their weights, shape (p, m, s).
        residual: Shape (p, m).

    Returns:
        J^T J, shape (p, n, n), and J^T r, shape (p, n).

    Raises:
        ValueError: Shapes or types do not fit one another, or an index lies outside the table.
    """
    if table.ndim != 3 or index.ndim != 3 or index.dtype != torch.int64 or len(index) != len(table):
        raise ValueError(
            f"table (p, q, n), index (p, m, s) of int64: got {tuple(table.shape)}, {tuple(index.shape)}, {index.dtype}"
        )
    if coefficient.shape != index.shape or residual.shape != index.shape[:2]:
        raise ValueError(
            f"coefficient, residual: expected {tuple(index.shape)} and {tuple(index.shape[:2])}, got "
            f"{tuple(coefficient.shape)} and {tuple(residual.shape)}"
        )
    if not table.dtype == coefficient.dtype == residual.dtype or not table.is_floating_point():
        raise ValueError(
            f"table, coefficient, residual: expected one float type, got {table.dtype}, {coefficient.dtype}, "
            f"{residual.dtype}"
        )
    if index.numel() == 0:
        return table.new_zeros(len(table), table.shape[2], table.shape[2]), table.new_zeros(len(table), table.shape[2])
    low, high = torch.aminmax(index)
    if int(low) < 0 or int(high) >= table.shape[1]:
        raise ValueError(f"index: expected entries from 0 to {table.shape[1] - 1}, got {int(low)} to {int(high)}")
    if backend("warp") == "reference":
        return reference(table, index, coefficient, residual)
    return _NormalEquations.apply(table, index, coefficient, residual)
