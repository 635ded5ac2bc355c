"""Isotropic laws in the Hencky strain: the stress of an energy of a hidden layer over three invariants, and flow.

The function f(z) = sum_k w_k g(A_k . z + c_k) in the energy of `simengine.kernels.matter.isotropic` enters by its
derivative S = B^T g'(A z + c) with B_k = w_k A_k.
What is done per particle is done by its kernels, the hidden layer by torch's products, in blocks of particles that stay
in the cache. Hidden units are not kept for the backward pass: a rollout holds 18 numbers of the stress and 15 of the
flow, a particle and step, beside F.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.matter import isotropic as kernels
from simengine.ops import bridge
from simengine.ops.matter.isotropic_units import IsotropicUnits

BLOCK = 4096  # particles whose hidden units are computed at a time


def _blocks(n: int) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, n, BLOCK)]


class _IsotropicStress(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        units: IsotropicUnits,
        F: torch.Tensor,
        moduli: torch.Tensor,
        layer: torch.Tensor,
        offsets: torch.Tensor,
        weighted: torch.Tensor,
    ) -> torch.Tensor:
        k, n, a, modulus = kernels.kernels(bridge.scalar(F)), len(F), units.strain_scale, units.modulus
        U, tau, s, z = torch.empty_like(F), torch.empty_like(F), F.new_empty(n, 3), F.new_empty(n, 3)
        bridge.call(k.strain, n, a, F, U, s, z)
        S = torch.empty_like(z)
        for block in _blocks(n):
            torch.mm(units.slope(torch.addmm(offsets, z[block], layer.T)), weighted, out=S[block])
        bridge.call(k.stress, n, a, modulus, moduli, U, s, S, tau)
        ctx.units = units
        ctx.save_for_backward(F, U, s, z, S, moduli, layer, offsets, weighted)
        return tau

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tau_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        F, U, s, z, S, moduli, layer, offsets, weighted = ctx.saved_tensors
        units, k, n = ctx.units, kernels.kernels(bridge.scalar(F)), len(F)
        a, modulus = units.strain_scale, units.modulus
        tau_bar = tau_bar.contiguous()
        S_bar, F_bar = torch.empty_like(S), torch.empty_like(F)
        bridge.call(k.slope_adjoint, n, a, modulus, U, s, tau_bar, S_bar)
        z_bar = torch.empty_like(z)
        layer_bar, offsets_bar, weighted_bar = (torch.zeros_like(t) for t in (layer, offsets, weighted))
        for block in _blocks(n):
            t = torch.addmm(offsets, z[block], layer.T)
            t_bar = (S_bar[block] @ weighted.T).mul_(units.curvature(t))
            torch.mm(t_bar, layer, out=z_bar[block])
            layer_bar.addmm_(t_bar.T, z[block])
            offsets_bar += t_bar.sum(0)
            weighted_bar.addmm_(units.slope(t).T, S_bar[block])
        bridge.call(k.strain_adjoint, n, a, modulus, moduli, F, U, s, S, tau_bar, S_bar, z_bar, F_bar)
        direct = z.T @ S_bar  # v = a z_1 and S_bar_1 = a tr; r = a (z_2 + 1) and S_bar_2 = a alpha_bar / r
        total = S_bar.sum(0)
        return (
            None,  # units
            F_bar,  # F
            torch.stack((2 * (direct[1, 1] + total[1]), direct[0, 0], -total[0])),  # moduli
            layer_bar,  # layer
            offsets_bar,  # offsets
            weighted_bar,  # weighted
        )


def stress(
    units: IsotropicUnits,
    F: torch.Tensor,
    *,
    moduli: torch.Tensor,
    layer: torch.Tensor,
    offsets: torch.Tensor,
    weighted: torch.Tensor,
) -> torch.Tensor:
    """Kirchhoff stress [Pa], shape (n, 3, 3); once differentiable in all tensors.

    Args:
        units: What does not learn.
        F: Deformation gradients [1], shape (n, 3, 3); the other tensors have its dtype, float32 or float64.
        moduli: mu and kappa in units of M, and the slope in v at rest, shape (3,).
        layer: A, shape (width, 3).
        offsets: c, shape (width,).
        weighted: B, shape (width, 3).

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.
    """
    width = len(offsets)
    shapes = {"F": (len(F), 3, 3), "moduli": (3,), "layer": (width, 3), "offsets": (width,), "weighted": (width, 3)}
    tensors = (F, moduli, layer, offsets, weighted)
    for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != F.dtype:
            raise TypeError(f"{name} must be {F.dtype} as F is, got {tensor.dtype}; convert with .to(F.dtype)")
    if bridge.backend("warp", on=F) == "reference":
        from simengine.ops.matter import isotropic_reference

        return isotropic_reference.stress(units, F, moduli=moduli, layer=layer, offsets=offsets, weighted=weighted)
    return _IsotropicStress.apply(units, F.contiguous(), moduli.contiguous(), layer, offsets, weighted)


class _Volume(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, F: torch.Tensor) -> torch.Tensor:
        v = F.new_empty(len(F))
        bridge.call(kernels.kernels(bridge.scalar(F)).volume, len(F), F, v)
        ctx.save_for_backward(F)
        return v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_bar: torch.Tensor) -> torch.Tensor:
        (F,) = ctx.saved_tensors
        F_bar = torch.empty_like(F)
        bridge.call(kernels.kernels(bridge.scalar(F)).volume_adjoint, len(F), F, v_bar.contiguous(), F_bar)
        return F_bar  # F


def volume(F: torch.Tensor) -> torch.Tensor:
    """The volume strain log det F [1], shape (n,), of F (n, 3, 3), det F at least 1e-4; once differentiable."""
    if bridge.backend("warp", on=F) == "reference":
        from simengine.ops.matter import isotropic_reference

        return isotropic_reference.volume(F)
    return _Volume.apply(F.contiguous())


class _Flow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, F: torch.Tensor, v: torch.Tensor, excess: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        n, F_new, U, s = len(F), torch.empty_like(F), torch.empty_like(F), F.new_empty(len(F), 3)
        bridge.call(kernels.kernels(bridge.scalar(F)).flow, n, F, v, excess, radius, F_new, U, s)
        ctx.save_for_backward(F, v, excess, radius, U, s)
        return F_new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, F_new_bar: torch.Tensor) -> tuple[torch.Tensor, ...]:
        saved = ctx.saved_tensors  # read once: a checkpoint gives them once
        F, v, *_ = saved
        bars = torch.empty_like(F), torch.empty_like(v), torch.empty_like(v), torch.empty_like(v)
        kernel = kernels.kernels(bridge.scalar(F)).flow_adjoint
        bridge.call(kernel, len(F), *saved, F_new_bar.contiguous(), *bars)
        return bars  # F, v, excess, radius


def flow(F: torch.Tensor, v: torch.Tensor, excess: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """F [1] after plastic flow, shape (n, 3, 3); once differentiable.

    Args:
        F: Trial deformations [1], shape (n, 3, 3), float32 or float64 as the rest.
        v: Its log det F [1], shape (n,).
        excess: What is taken from v [1], not negative, shape (n,).
        radius: Largest |D| of the result [1], shape (n,).

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.
    """
    n = len(F)
    shapes = {"F": (n, 3, 3), "v": (n,), "excess": (n,), "radius": (n,)}
    for (name, shape), tensor in zip(shapes.items(), (F, v, excess, radius), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != F.dtype:
            raise TypeError(f"{name} must be {F.dtype} as F is, got {tensor.dtype}; convert with .to(F.dtype)")
    if bridge.backend("warp", on=F) == "reference":
        from simengine.ops.matter import isotropic_reference

        return isotropic_reference.flow(F, v, excess, radius)
    return _Flow.apply(F.contiguous(), v.contiguous(), excess.contiguous(), radius.contiguous())
