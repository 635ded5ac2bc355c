"""Conditions that solutions satisfy, apart from any iteration that finds them, for implicit gradients."""

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[[torch.Tensor, Any], torch.Tensor]


def stationarity(residual: Function, y: torch.Tensor, args: Any) -> torch.Tensor:
    """J^T r, the gradient of 1/2 |r|^2, which vanishes at a minimiser; by one reverse sweep.

    Args:
        residual: `residual(y, args)`: y (n,) -> r (m,).
        y: Shape (n,).
        args: Whatever the residual takes.

    Returns:
        Shape (n,); differentiable again in y and args.
    """
    return torch.func.grad(lambda z: 0.5 * residual(z, args).square().sum())(y)


def karush_kuhn_tucker(
    residual: Function,
    equality: Function | None,
    inequality: Function | None,
    z: torch.Tensor,
    args: Any,
    *,
    size: int,
) -> torch.Tensor:
    """First-order conditions of min 1/2 |r|^2 subject to c = 0 and h <= 0, for the active set that z names.

    With multipliers l of c and u of h, and a = 1 where u > 0 (Nocedal & Wright, 12.34):
    J^T r + c'^T l + h'^T (a u) = 0, c = 0, and h = 0 where active, u = 0 where not. The derivative by z is symmetric.

    Args:
        residual: `residual(y, args)`: y (n,) -> r (m,).
        equality: c, shape (p,), or None.
        inequality: h, shape (q,), or None.
        z: y, l and u, shape (n + p + q,).
        args: Whatever the three functions take.
        size: n.

    Returns:
        Shape (n + p + q,).
    """
    y, rest = z[:size], z[size:]
    active = (rest > 0).detach()  # only the part of h is read

    def lagrangian(y: torch.Tensor) -> torch.Tensor:
        value, seen = 0.5 * residual(y, args).square().sum(), 0
        if equality is not None:
            c = equality(y, args)
            value, seen = value + (rest[: len(c)] * c).sum(), len(c)
        if inequality is not None:
            value = value + (torch.where(active, rest, 0.0)[seen:] * inequality(y, args)).sum()
        return value

    parts, seen = [torch.func.grad(lagrangian)(y)], 0
    if equality is not None:
        parts.append(equality(y, args))
        seen = len(parts[-1])
    if inequality is not None:
        parts.append(torch.where(active[seen:], inequality(y, args), -rest[seen:]))
    return torch.cat(parts)
