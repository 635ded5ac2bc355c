"""What a material loses: Newtonian viscosity, Maxwell branches and Rayleigh damping, on top of any elastic law."""

from collections.abc import Sequence

import torch
from torch import nn

Numbers = Sequence[float] | torch.Tensor


class Dissipation(nn.Module):
    """Viscosity, Maxwell branches, Rayleigh damping; the formulas are in `simengine.kernels.matter.dissipation`.

    Held still after a sudden strain the stress is (1 + sum_b share_b exp(-t / time_b)) times that at rest.

    Args:
        viscosity: eta [Pa s] of sigma = 2 eta dev D, a number or a tensor.
        times: Relaxation times of the branches [s].
        shares: Modulus of each over that of the law, which is the one at rest [1].
        mass_damping: alpha [1/s] of the damping alpha M + beta K: what moves as a whole falls off as exp(-alpha t), a
            mode of angular frequency w as exp(-(alpha + beta w^2) t / 2).
        stiffness_damping: beta [s] of it.

    Raises:
        ValueError: There are not as many shares as times, or a number is out of range.
    """

    viscosity: torch.Tensor
    times: torch.Tensor
    shares: torch.Tensor
    mass_damping: torch.Tensor
    stiffness_damping: torch.Tensor

    def __init__(
        self,
        viscosity: float | torch.Tensor = 0.0,
        times: Numbers = (),
        shares: Numbers = (),
        *,
        mass_damping: float | torch.Tensor = 0.0,
        stiffness_damping: float | torch.Tensor = 0.0,
    ) -> None:
        super().__init__()
        given = {"viscosity": viscosity, "times": times, "shares": shares}
        given |= {"mass_damping": mass_damping, "stiffness_damping": stiffness_damping}
        for name, value in given.items():
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
        for name in ("mass_damping", "stiffness_damping"):
            if not float(getattr(self, name).detach()) >= 0:
                raise ValueError(f"{name} must be at least 0, got {float(getattr(self, name).detach()):g}")
        # a number that may be sought from 0 counts too
        self._stiff: bool = bool(self.stiffness_damping.requires_grad or self.stiffness_damping > 0)
        self.slows: bool = bool(self.mass_damping.requires_grad or self.mass_damping > 0)

    @property
    def damps(self) -> bool:
        """Whether there is Rayleigh damping."""
        return self._stiff or self.slows

    @property
    def branches(self) -> int:
        """How many; stiffness-proportional damping is one that relaxes within a step."""
        return len(self.times) + self._stiff

    def row(self, dt: float, branches: int, *, span: float | None = None) -> torch.Tensor:
        """Viscosity, shares, 1 - exp(-dt / time), and 1 - exp(-dt mass_damping), (2 + 2 branches,).

        Args:
            dt: Time in which branches relax [s].
            branches: Of the row, with zeros for those that are not here.
            span: Time from the start of the step to where its forces act [s]; None for that since the step before, dt.
        """
        rest = self.times.new_zeros(branches - self.branches)
        shares, k = self.shares.to(self.times), -torch.expm1(-dt / self.times)
        if self._stiff:
            span = dt if span is None else span
            damping = self.stiffness_damping.reshape(1).to(self.times)
            shares = torch.cat([shares, damping / span if span > 0 else torch.zeros_like(damping)])
            k = torch.cat([k, torch.ones_like(damping)])
        slowed = -torch.expm1(-dt * self.mass_damping.reshape(1).to(self.times))
        return torch.cat([self.viscosity.reshape(1).to(self.times), shares, rest, k, rest, slowed])
