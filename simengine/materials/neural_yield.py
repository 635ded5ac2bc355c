"""Learned plastic flow that is physically admissible by construction: det F > 0 and no negative dissipation."""

import math

import torch
from torch import nn

from simengine.materials.neural import determinant
from simengine.materials.neural_energy import hencky_strain
from simengine.ops import constitutive

_J_MIN = 1e-4  # the return map keeps stretches above 0.05, so that J is above 1.25e-4


class YieldNetwork(nn.Module):
    """A return map with a learned yield surface |D| <= Y(v), and a limit of the volume strain v <= cap.

    In the Hencky strain H = v/3 I + D the map is H_new = c (v/3 I + b D) with 0 <= b, c <= 1. With an energy that is
    convex and isotropic in H and least at rest (`EnergyNetwork(convexity="full")`), tau_new : (H - H_new) >= 0: by
    convexity tau_new : H_new >= 0, and by isotropy tau_new : D >= 0; without a cap, convexity in D is enough ("shear").
    F_new = exp(H_new - H) F, so det F > 0.

    Y = a relu(y(v/a)), y a network with one hidden layer of rectifiers: a constant is von Mises, a cone Drucker-Prager,
    zero a fluid.

    Args:
        width: Hidden units.
        strain_scale: a [1], the size of elastic strains.
        initial: Y/a at the start.
        cap: Largest volume strain [1]; infinite for no limit.

    Raises:
        ValueError: An argument is not positive.
    """

    strain_scale: torch.Tensor

    def __init__(
        self, *, width: int = 16, strain_scale: float = 0.02, initial: float = 1.0, cap: float = math.inf
    ) -> None:
        super().__init__()
        if width < 1 or not strain_scale > 0:
            raise ValueError(f"width={width}, strain_scale={strain_scale}: expected positive numbers")
        if not cap >= 0:
            raise ValueError(f"cap={cap}: expected at least 0, or math.inf for none")
        self.register_buffer("strain_scale", torch.tensor(float(strain_scale)))
        self.slopes = nn.Parameter(torch.ones(width) * torch.tensor([1.0, -1.0]).repeat(width)[:width])
        self.kinks = nn.Parameter(torch.linspace(-2.0, 2.0, width))
        self.weights = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.tensor(float(initial)))
        self.cap = nn.Parameter(torch.tensor(float(cap)), requires_grad=math.isfinite(cap))

    def features(self, v: torch.Tensor) -> torch.Tensor:
        """The rectified units at volume strains v (n,) [1], shape (n, width)."""
        a = self.strain_scale.to(v)
        return torch.relu(self.slopes.to(v) * (v[:, None] / a - self.kinks.to(v)))

    def radius(self, v: torch.Tensor) -> torch.Tensor:
        """Y [1], the largest elastic |D| at volume strains v [1], both (n,)."""
        return self.strain_scale.to(v) * torch.relu(self.features(v) @ self.weights.to(v) + self.bias.to(v))

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """F [1] after plastic flow from the trial F, both (n, 3, 3)."""
        v = determinant(F).clamp_min(_J_MIN).log()
        excess = torch.relu(v - self.cap.to(v).clamp_min(0))
        limit = self.radius(v - excess)
        if bool(torch.isfinite(self.cap)):
            H = hencky_strain(F)
            D = H - (v / 3)[:, None, None] * torch.eye(3, dtype=F.dtype, device=F.device)
            norm = ((D * D).sum((1, 2)) + torch.finfo(F.dtype).tiny ** 0.5).sqrt()
            kept = 1 - excess / torch.where(excess > 0, v, 1.0)
            limit = torch.minimum(limit, kept * norm)
        F = _radial_return(F, limit)
        return F * torch.exp(-excess / 3)[:, None, None]


def _radial_return(F: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """F with the deviator of its Hencky strain brought back to a norm of at most `radius` (n,) [1]."""
    # the von Mises kernel with 2 mu = 1, where the yield stress is a strain
    half = torch.full_like(radius, 0.5, dtype=torch.float64)
    unused = [torch.zeros_like(half)] * (constitutive.plasticity.NUM_COEFFICIENTS - 2)
    coefficients = torch.stack((half, radius.double(), *unused), dim=1)
    law = torch.full((len(F),), constitutive.plasticity.VON_MISES, dtype=torch.int32, device=F.device)
    return constitutive.return_map(F, torch.zeros_like(F[:, 0, 0]), law, coefficients)[0]
