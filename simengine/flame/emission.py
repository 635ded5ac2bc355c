"""Light of a flame: what a piece of its gas sends out, from temperature and heat release, differentiable in both.

Two parts, as radiance per length of the line of sight, in three colours:

    e_c = kappa B(lambda_c, T) + shares_c yield q/(4 pi)

Grey gas or soot of absorption coefficient kappa radiates as Planck's law B says; excited radicals give off a share of
the heat release q where it is released, which is why a lean premixed flame is a thin blue sheet. How large yield and
kappa are depends on fuel and burner; they are inputs, not claims.
"""

import dataclasses

import torch

PLANCK = 6.62607015e-34  # J s
LIGHT = 299792458.0  # m/s
BOLTZMANN = 1.380649e-23  # J/K


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emission:
    """How a flame shines.

    Attributes:
        kappa: Absorption coefficient of the gas [1/m], grey.
        efficiency: Share of the heat release given off as light of reaction.
        shares: How that light divides over red, green and blue.
        wavelengths: Of the three colours [m].
        bandwidth: Width of each colour [m].
    """

    kappa: float = 0.1
    efficiency: float = 1e-6
    shares: tuple[float, float, float] = (0.08, 0.27, 0.65)
    wavelengths: tuple[float, float, float] = (610e-9, 545e-9, 450e-9)
    bandwidth: float = 80e-9

    def planck(self, T: torch.Tensor) -> torch.Tensor:
        """Radiance of a black body in each colour [W/(m^2 sr)], shape (..., 3), for T [K] of shape (...)."""
        wavelength = torch.tensor(self.wavelengths, dtype=T.dtype, device=T.device)
        exponent = PLANCK * LIGHT / (wavelength * BOLTZMANN * T.unsqueeze(-1))
        # 2 h c^2/lambda^5 in an order that stays inside float32
        strength = 2 * PLANCK * LIGHT / wavelength**3 * (LIGHT / wavelength**2) * self.bandwidth
        return strength * torch.exp(-exponent) / -torch.expm1(-exponent)

    def __call__(self, T: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
        """Radiance per length [W/(m^3 sr)], shape (..., 3).

        Args:
            T: Temperature [K], shape (...).
            heat: Heat release [W/m^3], shape (...).
        """
        shares = torch.tensor(self.shares, dtype=T.dtype, device=T.device)
        return self.kappa * self.planck(T) + shares * (self.efficiency / (4 * torch.pi)) * heat.unsqueeze(-1)
