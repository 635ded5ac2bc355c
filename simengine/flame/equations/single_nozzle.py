"""Premixed flames of one nozzle: against the mirror image of itself (twin flames), or against a wall it impinges on.

Both are half of what a counterflow burner has, and nothing flows through their right end, where rho u = 0.
"""

import abc
import dataclasses

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.stagnation import AbstractStagnationFlame


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractNozzleFlame(AbstractStagnationFlame):
    """Fresh gas that flows towards a plane at `length`, where it stagnates.

    Attributes:
        mass_flux: rho u of the fresh gas at the nozzle [kg/(m^2 s)], () or (b,).
        place: Where the first guess has the flame, over the length.
    """

    mass_flux: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    place: float = 0.6

    @staticmethod
    def _own() -> tuple[str, ...]:
        return ("mass_flux",)

    def inflows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """That of the nozzle, and nothing."""
        return self.mass_flux, torch.zeros_like(self.mass_flux)

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Nothing flows through the plane."""
        return y[..., :1]

    @abc.abstractmethod
    def _behind(self, s: torch.Tensor, T_burnt: torch.Tensor) -> torch.Tensor:
        """First guess of T [K] behind the flame at s = x/length (b, K, n), for T_burnt (b, 1, 1)."""

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Burnt gas behind a flame at `place`, in a stream that keeps its shape."""
        b, s = self.batch, x / self.length
        T_burnt, Y_burnt = self.burnt()
        into = torch.sigmoid((s - self.place) / 0.03)
        T_in = self.T_in.detach().expand(b)[:, None, None]
        T = T_in + (self._behind(s, T_burnt[:, None, None]) - T_in) * into
        Y_in = self.Y_in.detach()[:, None, None]
        Y = Y_in + (Y_burnt[:, None, None] - Y_in) * into.unsqueeze(-1)
        flux, rho_in = self.mass_flux.detach().expand(b), self.rho_in.detach()
        push = self.steepness * flux / rho_in.sqrt() / self.length  # rho V^2 at the plane is -Lambda
        rho = self.gas.density(self._pressure().detach(), T, Y)
        left, parting = self.stream(s)
        V = push[:, None, None] / rho.sqrt() * parting
        mass = flux[:, None, None] * left
        return torch.cat((torch.stack((mass, V, T), dim=-1), Y), dim=-1), -(push**2)

    def alternatives(self) -> list[AbstractFlame]:
        """Flames nearer to the plane and nearer to the nozzle."""
        return [dataclasses.replace(self, place=place) for place in (0.8, 0.4, 0.9)]

    def burning(self, y: torch.Tensor) -> torch.Tensor:
        """A third at least of the way from the fresh gas to the adiabatic temperature."""
        T_in, T_burnt = self.T_in.detach().expand(self.batch), self.burnt()[0]
        return y[..., 2].amax(1) > T_in + (T_burnt - T_in) / 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwinFlame(AbstractNozzleFlame):
    """Two nozzles that face each other with the same gas, and the plane of symmetry between them at `length`."""

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No gradients."""
        return dy

    def _behind(self, s: torch.Tensor, T_burnt: torch.Tensor) -> torch.Tensor:
        return T_burnt.expand_as(s)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImpingingFlame(AbstractNozzleFlame):
    """A jet that impinges on a wall at `length`, which takes heat and lets nothing through; no reaction on its surface.

    Attributes:
        T_wall: Temperature of the wall [K], () or (b,).
    """

    T_wall: torch.Tensor = dataclasses.field(default_factory=lambda: torch.tensor(600.0, dtype=torch.float64))

    affine: bool = dataclasses.field(default=False, init=False)

    @staticmethod
    def _own() -> tuple[str, ...]:
        return ("mass_flux", "T_wall")

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No V, the temperature of the wall, and no flux of any species through it."""
        m, T, Y = y[..., 0], y[..., 2], y[..., 3:]
        _, j = self.diffusive_flux(T, Y, dy[..., 2], dy[..., 3:])
        into = m.unsqueeze(-1) * Y + j
        wall = T - self.T_wall.expand(self.batch)[:, None, None]
        return torch.cat((torch.stack((m, y[..., 1], wall), dim=-1), into), dim=-1)

    def _behind(self, s: torch.Tensor, T_burnt: torch.Tensor) -> torch.Tensor:
        wall = self.T_wall.detach().expand(self.batch)[:, None, None]
        return T_burnt + (wall - T_burnt) * torch.sigmoid((s - 0.95) / 0.015)
