"""Learned plastic flow that is physically admissible by construction: det F > 0 and no negative dissipation."""

import math

import torch
from torch import nn

from simengine.ops.matter import isotropic

_CHUNK = 1 << 15  # particles at a time where no gradient is wanted: hidden units stay in the cache
_NEVER = 1e3  # Y/a that no deformation reaches


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
        self.slopes: nn.Parameter = nn.Parameter(torch.ones(width) * torch.tensor([1.0, -1.0]).repeat(width)[:width])
        self.kinks: nn.Parameter = nn.Parameter(torch.linspace(-2.0, 2.0, width))
        self.weights: nn.Parameter = nn.Parameter(torch.zeros(width))
        self.bias: nn.Parameter = nn.Parameter(torch.tensor(float(initial)))
        self.cap: nn.Parameter = nn.Parameter(torch.tensor(float(cap)), requires_grad=math.isfinite(cap))

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
        return self._radius(v, *self.prepared(v)[:-1])

    @staticmethod
    def _radius(
        v: torch.Tensor, rises: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        return torch.relu(torch.relu(torch.addcmul(starts, v[:, None], rises)) @ weights + bias)

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
        return self.evaluate(F, *self.prepared(F))

    def prepared(self, F: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What depends on parameters alone, in the dtype and on the device of F: once for many evaluations."""
        a, slopes, cap = self.strain_scale.to(F), self.slopes.to(F), self.cap.to(F).clamp_min(0)
        return slopes / a, -slopes * self.kinks.to(F), a * self.weights.to(F), a * self.bias.to(F)[None], cap

    def evaluate(self, F: torch.Tensor, *prepared: torch.Tensor) -> torch.Tensor:
        """As `forward`, of what `prepared` returned."""
        if len(F) > _CHUNK and not torch.is_grad_enabled():
            return torch.cat([self.evaluate(part, *prepared) for part in F.split(_CHUNK)])
        *line, cap = prepared
        v = isotropic.volume(F)
        excess = torch.relu(v - cap)
        return isotropic.flow(F, v, excess, self._radius(v - excess, *line))
