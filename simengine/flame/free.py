"""Freely propagating premixed flames of real gases; the mass flux, and with it the flame speed, is the eigenvalue."""

import dataclasses
from typing import Literal

import torch

from simengine.flame.detailed import AbstractDetailedFlame
from simengine.flame.equations import AbstractFlame
from simengine.flame.units import R


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeFlame(AbstractDetailedFlame):
    """A planar flame in a tube of fresh gas, in its own frame. Fields T and Y; eigenvalue M = rho_in sL.

    Attributes:
        T_fix: Temperature at x = 0, which fixes where the flame is [K].
        first_speed: First guess of sL at 1 atm [m/s].
    """

    T_fix: float = 1000.0
    first_speed: float = 0.35

    anchor_end: Literal["left", "right", "origin"] = dataclasses.field(default="origin", init=False)

    @property
    def fields(self) -> tuple[str, ...]:  # type: ignore[override]
        """T and the species."""
        return ("T", *self.gas.mechanism.species)

    @property
    def order(self) -> tuple[Literal[0, 1, 2], ...]:  # type: ignore[override]
        """2, except for the closing species."""
        return (2, *(0 if k == self.closing else 2 for k in range(len(self.gas.W))))

    def flame_speed(self, z: torch.Tensor) -> torch.Tensor:
        """SL [m/s] of the mass flux, (b,)."""
        return z / self.rho_in

    def flux(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Lam T' and -j_k."""
        return self._both(y, dy, z)[0]

    def source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Convection, interdiffusion and reaction."""
        return self._both(y, dy, z)[1]

    def flux_and_source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Both, (..., 2 m), with the properties computed once."""
        return torch.cat(self._both(y, dy, z), dim=-1)

    def _both(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        conducted, diffused, heat, species = self.energy_and_species(
            z[..., 0], y[..., 0], y[..., 1:], dy[..., 0], dy[..., 1:]
        )
        flux = torch.cat((conducted.unsqueeze(-1), diffused), dim=-1)
        return flux, torch.cat((heat.unsqueeze(-1), species), dim=-1)

    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Fresh gas."""
        b = y.shape[0]
        fresh = torch.cat((self.T_in.expand(b)[:, None], self.Y_in.expand(b, -1)), dim=1)
        return y - fresh[:, None, None]

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No gradients."""
        return dy

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """T = T_fix."""
        return y[..., :1] - self.T_fix

    def inertia(self, y: torch.Tensor) -> torch.Tensor:
        """Rho cp and rho; 0 for the closing species."""
        T, Y = y[..., 0], y[..., 1:]
        rho = self.gas.density(self._pressure(), T, Y)
        mass = torch.cat(((rho * self.gas.cp(T, Y)).unsqueeze(-1), rho.unsqueeze(-1).expand_as(Y)), dim=-1)
        mass[..., 1 + self.closing] = 0.0
        return mass

    def first_flux(self) -> torch.Tensor:
        """First guess of M [kg/(m^2 s)], (b,): speeds fall as p^-1/4 and on the lean side."""
        lean = torch.exp(-((1.1 - self.phi.detach().expand(self.batch)).clamp_min(0.0) ** 2) / 0.18)
        speed = self.first_speed * (0.15 + 0.85 * lean) * (self.p.detach() / 101325).expand(self.batch) ** -0.25
        return self.rho_in.detach() * speed

    def alternatives(self) -> list[AbstractFlame]:
        """Slower and faster guesses."""
        return [dataclasses.replace(self, first_speed=self.first_speed * f) for f in (0.5, 1.7, 0.25, 3.0)]

    def thickness(self, mass_flux: torch.Tensor) -> torch.Tensor:
        """lam/(M cp) of the fresh gas [m], (b,)."""
        b = self.batch
        T, p = self.T_in.detach().expand(b), self.p.detach().expand(b)
        Y = self.Y_in.detach()
        return (
            self.parameters()["lam_factor"].detach() * self.gas.conductivity(T, Y) / (mass_flux * self.gas.cp(T, Y))
            + 0 * p
        )

    def edges(self) -> torch.Tensor:
        """35 thicknesses of fresh gas, the flame around x = 0, and a tail of burnt gas."""
        unit = torch.tensor([-35, -18, -10, -6, -3.5, -1.5, 0, 1, 2, 3, 4, 5.5, 7.5, 10, 14, 20, 30, 50, 90])
        return unit.to(torch.float64) * self.thickness(self.first_flux())[:, None]

    def extent(self, z: torch.Tensor) -> torch.Tensor:
        """How far the fresh gas must reach for its end not to matter: exp(-30) [m], (b,)."""
        return 30 * self.thickness(z)

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Smooth steps from fresh to completely burnt gas, through T_fix at x = 0."""
        T_burnt, Y_burnt = self.burnt()
        M = self.first_flux()
        width = (2.5 * self.thickness(M))[:, None, None]
        T_in = self.T_in.detach().expand(self.batch)
        level = ((self.T_fix - T_in) / (T_burnt - T_in)).clamp(0.05, 0.95)
        shift = (level / (1 - level)).log()[:, None, None]
        step = torch.sigmoid(x / width + shift).unsqueeze(-1)
        T_in = T_in[:, None, None, None]
        T = T_in + (T_burnt[:, None, None, None] - T_in) * step
        Y_in = self.Y_in.detach()[:, None, None]
        return torch.cat((T, Y_in + (Y_burnt[:, None, None] - Y_in) * step), dim=-1), M

    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """T in (200 K, T_burnt + 500 K), Y in (-0.05, 1.05), M between 1/1000 and 100 times the guess."""
        T_burnt, M, K = self.burnt()[0], self.first_flux(), len(self.gas.W)
        ones = torch.ones(self.batch, K, dtype=torch.float64)
        return (
            torch.cat((T_burnt[:, None], 0.1 * ones, M[:, None]), dim=1),
            torch.cat((0 * M[:, None] + 200.0, -0.05 * ones, 1e-3 * M[:, None]), dim=1),
            torch.cat((T_burnt[:, None] + 500.0, 1.05 * ones, 100 * M[:, None]), dim=1),
        )

    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The flame speed [m/s]."""
        return {"flame_speed": self.flame_speed(z)}

    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """T [K], u [m/s], rho [kg/m^3], heat release [W/m^3] and the mass fractions by species."""
        T, Y = y[..., 0], y[..., 1:]
        rho = self.p.reshape(-1, 1) * self.gas.mean_W(Y) / (R * T)
        species = {name: Y[..., k] for k, name in enumerate(self.gas.mechanism.species)}
        return {"T": T, "u": z[:, None] / rho, "rho": rho, "heat": self.heat_release(T, Y), **species}
