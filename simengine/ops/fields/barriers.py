"""Activation energies that follow the heat of the reaction, by Blowers and Masel.

With the intrinsic barrier E0, the mean w of the energies of the bonds that break and form, and the heat of reaction
H(T) at the temperature of the gas,

    E = 0                                                     for H < -4 E0
      = (w + H/2) (V - 2 w + H)^2 / (V^2 - 4 w^2 + H^2)       between, V = 2 w (w + E0)/(w - E0)
      = H                                                     for H > 4 E0

Source: P. Blowers & R. Masel, AIChE Journal 46 (2000) 2041, eq. 11; V - 2 w is written as 4 w E0/(w - E0), which
does not cancel.
"""

import dataclasses

import torch

from simengine.ops.fields.pressure_rates import R


@dataclasses.dataclass(frozen=True)
class Barriers:
    """Barriers of S reactions.

    Attributes:
        which: Numbers of the reactions, shape (S,).
        intrinsic: E0 [J/mol], shape (S,).
        bond: w [J/mol], above E0, shape (S,).
    """

    which: torch.Tensor
    intrinsic: torch.Tensor
    bond: torch.Tensor

    def energy(self, heat: torch.Tensor) -> torch.Tensor:
        """Activation energies [J/mol] at heats of reaction [J/mol], (..., S)."""
        gap = 4 * self.bond * self.intrinsic / (self.bond - self.intrinsic)
        below = gap * (gap + 4 * self.bond) + heat.square()
        inner = below > 0  # 0 where both are: no barrier, no heat
        between = (self.bond + heat / 2) * (gap + heat).square() / torch.where(inner, below, 1.0)
        late = heat > 4 * self.intrinsic
        return torch.where(heat < -4 * self.intrinsic, 0.0, torch.where(late, heat, between))

    def __call__(self, T: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
        """By what rate constants of the intrinsic barriers are multiplied, (..., S).

        Args:
            T: Temperatures [K], (..., 1) or (..., S).
            heat: Heats of reaction [J/mol], (..., S).
        """
        return torch.exp((self.intrinsic - self.energy(heat)) / (R * T))
