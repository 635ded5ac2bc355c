"""What a material loses: Newtonian viscosity and Maxwell branches, on top of any elastic law."""

from collections.abc import Sequence

import torch
from torch import nn

Numbers = Sequence[float] | torch.Tensor


class Dissipation(nn.Module):
    """Viscosity and Maxwell branches; the formulas are in `simengine.kernels.matter.dissipation`.

    Held still after a sudden strain the stress is (1 + sum_b share_b exp(-t / time_b)) times that at rest.

    Args:
        viscosity: eta [Pa s] of sigma = 2 eta dev D, a number or a tensor.
        times: Relaxation times of the branches [s].
        shares: Modulus of each over that of the law, which is the one at rest [1].

    Raises:
        ValueError: There are not as many shares as times, or a number is out of range.
    """

    viscosity: torch.Tensor
    times: torch.Tensor
    shares: torch.Tensor

    def __init__(self, viscosity: float | torch.Tensor = 0.0, times: Numbers = (), shares: Numbers = ()) -> None:
        super().__init__()
        for name, value in (("viscosity", viscosity), ("times", times), ("shares", shares)):
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        if self.times.shape != self.shares.shape or self.times.ndim != 1:
            raise ValueError(f"times and shares: one of each a branch, got {len(self.times)} and {len(self.shares)}")
        if not (
            bool((self.times > 0).all()) and bool((self.shares >= 0).all()) and float(self.viscosity.detach()) >= 0
        ):
            raise ValueError(
                "times must be above 0, shares and viscosity at least 0, got "
                f"{self.times.tolist()}, {self.shares.tolist()}, {float(self.viscosity.detach()):g}"
            )

    @property
    def branches(self) -> int:
        """How many."""
        return len(self.times)

    def row(self, dt: float, branches: int) -> torch.Tensor:
        """Viscosity, shares, and 1 - exp(-dt / time), (1 + 2 branches,), with zeros for branches that are not here."""
        rest = self.times.new_zeros(branches - self.branches)
        k = -torch.expm1(-dt / self.times)
        return torch.cat([self.viscosity.reshape(1).to(self.times), self.shares, rest, k, rest])
