"""J^T J and J^T r of sparse combinations of table rows, without storing J."""

from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels.fields import normal_equations as kernel_module
from simengine.ops import bridge
from simengine.ops.fields.normal_equations_reference import normal_equations as reference

# More columns than this, and kernels that unroll over them take long to compile.
MAX_COLUMNS = 64
_STRETCH = 64  # rows per thread of CUDA
_CHUNK = 2**18  # numbers of J that exist at a time on a CPU


class _NormalEquations(torch.autograd.Function):
    @staticmethod
    def forward(
        table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (_accumulated if table.is_cuda else _multiplied)(table, index, coefficient, residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adj_gram: torch.Tensor, adj_gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        table, index, coefficient, residual = ctx.saved_tensors
        (p, m), n = index.shape[:2], table.shape[2]
        adj_table = torch.zeros_like(table, memory_format=torch.contiguous_format)
        adj_coefficient, adj_residual = torch.empty_like(coefficient), torch.empty_like(residual)
        scalar = bridge.scalar(table)
        vec = wp.types.vector(n, scalar)
        both_sides, adj_gradient = (adj_gram + adj_gram.mT).contiguous(), adj_gradient.contiguous()
        bridge.launch(
            kernel_module.kernels(scalar, n).accumulate_adjoint,
            (p, m),
            [
                *_arrays(table, index, coefficient, residual),
                bridge.array(both_sides, vec),
                bridge.array(adj_gradient, vec),
            ],
            [
                bridge.array(adj_table, vec),
                bridge.array(adj_coefficient),
                bridge.array(adj_residual),
            ],
            on=table,
        )
        return (
            adj_table,  # (p, q, n); on CUDA summed in no fixed order
            None,  # index
            adj_coefficient,  # (p, m, s)
            adj_residual,  # (p, m)
        )


def _arrays(table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor) -> list[Any]:
    """Size of a row, whether each problem has a table, and views; only an entry of the table has to be in one piece."""
    vec = wp.types.vector(table.shape[2], bridge.scalar(table))
    table = table if table.stride(2) == 1 else table.contiguous()
    return [
        index.shape[2],
        int(len(table) > 1),
        bridge.array(table, vec),
        *(bridge.array(value) for value in (index, coefficient, residual)),
    ]


def _accumulated(
    table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """By a kernel that holds one row of J at a time."""
    (p, m), n = index.shape[:2], table.shape[2]
    stretches, scalar = -(-m // _STRETCH), bridge.scalar(table)
    vec = wp.types.vector(n, scalar)
    grams, gradients = table.new_zeros(p, stretches, n, n), table.new_empty(p, stretches, n)
    bridge.launch(
        kernel_module.kernels(scalar, n).accumulate,
        (p, stretches, n),
        [_STRETCH, m, *_arrays(table, index, coefficient, residual)],
        [bridge.array(grams, vec), bridge.array(gradients, vec)],
        on=table,
    )
    return grams.sum(dim=1), gradients.sum(dim=1)


def _multiplied(
    table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor, residual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """By matrix products of a chunk of J at a time."""
    (p, m), n, scalar = index.shape[:2], table.shape[2], bridge.scalar(table)
    kernel, vec = kernel_module.kernels(scalar, n).rows, wp.types.vector(n, scalar)
    size, separate, *arrays, _ = _arrays(table, index, coefficient, residual)
    gram, gradient = table.new_zeros(p, n, n), table.new_zeros(p, n)
    most = min(_CHUNK // n, m)
    chunk = table.new_empty(most, n)
    for k in range(p):
        for first in range(0, m, most):
            r = residual[k, first : first + most]
            j = chunk[: len(r)]
            bridge.launch(kernel, len(r), [k, k * separate, first, size, *arrays], [bridge.array(j, vec)], on=table)
            gram[k].addmm_(j.mT, j)
            gradient[k].addmv_(j.mT, r)
    return gram, gradient


def _jacobian(table: torch.Tensor, index: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.embedding_bag(index, table, per_sample_weights=coefficient, mode="sum")


class _Gathered(torch.autograd.Function):
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
    table: torch.Tensor,
    index: torch.Tensor,
    coefficient: torch.Tensor,
    residual: torch.Tensor,
    *,
    trusted: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal matrix and right-hand side of problems whose Jacobian rows are J_i = sum_a coefficient_ia table[index_ia].

    Up to 64 columns kernels form the rows, one at a time on CUDA, a few thousand at a time on a CPU; beyond, the rows
    of one problem at a time are gathered. Once differentiable. On a CPU the bits repeat.

    Args:
        table: Linear functionals of the basis functions, float32 or float64, shape (p, q, n), or (1, q, n) for all.
        index: Entries of the table that a row combines, int64, shape (p, m, s).
        coefficient: Their weights, shape (p, m, s).
        residual: Shape (p, m).
        trusted: The index is known to lie within the table, and is not looked through again.

    Returns:
        J^T J, shape (p, n, n), and J^T r, shape (p, n).

    Raises:
        ValueError: Shapes or types do not fit one another, or an index lies outside the table.
    """
    if table.ndim != 3 or index.ndim != 3 or index.dtype != torch.int64 or len(table) not in (1, len(index)):
        raise ValueError(
            "table (p or 1, q, n), index (p, m, s) of int64: "
            f"got {tuple(table.shape)}, {tuple(index.shape)}, {index.dtype}"
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
        return table.new_zeros(len(index), table.shape[2], table.shape[2]), table.new_zeros(len(index), table.shape[2])
    if not trusted:
        low, high = torch.aminmax(index)
        if int(low) < 0 or int(high) >= table.shape[1]:
            raise ValueError(f"index: expected entries from 0 to {table.shape[1] - 1}, got {int(low)} to {int(high)}")
    if bridge.backend("warp", on=table) == "reference":
        return reference(table, index, coefficient, residual)
    if table.shape[2] <= MAX_COLUMNS:
        return _NormalEquations.apply(table, index, coefficient, residual)
    return _Gathered.apply(table.expand(len(index), -1, -1), index, coefficient, residual)
