"""Modified Cam-clay (Roscoe, Burland 1968) on a grid: a soil that bears a pressure from the start.

With H = log(F F^T) / 2 of the elastic F, v its trace, D its deviator, q the log of the volume that flow has taken:
Kirchhoff's stress is exp(v + q) (2 G D - p), p = reference exp(-v / swelling) [Pa]; the yield surface of Cauchy's p and
s = 2 G sqrt(3/2) |D| is s^2 / M^2 + p (p - c) = 0, c = preconsolidation exp(-q / (compression - swelling)), and flow
goes along its normal. Implicit in the step: with the compaction d, on which p and c depend as above, both conditions
are one in d,

    h(d) = p (c - p) (2 p - c + 6 G d / M^2)^2 - (s / M)^2 (2 p - c)^2 = 0,

whose root lies between where 2 p = c, and 0 or where p = c.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from simengine.materials.law import Coefficient
from simengine.materials.neural_energy import hencky_strain

ROUNDS = 60  # of bisection
NEAR = 0.1  # of c: so near the critical state the shear strain follows from the surface, elsewhere from the flow


class _Clay(nn.Module):
    """The numbers of a clay.

    Args:
        M: q over p of the critical state [1].
        compression: Slope of ln V over ln p on the normal consolidation line [1].
        swelling: Slope on the way back, below `compression` [1].
        G: Shear modulus [Pa].
        preconsolidation: p_c, the largest pressure that it has borne [Pa].
        reference: Pressure that it is under where F = I, at most `preconsolidation` [Pa].

    Raises:
        ValueError: A number is out of its range.
    """

    uses_history = True
    M: torch.Tensor
    compression: torch.Tensor
    swelling: torch.Tensor
    G: torch.Tensor
    preconsolidation: torch.Tensor
    reference: torch.Tensor

    def __init__(
        self,
        M: Coefficient,
        compression: Coefficient,
        swelling: Coefficient,
        G: Coefficient,
        preconsolidation: Coefficient,
        reference: Coefficient,
    ) -> None:
        super().__init__()
        given = {
            "M": M, "compression": compression, "swelling": swelling, "G": G, "preconsolidation": preconsolidation,
            "reference": reference,
        }  # fmt: skip
        for name, value in given.items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=torch.float64)
            if tensor.ndim > 1 or not bool((tensor.detach() > 0).all()):
                raise ValueError(f"{name} must be positive, a number or one value per particle, got {tensor.tolist()}")
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        if not bool((self.swelling < self.compression).all()):
            raise ValueError(f"swelling must lie below compression, got {self.swelling} and {self.compression}")
        if not bool((self.reference <= self.preconsolidation).all()):
            raise ValueError(f"reference must not lie above preconsolidation, got {self.reference}")

    def pressure(self, v: torch.Tensor) -> torch.Tensor:
        """Pressure [Pa] at elastic volume strains (n,)."""
        return self.reference * torch.exp(-v / self.swelling)


class CamClayStress(_Clay):
    """F, q -> tau; arguments as of `cam_clay`."""

    def forward(self, F: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress [Pa], (n, 3, 3)."""
        H, memory = hencky_strain(F.double()), q.double()
        v, D = _parted(H)
        eye = torch.eye(3, dtype=H.dtype, device=H.device)
        G = torch.broadcast_to(self.G, v.shape)[:, None, None]
        cauchy = 2 * G * D - self.pressure(v)[:, None, None] * eye
        return (torch.exp(v + memory)[:, None, None] * cauchy).to(F.dtype)


class CamClayFlow(_Clay):
    """F, q -> F, q after plastic flow; arguments as of `cam_clay`."""

    def forward(self, F: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """F [1] back on the yield surface, (n, 3, 3), and the logarithm of the volume that flow has taken, (n,)."""
        H, memory = hencky_strain(F.double()), q.double()
        v, D = _parted(H)
        square = D.square().sum((1, 2))
        size = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
        plastic = self.compression - self.swelling
        p, c = self.pressure(v), self.preconsolidation * torch.exp(-memory / plastic)
        s = 2 * self.G * math.sqrt(1.5) * size / self.M
        flows = (s.square() + p * (p - c) > 0).detach()
        if not bool(flows.any()):
            return F, q
        stiff = 6 * self.G / self.M**2

        def h(d: torch.Tensor) -> torch.Tensor:
            pd, cd = p * torch.exp(-d / self.swelling), c * torch.exp(d / plastic)
            near = 2 * pd - cd
            return pd * (cd - pd) * (near + stiff * d).square() - (s * near).square()

        with torch.no_grad():
            root = self._root(p, c, h)
            pd, cd = p * torch.exp(-root / self.swelling), c * torch.exp(root / plastic)
            fall, rise, near = pd / self.swelling, cd / plastic, 2 * pd - cd
            whole, tilt, on = near + stiff * root, -2 * fall - rise, pd * (cd - pd)
            slope = (pd * (rise + fall) - fall * (cd - pd)) * whole.square()
            slope = slope + 2 * on * whole * (tilt + stiff) - 2 * s.square() * near * tilt
        d = torch.where(flows, root - h(root) / slope, 0.0)  # Newton's last step, which carries the derivative
        pd, cd = p * torch.exp(-d / self.swelling), c * torch.exp(d / plastic)
        near, on = 2 * pd - cd, pd * (cd - pd)
        close = near.abs() < NEAR * cd
        by_flow = near / torch.where(close, 1.0, near + stiff * d)
        by_surface = torch.where(close, on, 1.0).clamp_min(0.0).sqrt() / torch.where(close, s, 1.0)
        kept = torch.where(flows, torch.where(close, by_surface, by_flow), 1.0)
        change = torch.linalg.matrix_exp((kept - 1)[:, None, None] * D) * torch.exp(d / 3)[:, None, None]
        return (change.to(F.dtype) @ F), (memory - d).to(q.dtype)

    def _root(self, p: torch.Tensor, c: torch.Tensor, h: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The compaction of the step (n,), without derivative, as if all flowed."""
        with torch.no_grad():
            both = 1 / self.swelling + 1 / (self.compression - self.swelling)
            level = torch.log(2 * p / c) / both  # h > 0 there, < 0 at the other end
            other = (torch.log(p / c) / both).clamp_min(0.0)
            for _ in range(ROUNDS):
                middle = (level + other) / 2
                above = h(middle) > 0
                level, other = torch.where(above, middle, level), torch.where(above, other, middle)
            return (level + other) / 2


def _parted(H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Trace (n,) and deviator (n, 3, 3)."""
    v = H.diagonal(dim1=1, dim2=2).sum(1)
    return v, H - (v / 3)[:, None, None] * torch.eye(3, dtype=H.dtype, device=H.device)
