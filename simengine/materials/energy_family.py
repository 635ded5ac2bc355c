"""One network for a family of materials: its linear coefficients are polynomials of the material's parameters."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from simengine.materials.neural_energy import EnergyNetwork


class EnergyFamily(nn.Module):
    """Energies that share a hidden layer; parameters p in [0, 1] choose among them.

    The coefficients (mu, kappa, w) are Bernstein polynomials of p: combinations, with positive weights that add up to
    one, of control coefficients. Each set of these is an admissible law, and so then is the law at every p.

    Args:
        network: The hidden layer, modulus and convexity; its own coefficients are not used.
        degrees: Of the polynomial in each parameter.

    Raises:
        ValueError: A degree is negative.
    """

    controls: torch.Tensor

    def __init__(self, network: EnergyNetwork, *, degrees: Sequence[int] = (2,)) -> None:
        super().__init__()
        if not degrees or min(degrees) < 0:
            raise ValueError(f"degrees={tuple(degrees)}: expected one number of at least 0 for each parameter")
        self.network: EnergyNetwork = network
        self.degrees: tuple[int, ...] = tuple(degrees)
        count = math.prod(d + 1 for d in degrees)
        start = torch.cat((network.log_moduli.detach().exp(), network.weights.detach()))
        self.controls = nn.Parameter(start.repeat(count, 1))  # (controls, 2 + width)

    def basis(self, p: Sequence[float]) -> torch.Tensor:
        """Weights of the controls at p, shape (controls,), not negative, of sum 1.

        Raises:
            ValueError: p has another length than there are degrees, or leaves [0, 1].
        """
        if len(p) != len(self.degrees) or not all(0 <= value <= 1 for value in p):
            raise ValueError(f"p={tuple(p)}: expected {len(self.degrees)} numbers between 0 and 1")
        total = torch.ones(1, dtype=torch.float64)
        for value, d in zip(p, self.degrees, strict=True):
            one = [math.comb(d, k) * value**k * (1 - value) ** (d - k) for k in range(d + 1)]
            total = (total[:, None] * torch.tensor(one, dtype=torch.float64)).flatten()
        return total

    def at(self, p: Sequence[float]) -> EnergyNetwork:
        """The law at p, a network of its own."""
        made = type(self.network)(
            width=len(self.network.offsets),
            modulus=float(self.network.modulus),
            strain_scale=float(self.network.strain_scale),
            convexity=self.network.convexity,
        ).to(self.network.modulus.device)
        made.load_state_dict(self.network.state_dict())
        made.set_linear(self.basis(p) @ self.controls.detach().double().cpu())
        return made

    def lower_bounds(self) -> torch.Tensor:
        """Of the flat control coefficients."""
        return self.network.lower_bounds().repeat(len(self.controls))

    def set_linear(self, values: torch.Tensor) -> None:
        """Set the control coefficients, flat, as found by a linear fit.

        Raises:
            ValueError: One is below its bound.
        """
        if bool((values < self.lower_bounds()).any()):
            raise ValueError("a control coefficient is below its bound, so that laws of the family are not admissible")
        with torch.no_grad():
            self.controls.copy_(values.view_as(self.controls))
