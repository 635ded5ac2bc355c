"""Stress of a hidden layer over the invariants of the Hencky strain, with its derivative written out.

tau = M [alpha D + beta I + gamma D^2], H = v/3 I + D, q = tr D^2, j = tr D^3, s = q + a^2,
z = (v/a, sqrt(s)/a - 1, j/(s a)), S = sum_k w_k f(A_k . z + c_k) A_k with the slope f of the units,
theta = a S_3/s, gamma = 3 theta, alpha = 2 mu + a S_2/sqrt(s) - 2 (j/s) theta,
beta = kappa v + a (S_1 - rest) - q theta.

Only H is kept for the backward pass: the rest is recomputed, so that a rollout holds no hidden units.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Units:
    """What does not learn.

    Attributes:
        slope: Of the hidden units.
        curvature: Its derivative.
        strain_scale: a [1].
        modulus: M [Pa].
    """

    slope: Function
    curvature: Function
    strain_scale: float
    modulus: float


class _Scalars:
    """Everything per particle that is not a matrix, from H (n, 3, 3)."""

    def __init__(self, units: Units, H: torch.Tensor, layer: torch.Tensor, offsets: torch.Tensor) -> None:
        a = units.strain_scale
        self.v = H.diagonal(dim1=1, dim2=2).sum(1)
        self.D = H.clone()
        self.D.diagonal(dim1=1, dim2=2).sub_((self.v / 3)[:, None])
        self.q = self.D.square().sum((1, 2))
        self.s = self.q + a * a
        self.r = self.s.sqrt()
        columns = [self.v / a, self.r / a - 1]
        self.third = layer.shape[1] > 2
        if self.third:
            self.D2 = self.D @ self.D
            columns.append((self.D2 * self.D).sum((1, 2)) / (self.s * a))
        self.z = torch.stack(columns, dim=1)
        self.t = torch.addmm(offsets, self.z, layer.T)


def _column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None]


class _Stress(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        units: Units,
        H: torch.Tensor,
        moduli: torch.Tensor,
        layer: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor,
        rest: torch.Tensor,
    ) -> torch.Tensor:
        a, c = units.strain_scale, _Scalars(units, H, layer, offsets)
        S = units.slope(c.t) @ (weights[:, None] * layer)
        alpha = 2 * moduli[0] + a * S[:, 1] / c.r
        beta = moduli[1] * c.v + a * (S[:, 0] - rest)
        if c.third:
            theta = a * S[:, 2] / c.s
            alpha = alpha - 2 * a * theta * c.z[:, 2]
            beta = beta - theta * c.q
            tau = _column(alpha) * c.D + _column(3 * theta) * c.D2
        else:
            tau = _column(alpha) * c.D
        tau.diagonal(dim1=1, dim2=2).add_(beta[:, None])
        ctx.units = units
        ctx.save_for_backward(H, moduli, layer, offsets, weights, rest)
        return tau.mul_(units.modulus)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tau_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        units = ctx.units
        H, moduli, layer, offsets, weights, _ = ctx.saved_tensors
        a, c = units.strain_scale, _Scalars(units, H, layer, offsets)
        slope, weighted = units.slope(c.t), weights[:, None] * layer
        S = slope @ weighted
        G = units.modulus * tau_bar
        trace = G.diagonal(dim1=1, dim2=2).sum(1)  # cotangent of beta
        alpha_bar = (G * c.D).sum((1, 2))
        alpha = 2 * moduli[0] + a * S[:, 1] / c.r
        S_bar = torch.empty_like(c.z)
        S_bar[:, 0] = a * trace
        S_bar[:, 1] = a * alpha_bar / c.r
        r_bar = -S_bar[:, 1] * S[:, 1] / c.r
        v_bar = moduli[1] * trace
        z_direct = s_bar = None
        if c.third:
            theta, z3 = a * S[:, 2] / c.s, c.z[:, 2]
            theta_bar = 3 * (G * c.D2).sum((1, 2)) - 2 * a * z3 * alpha_bar - c.q * trace
            S_bar[:, 2] = a * theta_bar / c.s
            s_bar = -theta_bar * theta / c.s
            z_direct = -2 * a * theta * alpha_bar
            alpha = alpha - 2 * a * theta * z3
        t_bar = (S_bar @ weighted.T) * units.curvature(c.t)
        z_bar = t_bar @ layer
        outer = slope.T @ S_bar  # (width, dims)
        r_bar = r_bar + z_bar[:, 1] / a
        q_bar = 0.5 * r_bar / c.r
        D_bar = _column(alpha) * G
        if c.third:
            assert z_direct is not None and s_bar is not None
            z3_bar = z_bar[:, 2] + z_direct
            q_bar = q_bar + s_bar - c.z[:, 2] * z3_bar / c.s - theta * trace
            mixed = G @ c.D
            D_bar = D_bar + _column(3 * theta) * (mixed + c.D @ G) + _column(3 * z3_bar / (c.s * a)) * c.D2
        D_bar = D_bar + _column(2 * q_bar) * c.D
        inward = v_bar + z_bar[:, 0] / a - D_bar.diagonal(dim1=1, dim2=2).sum(1) / 3
        D_bar.diagonal(dim1=1, dim2=2).add_(inward[:, None])
        return (
            None,  # units
            D_bar,  # H
            torch.stack((2 * alpha_bar.sum(), (c.v * trace).sum())),  # moduli
            t_bar.T @ c.z + weights[:, None] * outer,  # layer
            t_bar.sum(0),  # offsets
            (layer * outer).sum(1),  # weights
            -S_bar[:, 0].sum(),  # rest
        )


def isotropic_stress(
    units: Units,
    H: torch.Tensor,
    *,
    moduli: torch.Tensor,
    layer: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor,
    rest: torch.Tensor,
) -> torch.Tensor:
    """Kirchhoff stress [Pa], shape (n, 3, 3); once differentiable in all tensors.

    Args:
        units: What does not learn.
        H: Hencky strain [1], symmetric, shape (n, 3, 3); the other tensors have its dtype.
        moduli: mu and kappa in units of M, shape (2,).
        layer: A, shape (width, 2) without or (width, 3) with the third invariant.
        offsets: c, shape (width,).
        weights: w, shape (width,).
        rest: Slope in v at rest, 0-d.
    """
    return _Stress.apply(units, H, moduli, layer, offsets, weights, rest)
