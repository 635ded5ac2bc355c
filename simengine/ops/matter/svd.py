"""Bridge of the polar decomposition: rotation and signed singular values of 3x3 matrices, with exact derivatives."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.matter import svd as kernels
from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, vector


class _PolarSVD(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        R, U, V, s = torch.empty_like(F), torch.empty_like(F), torch.empty_like(F), torch.empty_like(F[:, 0])
        kernel = kernels.kernels(bridge.scalar(F)).polar_svd
        bridge.launch(kernel, len(F), [matrix(F)], [matrix(R), vector(s), matrix(U), matrix(V)], on=F)
        ctx.save_for_backward(F, R, U, V)
        return R, s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, R_bar: torch.Tensor, s_bar: torch.Tensor) -> torch.Tensor:
        F, R, U, V = ctx.saved_tensors
        F_bar = torch.empty_like(F)
        inputs = [matrix(F), matrix(R), matrix(U), matrix(V), matrix(R_bar.contiguous()), vector(s_bar.contiguous())]
        kernel = kernels.kernels(bridge.scalar(F)).polar_svd_adjoint
        bridge.launch(kernel, len(F), inputs, [matrix(F_bar)], on=F)
        return F_bar  # F


def polar_svd(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest rotation and signed singular values of each matrix, F = U diag(s) V^T, R = U V^T with rotations U, V.

    The derivative of R solves (tr S - S) w = axial(R^T dF - dF^T R), S = R^T F, and that of s is diag(U^T dF V): both
    exact at F = I and at repeated singular values (where s, being sorted, has that one-sided derivative). R has no
    derivative where s[1] + s[2] = 0; zero is returned there.

    Args:
        F: Matrices [1], shape (n, 3, 3), float32 or float64.

    Returns:
        R: Rotations, shape (n, 3, 3).
        s: Singular values, shape (n, 3), descending; the last has the sign of det F.

    Raises:
        ValueError: F is not of shape (n, 3, 3).
    """
    if F.ndim != 3 or F.shape[1:] != (3, 3):
        raise ValueError(f"F must have shape (n, 3, 3), got {tuple(F.shape)}")
    return _PolarSVD.apply(F.contiguous())
