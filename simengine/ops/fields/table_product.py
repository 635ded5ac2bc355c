"""Combinations of table entries by the weights of blocks, and their transpose, without a copy of the entries."""

import math
from typing import Any

import torch
import warp as wp

from simengine.kernels.fields import table_product as kernel_module
from simengine.ops import bridge
from simengine.ops.fields import table_product_reference

_STRETCH = 4096  # entries per thread


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(table: torch.Tensor, entries: torch.Tensor, omega: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        fields = omega.new_empty(*omega.shape[:2], entries.shape[1])
        n, scalar = table.shape[2], bridge.scalar(table)
        lanes = math.gcd(n, kernel_module.LANES)
        packed = [t.unflatten(2, (n // lanes, lanes)) for t in (_rows(table), omega.contiguous())]
        rows, weights = (bridge.array(t, wp.types.vector(lanes, scalar)) for t in packed)
        count, stretch = entries.shape[1], 1 if table.is_cuda else _STRETCH
        inputs = [stretch, count, rows, bridge.array(entries), bridge.array(sample), weights]
        kernel = kernel_module.kernels(scalar, n).products
        bridge.launch(kernel, (*fields.shape[:2], -(-count // stretch)), inputs, [bridge.array(fields)], on=table)
        return fields

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, adj: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        table, entries, omega, sample = ctx.saved_tensors
        return (
            _Outer.apply(adj, omega, table, entries, sample) if ctx.needs_input_grad[0] else None,  # table
            None,  # entries
            _Sums.apply(table, entries, adj, sample) if ctx.needs_input_grad[2] else None,  # omega
            None,  # sample
        )


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(table: torch.Tensor, entries: torch.Tensor, fields: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        (p, num, count), n = fields.shape, table.shape[2]
        stretches = max(-(-count // _STRETCH), 1)
        parts = fields.new_empty(p, num, stretches, n)
        scalar, vec = _types(table)
        inputs = [bridge.array(_rows(table), vec), bridge.array(entries), bridge.array(sample)]
        kernel = kernel_module.kernels(scalar, n).sums
        bridge.launch(
            kernel,
            (p, num, stretches),
            [_STRETCH, count, *inputs, bridge.array(fields)],
            [bridge.array(parts, vec)],
            on=table,
        )
        return parts.sum(dim=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, adj: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        table, entries, fields, sample = ctx.saved_tensors
        return (
            _Outer.apply(fields, adj, table, entries, sample) if ctx.needs_input_grad[0] else None,  # table
            None,  # entries
            _Products.apply(table, entries, adj, sample) if ctx.needs_input_grad[2] else None,  # fields
            None,  # sample
        )


class _Outer(torch.autograd.Function):
    """Sum of fields omega^T at the places of a table; twice differentiable only in what does not reach it."""

    @staticmethod
    def forward(
        ctx: Any,
        fields: torch.Tensor,
        omega: torch.Tensor,
        table: torch.Tensor,
        entries: torch.Tensor,
        sample: torch.Tensor,
    ) -> torch.Tensor:
        out = torch.zeros_like(table, memory_format=torch.contiguous_format)
        add_outer(out, entries, fields, omega, sample)
        return out

    @staticmethod
    def backward(ctx: Any, adj: torch.Tensor) -> Any:
        raise RuntimeError("table_product is once differentiable in its table: do without second derivatives of it")


def add_outer(
    out: torch.Tensor, entries: torch.Tensor, fields: torch.Tensor, omega: torch.Tensor, sample: torch.Tensor
) -> None:
    """Add fields_pke omega_pk to out[sample_p, entries_ke], in place; without a gradient.

    Args:
        out: Of the shape of a table, contiguous.
        entries: Shape (K, e).
        fields: Shape (p, K, e).
        omega: Shape (p, K, n).
        sample: Shape (p,).
    """
    scalar, vec = _types(out)
    inputs = [bridge.array(entries), bridge.array(sample), bridge.array(fields), bridge.array(omega.contiguous(), vec)]
    kernel = kernel_module.kernels(scalar, out.shape[2]).outer
    bridge.launch(kernel, fields.shape, inputs, [bridge.array(out, vec)], on=out)


def _types(table: torch.Tensor) -> tuple[type, Any]:
    scalar = bridge.scalar(table)
    return scalar, wp.types.vector(table.shape[2], scalar)


def _rows(table: torch.Tensor) -> torch.Tensor:
    return table if table.stride(2) == 1 else table.contiguous()


def table_product(
    table: torch.Tensor, entries: torch.Tensor, omega: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Fields f[p, k, e] = table[sample_p, entries_ke] . omega_pk; on a CPU the bits repeat, also of the gradient.

    Args:
        table: Linear functionals of the basis functions, float32 or float64, shape (samples, q, n).
        entries: Of each block, int64, shape (K, e).
        omega: Weights, shape (p, K, n).
        sample: To which of the tables each problem belongs, int64, shape (p,).

    Returns:
        Shape (p, K, e); twice differentiable in omega, once in the table.

    Raises:
        ValueError: Shapes or types do not fit one another, or an index lies outside the table.
    """
    _check(table, entries, sample)
    if omega.shape != (len(sample), len(entries), table.shape[2]) or omega.dtype != table.dtype:
        raise ValueError(
            f"omega: expected shape {(len(sample), len(entries), table.shape[2])} and {table.dtype}, got "
            f"{tuple(omega.shape)}, {omega.dtype}"
        )
    if bridge.backend("warp", on=table) == "reference":
        return table_product_reference.table_product(table, entries, omega, sample)
    return _Products.apply(table, entries, omega, sample)


def table_sums(table: torch.Tensor, entries: torch.Tensor, fields: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """The transpose, sum_e fields_pke table[sample_p, entries_ke], shape (p, K, n); see `table_product`.

    Args:
        table: Shape (samples, q, n).
        entries: Shape (K, e).
        fields: Shape (p, K, e).
        sample: Shape (p,).

    Raises:
        ValueError: Shapes or types do not fit one another, or an index lies outside the table.
    """
    _check(table, entries, sample)
    if fields.shape != (len(sample), *entries.shape) or fields.dtype != table.dtype:
        raise ValueError(
            f"fields: expected shape {(len(sample), *entries.shape)} and {table.dtype}, got {tuple(fields.shape)}, "
            f"{fields.dtype}"
        )
    if bridge.backend("warp", on=table) == "reference":
        return table_product_reference.table_sums(table, entries, fields, sample)
    return _Sums.apply(table, entries, fields, sample)


def _check(table: torch.Tensor, entries: torch.Tensor, sample: torch.Tensor) -> None:
    if table.ndim != 3 or entries.ndim != 2 or sample.ndim != 1 or not table.is_floating_point():
        raise ValueError(
            f"table (samples, q, n) of floats, entries (K, e), sample (p,): got {tuple(table.shape)}, {table.dtype}, "
            f"{tuple(entries.shape)}, {tuple(sample.shape)}"
        )
    for name, value, count in (("entries", entries, table.shape[1]), ("sample", sample, len(table))):
        if value.dtype != torch.int64:
            raise ValueError(f"{name}: expected int64, got {value.dtype}")
        if value.numel():
            low, high = (int(bound) for bound in torch.aminmax(value))
            if low < 0 or high >= count:
                raise ValueError(f"{name}: expected numbers from 0 to {count - 1}, got {low} to {high}")
