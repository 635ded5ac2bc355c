"""Learned plastic flow that is physically admissible by construction: det F > 0 and no negative dissipation."""

import math

import torch
from torch import nn

from simengine.materials.neural import determinant
from simengine.materials.neural_energy import CHUNK, hencky_strain
from simengine.ops import constitutive

_NEVER = 1e3  # Y/a that no deformation reaches
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

    @property
    def fluid(self) -> bool:
        """Whether no shear is kept at any v."""
        return not bool(self.weights.any()) and float(self.bias.detach()) <= 0

    def features(self, v: torch.Tensor) -> torch.Tensor:
        """The rectified units at volume strains v (...) [1], shape (..., width)."""
        a = self.strain_scale.to(v)
        return torch.relu(self.slopes.to(v) * (v[..., None] / a - self.kinks.to(v)))

    def radius(self, v: torch.Tensor) -> torch.Tensor:
        """Y [1], the largest elastic |D| at volume strains v [1], both (n,)."""
        return self._radius(v[None], self.coefficients()[None].to(v))[0]

    def _radius(self, v: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        weights, bias = coefficients[:, :-2, None], coefficients[:, -2, None]
        return self.strain_scale.to(v) * torch.relu((self.features(v) @ weights)[..., 0] + bias)

    def coefficients(self) -> torch.Tensor:
        """Weights, bias and cap in units of a [1], shape (width + 2,): all that a search varies."""
        return torch.cat((self.weights, self.bias[None], (self.cap / self.strain_scale)[None]))

    def set_coefficients(self, values: torch.Tensor) -> None:
        """Set what `coefficients` returns; a cap below 0 becomes 0."""
        with torch.no_grad():
            self.weights.copy_(values[:-2])
            self.bias.copy_(values[-2])
            self.cap.copy_(values[-1].clamp_min(0) * self.strain_scale)
            self.cap.requires_grad_(bool(torch.isfinite(self.cap)))

    def set_line(self, level: float, slope: float, *, cap: float = math.inf) -> None:
        """Set Y/a = max(level - slope v/a, 0), for v/a up to the last kink, and the cap in units of a."""
        unit = int(torch.where(self.slopes < 0, self.kinks, -math.inf).argmax())
        with torch.no_grad():
            self.weights.zero_()
            self.weights[unit] = slope / -float(self.slopes[unit])
            self.bias.fill_(min(level, _NEVER) - slope * float(self.kinks[unit]))
            self.cap.fill_(max(cap, 0.0) * float(self.strain_scale))
            self.cap.requires_grad_(math.isfinite(cap))

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """F [1] after plastic flow from the trial F, both (n, 3, 3)."""
        return self.flow(F[None], self.coefficients()[None])[0]

    def flow(self, F: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """F [1] after plastic flow by several laws at once.

        Args:
            F: Trial deformations [1], shape (laws, n, 3, 3).
            coefficients: As of `coefficients`, shape (laws, width + 2).

        Returns:
            Shape (laws, n, 3, 3).
        """
        if F.shape[1] > CHUNK and not torch.is_grad_enabled():
            return torch.cat([self.flow(part, coefficients) for part in F.split(CHUNK, dim=1)], dim=1)
        shape, coefficients = F.shape, coefficients.to(F)
        F = F.flatten(0, 1)
        v = determinant(F).clamp_min(_J_MIN).log()
        cap = coefficients[:, -1:].clamp_min(0) * self.strain_scale.to(F)
        excess = torch.relu(v.view(shape[:2]) - cap).flatten()
        limit = self._radius((v - excess).view(shape[:2]), coefficients).flatten()
        if F.is_cuda or bool(torch.isfinite(cap.detach()).any()):  # no question to a device within a step
            H = hencky_strain(F)
            D = H - (v / 3)[:, None, None] * torch.eye(3, dtype=F.dtype, device=F.device)
            norm = ((D * D).sum((1, 2)) + torch.finfo(F.dtype).tiny ** 0.5).sqrt()
            kept = 1 - excess / torch.where(excess > 0, v, 1.0)
            limit = torch.minimum(limit, kept * norm)
        F = _radial_return(F, limit)
        return (F * torch.exp(-excess / 3)[:, None, None]).view(shape)


def _radial_return(F: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """F with the deviator of its Hencky strain brought back to a norm of at most `radius` (n,) [1]."""
    # the von Mises kernel with 2 mu = 1, where the yield stress is a strain
    n = len(F)
    coefficients = torch.cat((radius.new_tensor([[0.5]]).expand(n, 1), radius[:, None], F.new_zeros(n, 3)), dim=1)
    law = torch.full((n,), constitutive.plasticity.VON_MISES, dtype=torch.int32, device=F.device)
    return constitutive.return_map(F, F.new_zeros(n), law, coefficients.double())[0]
