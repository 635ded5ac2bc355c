"""Integrals of a field of cells along straight lines, with their exact transpose as the gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.light import line_integral as kernel_module
from simengine.ops import bridge
from simengine.ops.light import line_integral_reference


def line_integrals(
    field: torch.Tensor,
    lower: Sequence[float],
    upper: Sequence[float],
    origins: torch.Tensor,
    directions: torch.Tensor,
) -> torch.Tensor:
    """Integrals along whole lines: what lies behind the origin counts too.

    Args:
        field: Values of the cells, constant in each, (n0, n1, n2).
        lower: Corner of the box [m].
        upper: The opposite corner [m].
        origins: A point of each line, (q, 3) [m]; without a gradient.
        directions: Unit vectors, (q, 3); without a gradient.

    Returns:
        (q,), in the unit of the field times m, the dtype of the field; linear in the field.

    Raises:
        ValueError: A shape is wrong, or the box has no inside.
        TypeError: The field is neither float32 nor float64.
    """
    if field.ndim != 3 or not field.numel():
        raise ValueError(f"field: expected shape (n0, n1, n2) without zeros, got {tuple(field.shape)}")
    if origins.shape != directions.shape or origins.ndim != 2 or origins.shape[1] != 3:
        raise ValueError(f"rays: expected two tensors (q, 3), got {tuple(origins.shape)}, {tuple(directions.shape)}")
    low, high = (torch.tensor(list(v), dtype=torch.float64, device=field.device) for v in (lower, upper))
    if not bool((low < high).all()):
        raise ValueError(f"box: expected lower < upper, got {list(lower)} and {list(upper)}")
    size = (high - low) / torch.tensor(field.shape, dtype=torch.float64, device=field.device)
    points = ((origins.detach().double() - low) / size).contiguous()
    steps = (directions.detach().double() / size).contiguous()
    if bridge.backend("warp", on=field) == "reference":
        return line_integral_reference.line_integrals(field, points, steps)
    result: torch.Tensor = _LineIntegrals.apply(field, points, steps)
    return result


class _LineIntegrals(torch.autograd.Function):
    @staticmethod
    def forward(field: torch.Tensor, points: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        values = field.new_zeros(len(points))
        _launch(False, field.shape, points, steps, field.contiguous().reshape(-1), values)
        return values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        field, points, steps = inputs
        ctx.shape = field.shape
        ctx.save_for_backward(points, steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        points, steps = ctx.saved_tensors
        adjoint = cotangent.new_zeros(ctx.shape.numel())
        _launch(True, ctx.shape, points, steps, adjoint, cotangent.contiguous())
        return (
            adjoint.reshape(ctx.shape),  # field
            None,  # points
            None,  # steps
        )


def _launch(
    transposed: bool,
    shape: torch.Size,
    points: torch.Tensor,
    steps: torch.Tensor,
    field: torch.Tensor,
    values: torch.Tensor,
) -> None:
    kernel = kernel_module.kernel(bridge.scalar(field), transposed)
    rays = [bridge.array(points, kernel_module.wp.vec3d), bridge.array(steps, kernel_module.wp.vec3d)]
    if len(points):
        bridge.launch(kernel, len(points), [*shape, *rays, bridge.array(field), bridge.array(values)], on=field)
