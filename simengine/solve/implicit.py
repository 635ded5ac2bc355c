"""Gradients of a root by the implicit function theorem.

If F(y, theta) = 0 then dy/dtheta = -F_y^-1 F_theta: a gradient costs one transposed solve with the factors that the
last Newton step left, whatever the number of parameters, and a tangent one plain solve. How the root was found plays no
part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable


@contextmanager
def inner_graph() -> Iterator[None]:
    """For derivatives that a solve needs by the way: their graph is made, used and dropped within.

    Tensors are kept as they are also within a checkpoint, which would run its whole stretch again to give one back, and
    in it every solve, for each of these derivatives.
    """
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
        yield


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


class Transposed(Protocol):
    """What solves with the transpose of dF/dy, directly or by iteration."""

    def solve_transposed(self, b: torch.Tensor) -> torch.Tensor:
        """F_y^-T b, of the shape of b."""


class _ImplicitRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: torch.Tensor, root: torch.Tensor, factors: Transposed) -> torch.Tensor:
        ctx.factors = factors
        return root.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return -ctx.factors.solve_transposed(grad.contiguous()), None, None  # residual


def implicit_root(root: torch.Tensor, residual: torch.Tensor, factors: Transposed) -> torch.Tensor:
    """The root as a differentiable function of whatever the residual depends on.

    Args:
        root: y with F(y, theta) = 0, without gradient, shape (b, K, n).
        residual: F(y, theta) evaluated at that y with the parameters as leaves, shape (b, K, n).
        factors: Of dF/dy at the root.

    Returns:
        y, with dy/dtheta = -F_y^-1 F_theta. Differentiable once.
    """
    if root.requires_grad:
        raise ValueError("root: expected a tensor without gradient; detach it, the gradient comes from the residual")
    return _ImplicitRoot.apply(residual, root, factors)
