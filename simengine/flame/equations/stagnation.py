"""Flames in a flow that stagnates, as similar solutions: rho u, V = v/r, T and Y are functions of x alone.

    (rho u)' + n rho V = 0,    0 = (mu V')' - rho u V' - rho V^2 - Lambda

with n = 2 about an axis, where r is the distance from it, and n = 1 between slots, where r is the distance from the
plane through both. V [1/s] is sought with the pressure curvature Lambda = (dp/dr)/r [Pa/m^2] as the eigenvalue, which
makes the mass flux at the right end what is prescribed there (Kee, Coltrin, Glarborg 2003, chapter 6). What is on the
right makes the flame: an opposed nozzle (`counterflow`), the mirror image of the same nozzle (`twin`), a wall
(`impinging`).
"""

import abc
import dataclasses
import math
from typing import Literal, Self

import torch

from simengine.flame.equations import linearised
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.gas.units import R

Geometry = Literal["axisymmetric", "planar"]
EASED = 1e-4  # mol/m^3, smoothing of the flame to start from


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractStagnationFlame(AbstractDetailedFlame):
    """Fresh gas from a nozzle at x = 0 against whatever is at `length`. Fields rho u, V, T and Y; eigenvalue Lambda.

    Attributes:
        length: From the nozzle to what is opposed to it [m].
        geometry: Round nozzles, from which gas leaves on all sides, or long slots, from which it leaves on two.
    """

    length: float = 0.02
    geometry: Geometry = "axisymmetric"

    pieces: int = dataclasses.field(default=6, init=False)
    anchor_end: Literal["left", "right", "origin"] = dataclasses.field(default="right", init=False)
    folds: bool = dataclasses.field(default=True, init=False)
    start_on_grid: bool = dataclasses.field(default=True, init=False)

    @property
    def ways(self) -> float:
        """In how many directions the gas leaves along the flame, n."""
        return 1.0 if self.geometry == "planar" else 2.0

    @property
    def steepness(self) -> float:
        """How fast a uniform inviscid stream gives way at the plane where it stops, V length/u."""
        return math.pi / 2 if self.geometry == "planar" else 1.0

    def stream(self, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rho u over that at the nozzle, and V over that at the plane, of a uniform inviscid stream.

        Args:
            s: Distance from the nozzle over that of the plane where the stream stops.
        """
        if self.geometry == "planar":
            return torch.cos(math.pi / 2 * s), torch.sin(math.pi / 2 * s)
        return 1 - s**2, s

    @abc.abstractmethod
    def inflows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mass fluxes into the domain on the left and on the right [kg/(m^2 s)], () or (b,) each."""

    @property
    def fields(self) -> tuple[str, ...]:  # type: ignore[override]
        """Mass flux, V, T and the species."""
        return ("rho u", "V", "T", *self.gas.mechanism.species)

    @property
    def order(self) -> tuple[Literal[0, 1, 2], ...]:  # type: ignore[override]
        """1 for the mass flux, 0 for the closing species, else 2."""
        return (1, 2, 2, *(0 if k == self.closing else 2 for k in range(len(self.gas.W))))

    def flux(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """0, mu V', lam T' and -j_k."""
        return self.flux_and_source(y, dy, z)[..., : y.shape[-1]]

    def source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The rest of each equation."""
        return self.flux_and_source(y, dy, z)[..., y.shape[-1] :]

    def flux_and_source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Both, (..., 2 m)."""
        m, V, T, Y = y[..., 0], y[..., 1], y[..., 2], y[..., 3:]
        rho = self.gas.density(self._pressure(), T, Y)
        conducted, diffused, heat, species = self.energy_and_species(m, T, Y, dy[..., 2], dy[..., 3:])
        sheared = self.gas.viscosity(T, Y) * dy[..., 1]
        momentum = -m * dy[..., 1] - rho * V**2 - z[..., 0]
        first = torch.stack((torch.zeros_like(m), sheared, conducted), dim=-1)
        rest = torch.stack((dy[..., 0] + self.ways * rho * V, momentum, heat), dim=-1)
        return torch.cat((first, diffused, rest, species), dim=-1)

    def local_jacobian(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Written out; see `linearised`."""
        m, V, T, Y = y[..., 0], y[..., 1], y[..., 2], y[..., 3:]
        dm, dV, K = dy[..., 0], dy[..., 1], Y.shape[-1]
        F, S, dF, dS = linearised.energy_and_species(self, m, T, Y, dy[..., 2], dy[..., 3:])
        with torch.enable_grad():
            point = torch.cat((T.unsqueeze(-1), Y), dim=-1).detach().requires_grad_()
            mu = self.gas.viscosity(point[..., 0], point[..., 1:])
            (mu_y,) = torch.autograd.grad(mu.sum(), point)
        mu, rho = mu.detach(), self.gas.density(self._pressure(), T, Y).detach()
        rho_Y = -rho.unsqueeze(-1) * self.gas.mean_W(Y).unsqueeze(-1) / self.gas.W
        rho_y = torch.cat((-(rho / T).unsqueeze(-1), rho_Y), dim=-1)  # in T and Y
        fields = 3 + K
        values = torch.cat(
            (
                torch.stack((torch.zeros_like(m), mu * dV), dim=-1),
                F,
                torch.stack((dm + self.ways * rho * V, -m * dV - rho * V**2 - z[..., 0]), dim=-1),
                S,
            ),
            dim=-1,
        )
        rows = y.new_zeros(*y.shape[:-1], 2 * fields, 2 * fields + 1)
        state, slopes = slice(2, fields), slice(fields + 2, 2 * fields)
        for start, block in ((2, dF), (fields + 2, dS)):
            at = slice(start, start + 1 + K)
            rows[..., at, state], rows[..., at, slopes] = block[..., : 1 + K], block[..., 1 + K : -1]
            rows[..., at, 0] = block[..., -1]
        rows[..., 1, state], rows[..., 1, fields + 1] = mu_y * dV.unsqueeze(-1), mu
        continuity, momentum = rows[..., fields, :], rows[..., fields + 1, :]
        continuity[..., fields], continuity[..., 1] = 1.0, self.ways * rho
        continuity[..., state] = self.ways * V.unsqueeze(-1) * rho_y
        momentum[..., 0], momentum[..., fields + 1], momentum[..., 1] = -dV, -m, -2 * rho * V
        momentum[..., state], momentum[..., -1] = -((V**2).unsqueeze(-1)) * rho_y, -1.0
        return values.detach(), rows

    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Mass flux, no V, temperature and composition of the fresh gas."""
        return y - self._end(self.inflows()[0], self.T_in, self.Y_in)

    def _end(self, flux: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        b = self.batch
        first = torch.stack((flux.expand(b), torch.zeros(b, dtype=Y.dtype), T.expand(b)), dim=1)
        return torch.cat((first, Y.expand(b, -1)), dim=1)[:, None, None]

    def inertia(self, y: torch.Tensor) -> torch.Tensor:
        """0, rho, rho cp and rho; 0 for the closing species."""
        T, Y = y[..., 2], y[..., 3:]
        rho = self.gas.density(self._pressure(), T, Y)
        first = torch.stack((torch.zeros_like(rho), rho, rho * self.gas.cp(T, Y)), dim=-1)
        mass = torch.cat((first, rho.unsqueeze(-1).expand_as(Y)), dim=-1)
        mass[..., 3 + self.closing] = 0.0
        return mass

    def drift(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Rho u cp/lam [1/m]."""
        return self.convection(y[..., 0], y[..., 2], y[..., 3:])

    def edges(self) -> torch.Tensor:
        """Sixteen elements, finer in the middle, where flame and stagnation plane are."""
        s = torch.linspace(-1, 1, 17, dtype=torch.float64)
        return ((s + 0.35 * s**3) / 1.35 * 0.5 + 0.5)[None].expand(self.batch, -1) * self.length

    def eased(self) -> Self | None:
        """With orders below 1 smoothed further, where a reactant that is used up leaves kinks."""
        if not len(self.gas.kinetics.fractional) or self.gas.smoothing >= EASED:
            return None
        return dataclasses.replace(self, gas=self.gas.smoothed(EASED))

    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mass flux within 20 times the inlets', T in (200 K, T_burnt + 500 K), Y in (least, 1.05), Lambda below 0."""
        b, T_burnt = self.batch, self.burnt()[0][:, None]
        m = (self.inflows()[0] + self.inflows()[1]).detach().expand(b)[:, None]
        rho = self.rho_in.detach()[:, None]
        strain, ones = m / rho / self.length, torch.ones(b, len(self.gas.W), dtype=torch.float64)
        curvature = rho * strain**2
        return (
            torch.cat((m, strain, T_burnt, 0.1 * ones, curvature), dim=1),
            torch.cat((-20 * m, -1e4 * strain, 0 * m + 200.0, self.least * ones, -1e9 * curvature), dim=1),
            torch.cat((20 * m, 1e4 * strain, T_burnt + 500.0, 1.05 * ones, 1e9 * curvature), dim=1),
        )

    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The pressure curvature [Pa/m^2]."""
        return {"pressure_curvature": z}

    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """T [K], u [m/s], V [1/s], rho [kg/m^3], heat release [W/m^3] and the mass fractions by species."""
        T, Y = y[..., 2], y[..., 3:]
        rho = self.p.reshape(-1, 1) * self.gas.mean_W(Y) / (R * T)
        species = {name: Y[..., k] for k, name in enumerate(self.gas.mechanism.species)}
        return {"T": T, "u": y[..., 0] / rho, "V": y[..., 1], "rho": rho, "heat": self.heat_release(T, Y), **species}
