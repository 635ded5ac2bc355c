"""Isotropic constitutive laws as differentiable operations: stress and return map of many particles at once."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels import constitutive as _constitutive
from simengine.ops import constitutive_reference as _reference
from simengine.ops.bridge import array, backend, launch, scalar

ELASTIC_LAWS = {
    "corotated": _constitutive.COROTATED,
    "neo_hookean": _constitutive.NEO_HOOKEAN,
    "hencky": _constitutive.HENCKY,
    "linear_fluid": _constitutive.LINEAR_FLUID,
    "tait_fluid": _constitutive.TAIT_FLUID,
}
RETURN_MAPS = {
    "elastic": _constitutive.ELASTIC,
    "von_mises": _constitutive.VON_MISES,
    "drucker_prager": _constitutive.DRUCKER_PRAGER,
    "fluid": _constitutive.FLUID,
    "snow": _constitutive.SNOW,
}


def _check(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> None:
    n = len(F)
    if F.shape != (n, 3, 3):
        raise ValueError(f"F: expected shape (n, 3, 3), got {tuple(F.shape)}")
    if kind.shape != (n,) or kind.dtype != torch.int32:
        raise ValueError(f"kind: expected {n} int32 codes of shape ({n},), got {kind.dtype} {tuple(kind.shape)}")
    if coefficients.shape != (n, 2) or coefficients.dtype != F.dtype:
        raise ValueError(
            f"coefficients: expected {F.dtype} of shape ({n}, 2), got {coefficients.dtype} {tuple(coefficients.shape)}"
        )


class _Stress(torch.autograd.Function):
    @staticmethod
    def forward(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        k = _constitutive.kernels(scalar(F))
        tau = torch.empty_like(F)
        launch(k.stress, len(F), [array(F, k.mat33), array(kind), array(coefficients, k.vec2)], [array(tau, k.mat33)], on=F)
        return tau

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adj_tau: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        F, kind, coefficients = ctx.saved_tensors
        k = _constitutive.kernels(scalar(F))
        adj_F, adj_coefficients = torch.zeros_like(F), torch.zeros_like(coefficients)
        inputs = [array(F, k.mat33), array(kind), array(coefficients, k.vec2), array(adj_tau.contiguous(), k.mat33)]
        launch(k.stress_adjoint, len(F), inputs, [array(adj_F, k.mat33), array(adj_coefficients, k.vec2)], on=F)
        return (
            adj_F,
            None,  # kind: codes have no gradient
            adj_coefficients,
        )


class _ReturnMap(torch.autograd.Function):
    @staticmethod
    def forward(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        k = _constitutive.kernels(scalar(F))
        new = torch.empty_like(F)
        inputs = [array(F, k.mat33), array(kind), array(coefficients, k.vec2)]
        launch(k.return_map, len(F), inputs, [array(new, k.mat33)], on=F)
        return new

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adj_new: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        F, kind, coefficients = ctx.saved_tensors
        k = _constitutive.kernels(scalar(F))
        adj_F, adj_coefficients = torch.empty_like(F), torch.zeros_like(coefficients)
        inputs = [array(F, k.mat33), array(kind), array(coefficients, k.vec2), array(adj_new.contiguous(), k.mat33)]
        launch(k.return_map_adjoint, len(F), inputs, [array(adj_F, k.mat33), array(adj_coefficients, k.vec2)], on=F)
        return (
            adj_F,
            None,  # kind: codes have no gradient
            adj_coefficients,
        )


def stress(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Kirchhoff stress of each particle.

    Args:
        F: Deformation gradients [1], shape (n, 3, 3), float32 or float64.
        kind: Codes of `ELASTIC_LAWS`, shape (n,), int32.
        coefficients: Of each particle's law, shape (n, 2): mu, lam [Pa] (corotated: 2 mu (F - R) F^T + lam J (J - 1) I;
            neo_hookean: mu (b - I) + lam log(J) I; hencky: 2 mu e + lam tr(e) I with e = log(b)/2); lam [Pa]
            (linear_fluid: lam J (J - 1) I); bulk modulus [Pa] and exponent (tait_fluid: bulk/gamma (J - J^(1-gamma)) I).

    Returns:
        tau = J sigma [Pa], shape (n, 3, 3). The derivative is exact at F = I and at repeated stretches.

    Raises:
        ValueError: A shape or type does not fit.
    """
    _check(F, kind, coefficients)
    if backend("warp") == "reference":
        return _reference.stress(F, kind, coefficients)
    return _Stress.apply(F.contiguous(), kind.contiguous(), coefficients.contiguous())


def return_map(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Elastic deformation gradient after plastic flow.

    Args:
        F: Trial deformation gradients [1], shape (n, 3, 3), float32 or float64.
        kind: Codes of `RETURN_MAPS`, shape (n,), int32.
        coefficients: Of each particle's map, shape (n, 2): von_mises the largest deviatoric log strain,
            sigma_y/(2 mu) [1]; drucker_prager (Klar et al. 2016) the slope (3 lam + 2 mu)/(2 mu) alpha [1] and the
            cohesion as a log volume strain [1]; snow (Stomakhin et al. 2013) the least and largest stretch [1].

    Returns:
        F [1], shape (n, 3, 3).

    Raises:
        ValueError: A shape or type does not fit.
    """
    _check(F, kind, coefficients)
    if backend("warp") == "reference":
        return _reference.return_map(F, kind, coefficients)
    return _ReturnMap.apply(F.contiguous(), kind.contiguous(), coefficients.contiguous())
