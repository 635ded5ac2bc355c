"""Freely propagating premixed flames of real gases; the mass flux, and with it the flame speed, is the eigenvalue."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import torch

from simengine.flame.equations import linearised
from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.conductivity_law import scale
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.gas.units import R


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeFlame(AbstractDetailedFlame):
    """A planar flame in a tube of fresh gas, in its own frame. Fields T and Y; eigenvalue M = rho_in sL.

    Attributes:
        T_fix: Temperature at x = 0, which fixes where the flame is [K].
        hurry: Multiplies the first guess of the flame speed.
        slowest: How much of the first guess is left at least once the radicals have settled.
        width: The domain reaches as far at least [m]; None for 500 thicknesses (60 without radicals) of burnt gas.
    """

    T_fix: float = 1000.0
    hurry: float = 1.0
    slowest: float = 0.2
    width: float | None = None

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

    def local_jacobian(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Written out; see `linearised`."""
        F, S, dF, dS = linearised.energy_and_species(self, z[..., 0], y[..., 0], y[..., 1:], dy[..., 0], dy[..., 1:])
        return torch.cat((F, S), dim=-1), torch.cat((dF, dS), dim=-2)

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

    def drift(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """M cp/lam [1/m]."""
        return self.convection(z[..., 0], y[..., 0], y[..., 1:])

    def first_flux(self) -> torch.Tensor:
        """First guess of M [kg/(m^2 s)], (b,), by the theory of Zeldovich, Frank-Kamenetskii and Semenov.

        M = sqrt(2 int lam q dT)/(rise of h), with the heat release q of mixtures of fresh and burnt gas. Flames without
        radicals burn 1.45 times faster than that, those with radicals, which mixing lacks, two to three times; and as a
        thin flame finds its way more easily than a thick one, 4.4 times is where they start.
        """
        if "_first_flux" not in self.__dict__:
            with torch.no_grad():
                object.__setattr__(self, "_first_flux", self.detached()._estimate())  # type: ignore[attr-defined]
        return self.__dict__["_first_flux"] * self.hurry

    def _estimate(self) -> torch.Tensor:
        T_burnt, Y_burnt = self.burnt()
        T_in, Y_in, gas = self.T_in.expand(self.batch)[:, None], self.Y_in, self.gas
        share = torch.linspace(0, 1, 101, dtype=torch.float64)
        T = T_in + (T_burnt[:, None] - T_in) * share
        Y = Y_in[:, None] + (Y_burnt - Y_in)[:, None] * share[:, None]
        lam = scale(self, T) * gas.conductivity(T, Y)
        heat = torch.trapezoid(lam * self.heat_release(T, Y).clamp_min(0.0), T)
        rise = gas.h(T[:, -1], Y_in) - gas.h(T[:, 0], Y_in)
        factor = 4.4 if bool(gas.mechanism.reactions.reversible.any()) else 1.45
        return factor * (2 * heat).sqrt() / rise.clamp_min(1.0) + 1e-6

    def settled(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The mass flux that the heat released would warm to burnt gas, from `slowest` to five times the guess."""
        with torch.no_grad():
            b, Y_in = self.batch, self.Y_in
            heat = torch.trapezoid(self.heat_release(y[..., 0], y[..., 1:]), x)
            rise = self.gas.h(self.burnt()[0], Y_in) - self.gas.h(self.T_in.expand(b), Y_in)
        return torch.maximum(torch.minimum(heat / rise, 5 * z), self.slowest * z)

    def alternatives(self) -> list[AbstractFlame]:
        """Slower and faster guesses, tried last. Radicals do not slow these down, as nothing came of it before.

        Of 49 measured flames one is found so: hydrogen at phi 1.5 in 75 % of nitrogen.
        """
        return [dataclasses.replace(self, hurry=self.hurry * f, slowest=1.0) for f in (0.6, 1.7, 0.3, 3.0)]

    def faster(self) -> list[AbstractFlame]:
        """8 and 64 times as fast: flames are found from 0.7 to 12 times their speed, rich hydrogen's guess is 1/30."""
        return [dataclasses.replace(self, hurry=self.hurry * f) for f in (8.0, 64.0)]

    def obstacle(self, solve: Callable[..., Any]) -> str | None:
        """Gas that does not get hot enough for a flame at T_fix, or is as hot when it is fresh."""
        hottest = float(self.T_in.max())
        if hottest >= self.T_fix:
            return (
                f"T_in = {hottest:.0f} K lies at or above T_fix = {self.T_fix:g} K, held at x = 0: cool the fresh gas, "
                "or in Python give a T_fix between it and the burnt gas"
            )
        T_burnt = self.burnt()[0]
        cold = [k for k, T in enumerate(T_burnt.tolist()) if self.T_fix + 50 > T]
        if not cold:
            return None
        k = cold[0]
        told = self.mixture.told(float(self.phi.expand(self.batch)[k]))
        return (
            f"{told} burns to {float(T_burnt[k]):.0f} K only, not above "
            f"T_fix = {self.T_fix:g} K: outside the range that can burn; move phi towards 1, preheat, or lower T_fix"
        )

    def thickness(self, mass_flux: torch.Tensor) -> torch.Tensor:
        """lam/(M cp) of the fresh gas [m], (b,)."""
        b = self.batch
        T, p = self.T_in.detach().expand(b), self.p.detach().expand(b)
        Y = self.Y_in.detach()
        return scale(self, T).detach() * self.gas.conductivity(T, Y) / (mass_flux * self.gas.cp(T, Y)) + 0 * p

    def edges(self) -> torch.Tensor:
        """35 thicknesses of fresh gas, the flame around x = 0, and a tail of burnt gas."""
        unit = torch.tensor([-35, -18, -10, -6, -3.5, -1.5, 0, 1, 2, 3, 4, 5.5, 7.5, 10, 14, 20, 30, 50, 90])
        return unit.to(torch.float64) * self.thickness(self.first_flux())[:, None]

    def extent(self, z: torch.Tensor) -> torch.Tensor:
        """How far the fresh gas must reach for its end not to matter: exp(-30) [m], (b,)."""
        return 30 * self.thickness(z)

    def tail(self, z: torch.Tensor) -> torch.Tensor:
        """60 thicknesses of burnt gas, 500 where radicals recombine slowly; what a given width leaves."""
        if self.width is not None:
            return (self.width - self.extent(z)).clamp_min(0.0)
        return (500 if self.held else 60) * self.thickness(z)

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
        """T in (200 K, T_burnt + 500 K), Y in (least, 1.05), M between 1/1000 and 100 times the guess."""
        T_burnt, M, K = self.burnt()[0], self.first_flux(), len(self.gas.W)
        ones = torch.ones(self.batch, K, dtype=torch.float64)
        return (
            torch.cat((T_burnt[:, None], 0.1 * ones, M[:, None]), dim=1),
            torch.cat((0 * M[:, None] + 200.0, self.least * ones, 1e-3 * M[:, None]), dim=1),
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
