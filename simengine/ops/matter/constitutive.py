"""Bridges of the shipped constitutive laws: Kirchhoff stress tau(F, q) and return map F, q -> F, q, per particle."""

from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels.matter import elasticity as elasticity  # what takes their numbers takes them from here
from simengine.kernels.matter import plasticity as plasticity
from simengine.ops import bridge


def matrix(tensor: torch.Tensor) -> wp.array:
    """A Warp view of (..., 3, 3) as matrices."""
    return bridge.array(tensor, wp.types.matrix((3, 3), bridge.scalar(tensor)))


def vector(tensor: torch.Tensor) -> wp.array:
    """A Warp view of (..., 3) as vectors."""
    return bridge.array(tensor, wp.types.vector(3, bridge.scalar(tensor)))


def still(like: torch.Tensor) -> torch.Tensor:
    """The clock of a history of one slot."""
    return torch.zeros(3, dtype=torch.int32, device=like.device)


def _check(F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor, columns: int) -> None:
    n = F.shape[0]
    for name, tensor, shape in (
        ("F", F, (n, 3, 3)),
        ("q", q, (n,)),
        ("law", law, (n,)),
        ("coefficients", coefficients, (n, columns)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if law.dtype != torch.int32 or coefficients.dtype != torch.float64 or q.dtype != F.dtype:
        raise TypeError(
            f"law must be int32, coefficients float64, q like F; got {law.dtype}, {coefficients.dtype}, {q.dtype}"
        )


class _LawStress(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor
    ) -> torch.Tensor:
        tau = torch.zeros_like(F)
        kernel = elasticity.kernels(bridge.scalar(F)).stress
        inputs = [bridge.array(still(F)), bridge.array(law), bridge.array(coefficients), matrix(F[None])]
        bridge.launch(kernel, len(F), [*inputs, bridge.array(q[None])], [matrix(tau)], on=F)
        ctx.save_for_backward(F, q, law, coefficients)
        return tau

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tau_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        F, q, law, coefficients = ctx.saved_tensors
        F_bar, q_bar, coefficients_bar = torch.zeros_like(F), torch.zeros_like(q), torch.zeros_like(coefficients)
        kernel = elasticity.kernels(bridge.scalar(F)).stress_adjoint
        inputs = [bridge.array(still(F)), bridge.array(law), bridge.array(coefficients), matrix(F[None])]
        bridge.launch(
            kernel,
            len(F),
            [*inputs, bridge.array(q[None]), matrix(tau_bar.contiguous())],
            [matrix(F_bar), bridge.array(q_bar), bridge.array(coefficients_bar)],
            on=F,
        )
        return (
            F_bar,  # F
            q_bar,  # q
            None,  # law
            coefficients_bar,  # coefficients
        )


def stress(F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Kirchhoff stress of the shipped laws; the formulas are in `simengine.kernels.matter.elasticity`.

    Args:
        F: Deformation gradient [1], shape (n, 3, 3), float32 or float64.
        q: History variable, shape (n,).
        law: Number of each particle's law, shape (n,), int32.
        coefficients: Coefficients of the laws, shape (n, 3), float64.

    Returns:
        tau [Pa], shape (n, 3, 3); zero for a law of -1.

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.
    """
    _check(F, q, law, coefficients, elasticity.NUM_COEFFICIENTS)
    return _LawStress.apply(F.contiguous(), q.contiguous(), law.contiguous(), coefficients.contiguous())


class _ReturnMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        F_new, q_new = F.clone(), q.clone()
        kernel = plasticity.kernels(bridge.scalar(F)).return_map
        inputs = [bridge.array(still(F)), bridge.array(law), bridge.array(coefficients), matrix(F)]
        outputs = [matrix(F_new[None]), bridge.array(q_new[None])]
        bridge.launch(kernel, len(F), [*inputs, bridge.array(q[None])], outputs, on=F)
        ctx.save_for_backward(F, q, law, coefficients)
        return F_new, q_new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, F_new_bar: torch.Tensor, q_new_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        F, q, law, coefficients = ctx.saved_tensors
        F_bar, q_bar = F_new_bar.contiguous().clone(), q_new_bar.contiguous().clone()
        coefficients_bar = torch.zeros_like(coefficients)
        kernel = plasticity.kernels(bridge.scalar(F)).return_map_adjoint
        inputs = [bridge.array(still(F)), bridge.array(law), bridge.array(coefficients), matrix(F)]
        bridge.launch(
            kernel,
            len(F),
            [*inputs, bridge.array(q[None]), matrix(F_bar), bridge.array(q_bar)],
            [bridge.array(coefficients_bar)],
            on=F,
        )
        return (
            F_bar,  # F
            q_bar,  # q
            None,  # law
            coefficients_bar,  # coefficients
        )


def return_map(
    F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """F and history after plastic flow, of the shipped laws; the formulas are in `simengine.kernels.matter.plasticity`.

    Args:
        F: Trial deformation gradient [1], shape (n, 3, 3), float32 or float64.
        q: History variable, shape (n,).
        law: Number of each particle's law, shape (n,), int32.
        coefficients: Coefficients of the laws, shape (n, 5), float64.

    Returns:
        F [1], shape (n, 3, 3), and q, shape (n,); unchanged for a law of -1.

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.
    """
    _check(F, q, law, coefficients, plasticity.NUM_COEFFICIENTS)
    return _ReturnMap.apply(F.contiguous(), q.contiguous(), law.contiguous(), coefficients.contiguous())
