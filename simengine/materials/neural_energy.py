"""Learned elasticity that is physically admissible by construction: the stress is the derivative of an energy.

The energy is a function of three isotropic invariants of the Hencky strain H = log(F F^T) / 2: the volume strain
v = tr H, and q = tr D^2 and j = tr D^3 of its deviator D. For an isotropic solid the Kirchhoff stress is dpsi/dH, so
that symmetry of tau, equivariance, isotropy and no work in closed cycles hold whatever the weights are.
"""

import math
from typing import Literal

import torch
from torch import nn

from simengine.ops.matter import constitutive, isotropic
from simengine.ops.matter.constitutive import elasticity
from simengine.ops.matter.isotropic_units import IsotropicUnits

Convexity = Literal["none", "shear", "full"]
LEAST_MODULUS = 1e-2  # of mu and kappa in units of M: keeps the growth of the energy


def hencky_strain(F: torch.Tensor) -> torch.Tensor:
    """H = log(F F^T) / 2 [1] of F, both (n, 3, 3), with a derivative that is exact at repeated singular values."""
    n = len(F)  # the Hencky law with 2 mu = 1 and lam = 0
    law = torch.full((n,), elasticity.HENCKY, dtype=torch.int32, device=F.device)
    coefficients = torch.zeros(n, elasticity.NUM_COEFFICIENTS, dtype=torch.float64, device=F.device)
    coefficients[:, 0] = 0.5
    return constitutive.stress(F, F.new_zeros(n), law, coefficients)


class EnergyNetwork(nn.Module):
    """Stress tau = dpsi/dH of an energy with one hidden layer over a quadratic.

    psi = M [mu q + kappa/2 v^2 + a^2 sum_k w_k (softplus(A_k . z + c_k) - tangent in v at rest)],
    z = (v, sqrt(q + a^2) - a, j / (q + a^2)) / a,

    zero and stress-free at rest. The network grows at most linearly in H, so the quadratic lets psi grow without bound
    both for J -> 0 and for J -> inf. The gradient of the layer is written out: training needs no second derivatives.

    Args:
        width: Hidden units.
        modulus: M [Pa], the physical scale of the stress: with it weights and learning rates are of order one.
        strain_scale: a [1], strains at which nonlinearity is resolved.
        convexity: What makes the dissipation of `YieldNetwork` non-negative; an elastic solid needs "none".
            "full": psi is convex in H (w_k >= 0, A_k non-decreasing in the second invariant, no third one).
            "shear": convex in D at each v; half of the units see only v and have weights of either sign.
        seed: Of the initial directions and offsets.

    Raises:
        ValueError: An argument is not positive.
    """

    modulus: torch.Tensor
    strain_scale: torch.Tensor
    free: torch.Tensor

    def __init__(
        self,
        *,
        width: int = 48,
        modulus: float = 1e5,
        strain_scale: float = 0.2,
        convexity: Convexity = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("modulus", modulus), ("strain_scale", strain_scale)):
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"{name}={value}: expected a positive number")
        if convexity not in ("none", "shear", "full"):
            raise ValueError(f"convexity={convexity!r}: expected 'none', 'shear' or 'full'")
        self.convexity = convexity
        self._read: tuple[tuple[int, int, int], tuple[float, float]] | None = None
        self.register_buffer("modulus", torch.tensor(float(modulus)))
        self.register_buffer("strain_scale", torch.tensor(float(strain_scale)))
        self.log_moduli: nn.Parameter = nn.Parameter(torch.tensor([0.4, 0.3]).log())  # mu and kappa in units of M
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(width, 3 if convexity == "none" else 2, generator=generator)
        self.directions: nn.Parameter = nn.Parameter(directions)
        self.offsets: nn.Parameter = nn.Parameter(torch.randn(width, generator=generator))
        self.raw_weights: nn.Parameter = nn.Parameter(torch.full((width,), 1e-2))
        free = {"none": width, "shear": width // 2, "full": 0}[convexity]
        self.register_buffer("free", torch.arange(width) < free, persistent=False)  # units with weights of either sign

    @staticmethod
    def unit(t: torch.Tensor) -> torch.Tensor:
        """A hidden unit: convex and increasing, at most linear."""
        return nn.functional.softplus(t, threshold=40)  # beyond torch's 20 the slope would jump by 2e-9

    @staticmethod
    def unit_slope(t: torch.Tensor) -> torch.Tensor:
        """Its derivative, between 0 and 1."""
        return torch.sigmoid(t)

    @staticmethod
    def unit_curvature(t: torch.Tensor) -> torch.Tensor:
        """The derivative of that."""
        slope = torch.sigmoid(t)
        return slope * (1 - slope)

    @property
    def weights(self) -> torch.Tensor:
        """Weights w [1], shape (width,)."""
        return torch.where(self.free, self.raw_weights, self.raw_weights.square())

    def _layer(self) -> torch.Tensor:
        if self.convexity == "none":
            return self.directions
        shear = torch.where(self.free, torch.zeros_like(self.offsets), self.directions[:, 1].abs())
        return torch.stack((self.directions[:, 0], shear), dim=1)

    def _invariants(self, F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Deviator D (n, 3, 3), v, q + a^2 and z (n, 2 or 3)."""
        H = hencky_strain(F)
        v = H.diagonal(dim1=1, dim2=2).sum(1)
        D = H - (v / 3)[:, None, None] * torch.eye(3, dtype=F.dtype, device=F.device)
        a = self.strain_scale.to(F)
        smooth = (D * D).sum((1, 2)) + a.square()
        columns = [v / a, smooth.sqrt() / a - 1]
        if self.convexity == "none":
            columns.append((D @ D * D).sum((1, 2)) / (smooth * a))
        return D, v, smooth, torch.stack(columns, dim=1)

    def energy(self, F: torch.Tensor) -> torch.Tensor:
        """Energy psi [J per m^3 at rest], shape (n,), of F [1], shape (n, 3, 3)."""
        D, v, _, z = self._invariants(F)
        mu, kappa = self.log_moduli.to(F).exp()
        layer, offsets, weights = self._layer().to(F), self.offsets.to(F), self.weights.to(F)
        network = (self.unit(torch.addmm(offsets, z, layer.T)) - self.unit(offsets)) @ weights
        tangent = (weights * layer[:, 0] * self.unit_slope(offsets)).sum() * z[:, 0]
        quadratic = mu * (D * D).sum((1, 2)) + 0.5 * kappa * v.square()
        return self.modulus.to(F) * (quadratic + self.strain_scale.to(F).square() * (network - tangent))

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress [Pa] from F [1], both (n, 3, 3)."""
        return self.evaluate(F, *self.prepared(F))

    def prepared(self, F: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What depends on parameters alone, in the dtype and on the device of F: once for many evaluations."""
        layer, offsets, weights = self._layer().to(F), self.offsets.to(F), self.weights.to(F)
        rest = (self.unit_slope(offsets) * weights) @ layer[:, 0]
        if layer.shape[1] == 2:
            layer = nn.functional.pad(layer, (0, 1))
        return torch.cat((self.log_moduli.to(F).exp(), rest[None])), layer, offsets, weights[:, None] * layer

    def evaluate(self, F: torch.Tensor, *prepared: torch.Tensor) -> torch.Tensor:
        """As `forward`, of what `prepared` returned."""
        moduli, layer, offsets, weighted = prepared
        units = IsotropicUnits(self.unit_slope, self.unit_curvature, *self._scales())
        return isotropic.stress(units, F, moduli=moduli, layer=layer, offsets=offsets, weighted=weighted)

    def _scales(self) -> tuple[float, float]:
        """The numbers a and M, read once for each version of them (on CUDA reading waits for the device)."""
        key = (self.strain_scale._version, self.modulus._version, self.modulus.data_ptr())
        if self._read is None or self._read[0] != key:
            self._read = (key, (float(self.strain_scale), float(self.modulus)))
        return self._read[1]

    def _assemble(
        self,
        D: torch.Tensor,
        v: torch.Tensor,
        smooth: torch.Tensor,
        z: torch.Tensor,
        mu: torch.Tensor | float,
        kappa: torch.Tensor | float,
        slope_v: torch.Tensor | float,
        others: torch.Tensor,
    ) -> torch.Tensor:
        """Stress from moduli and the derivatives of the network in z."""
        a = self.strain_scale.to(D)
        eye = torch.eye(3, dtype=D.dtype, device=D.device)
        along_D = 2 * mu + a * others[:, 0] / smooth.sqrt()
        spherical = kappa * v + a * slope_v
        if self.convexity != "none":
            tau = along_D[:, None, None] * D + spherical[:, None, None] * eye
        else:
            square = D @ D
            third = a * others[:, 1] / smooth  # times 3 dev(D^2) - 2 j/(q + a^2) D
            along_D = along_D - 2 * third * z[:, 2] * a
            spherical = spherical - third * square.diagonal(dim1=1, dim2=2).sum(1)
            tau = along_D[:, None, None] * D + spherical[:, None, None] * eye + (3 * third)[:, None, None] * square
        return self.modulus.to(D) * tau

    def stress_columns(self, F: torch.Tensor) -> torch.Tensor:
        """Derivative of tau [Pa] in (mu, kappa, w), in which it is linear; shape (2 + width, n, 3, 3)."""
        with torch.no_grad():
            D, v, smooth, z = self._invariants(F)
            layer, offsets = self._layer().to(F), self.offsets.to(F)
            rise = self.unit_slope(torch.addmm(offsets, z, layer.T))
            slope_v = (rise - self.unit_slope(offsets)) * layer[:, 0]
            nothing = torch.zeros(len(F), layer.shape[1] - 1, dtype=F.dtype, device=F.device)
            columns = [
                self._assemble(D, v, smooth, z, 1.0, 0.0, 0.0, nothing),
                self._assemble(D, v, smooth, z, 0.0, 1.0, 0.0, nothing),
            ]
            for k in range(len(layer)):
                others = rise[:, k : k + 1] * layer[k, 1:]
                columns.append(self._assemble(D, v, smooth, z, 0.0, 0.0, slope_v[:, k], others))
            return torch.stack(columns)

    def lower_bounds(self) -> torch.Tensor:
        """Of (mu, kappa, w) in a linear fit, shape (2 + width,), float64: growth of the energy, and convexity."""
        bounds = torch.where(self.free, -math.inf, 0.0).double()
        return torch.cat((torch.full((2,), LEAST_MODULUS, dtype=torch.float64), bounds.cpu()))

    def drop_shear(self) -> None:
        """Leave an energy of the volume only: a fluid never shows the rest, which would count in its speed of sound."""
        with torch.no_grad():
            self.directions[:, 1:] = 0.0
            self.log_moduli[0] = math.log(LEAST_MODULUS)

    def linear(self) -> torch.Tensor:
        """(mu, kappa, w) [1], shape (2 + width,), float64."""
        with torch.no_grad():
            return torch.cat((self.log_moduli.exp(), self.weights)).double().cpu()

    def set_linear(self, values: torch.Tensor) -> None:
        """Set (mu, kappa, w) [1], shape (2 + width,), as found by a linear fit.

        Raises:
            ValueError: A modulus is not positive, or a weight of a convex unit is negative.
        """
        weights = values[2:].to(self.raw_weights)
        if not bool((values[:2] > 0).all()) or not bool((weights[~self.free] >= 0).all()):
            raise ValueError(f"moduli must be positive and weights of convex units not negative, got {values.tolist()}")
        with torch.no_grad():
            self.log_moduli.copy_(values[:2].log())
            self.raw_weights.copy_(torch.where(self.free, weights, weights.clamp_min(0).sqrt()))

    def longitudinal_modulus(self) -> float:
        """Stiffness at rest in uniaxial strain [Pa]; the speed of sound is sqrt(modulus/density)."""
        stretch = 1e-3
        F = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
        F[0, 0, 0], F[1, 0, 0] = math.exp(stretch), math.exp(-stretch)
        with torch.no_grad():
            tau = self.forward(F.to(self.modulus.device))[:, 0, 0]
        return float(tau[0] - tau[1]) / (2 * stretch)
