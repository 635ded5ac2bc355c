"""The baseline of a learned energy: cubic splines in the volume strain and in the size of the deviator, no network."""

import torch

from simengine.materials.neural_energy import Convexity, EnergyNetwork


class SplineEnergy(EnergyNetwork):
    """`EnergyNetwork` with units of a fixed cubic spline in place of a hidden layer.

    psi = M [mu q + kappa/2 v^2 + a^2 (f(v/a) + g(|D|/a))], f and g cubic splines with even knots: each unit has one of
    its knots, |t| < 1, over which its slope rises from 0 to 1. All of it is linear in what is learned.

    Args:
        width: Knots of f and g together.
        modulus: M [Pa].
        strain_scale: a [1]; knots reach from -reach a to reach a in v and to reach a in |D|.
        convexity: As of `EnergyNetwork`.
        reach: See above.

    Raises:
        ValueError: An argument is not positive.
    """

    def __init__(
        self,
        *,
        width: int = 24,
        modulus: float = 1e5,
        strain_scale: float = 0.2,
        convexity: Convexity = "none",
        reach: float = 2.0,
    ) -> None:
        super().__init__(width=width, modulus=modulus, strain_scale=strain_scale, convexity=convexity)
        if width < 4 or not reach > 0:
            raise ValueError(f"width={width}, reach={reach}: expected at least 4 and a positive number")
        half = width // 2
        knots = torch.cat((torch.linspace(-reach, reach, half), torch.linspace(0.0, reach, width - half)))
        spacing = torch.cat(
            (torch.full((half,), 2 * reach / (half - 1)), torch.full((width - half,), reach / (width - half - 1)))
        )
        with torch.no_grad():
            self.directions.zero_()
            self.directions[:half, 0] = 1 / spacing[:half]
            self.directions[half:, 1] = 1 / spacing[half:]
            self.offsets.copy_(-knots / spacing)
        self.directions.requires_grad_(False)
        self.offsets.requires_grad_(False)

    @staticmethod
    def unit(t: torch.Tensor) -> torch.Tensor:
        """0 below -1, t above 1, and the cubic spline between."""
        c = t.clamp(-1, 1)
        return torch.relu(t - 1) + 1 / 6 + c / 2 + c.square() / 2 - c.abs().pow(3) / 6

    @staticmethod
    def unit_slope(t: torch.Tensor) -> torch.Tensor:
        """Its derivative, from 0 to 1."""
        c = t.clamp(-1, 1)
        return 0.5 + c - 0.5 * c * c.abs()

    @staticmethod
    def unit_curvature(t: torch.Tensor) -> torch.Tensor:
        """The derivative of that."""
        return torch.relu(1 - t.abs())
