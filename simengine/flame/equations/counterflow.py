"""Counterflow flames: fresh gas from the left against hot or inert gas from the right, as similar solutions.

    (rho u)' + 2 rho V = 0,    0 = (mu V')' - rho u V' - rho V^2 - Lambda

with V = v/r [1/s] and the pressure curvature Lambda = (dp/dr)/r [Pa/m^2] as the eigenvalue, which makes the mass flux
at the right end what is prescribed there (Kee, Coltrin, Glarborg 2003, chapter 6).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch

from simengine.flame.equations import linearised
from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame, completely_burnt, temperature_of
from simengine.flame.gas.equilibrium import equilibrium
from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.units import R

EASED = 1e-4  # mol/m^3, smoothing of the flame to start from


@dataclasses.dataclass(frozen=True, kw_only=True)
class CounterflowFlame(AbstractDetailedFlame):
    """Two opposed nozzles. Fields rho u, V, T and Y; eigenvalue Lambda.

    Attributes:
        length: Distance of the nozzles [m].
        mass_flux_left: rho u of the fresh gas [kg/(m^2 s)], () or (b,).
        mass_flux_right: -rho u of the opposed gas, () or (b,).
        T_right: Temperature of the opposed gas [K], () or (b,).
        opposed: Mole fractions of the opposed gas.
        place: Where the first guess has the flame, over the length.
    """

    length: float = 0.02
    mass_flux_left: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    mass_flux_right: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    T_right: torch.Tensor = dataclasses.field(default_factory=lambda: torch.tensor(300.0, dtype=torch.float64))
    opposed: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"N2": 1.0})
    place: float = 0.3

    pieces: int = dataclasses.field(default=6, init=False)
    anchor_end: Literal["left", "right", "origin"] = dataclasses.field(default="right", init=False)
    folds: bool = dataclasses.field(default=True, init=False)
    start_on_grid: bool = dataclasses.field(default=True, init=False)

    def fed(self) -> set[str]:
        """Names of the species of both streams."""
        return {*super().fed(), *self.opposed}

    @staticmethod
    def _own() -> tuple[str, ...]:
        return ("mass_flux_left", "mass_flux_right", "T_right")

    @property
    def fields(self) -> tuple[str, ...]:  # type: ignore[override]
        """Mass flux, V, T and the species."""
        return ("rho u", "V", "T", *self.gas.mechanism.species)

    @property
    def order(self) -> tuple[Literal[0, 1, 2], ...]:  # type: ignore[override]
        """1 for the mass flux, 0 for the closing species, else 2."""
        return (1, 2, 2, *(0 if k == self.closing else 2 for k in range(len(self.gas.W))))

    @property
    def Y_right(self) -> torch.Tensor:
        """Mass fractions of the opposed gas, (K,)."""
        X = torch.zeros(len(self.gas.W), dtype=torch.float64)
        for name, amount in self.opposed.items():
            X[self.gas.mechanism.index(name)] = amount
        return self.gas.mass_fractions(X)

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
        rest = torch.stack((dy[..., 0] + 2 * rho * V, momentum, heat), dim=-1)
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
                torch.stack((dm + 2 * rho * V, -m * dV - rho * V**2 - z[..., 0]), dim=-1),
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
        continuity[..., fields], continuity[..., 1] = 1.0, 2 * rho
        continuity[..., state] = 2 * V.unsqueeze(-1) * rho_y
        momentum[..., 0], momentum[..., fields + 1], momentum[..., 1] = -dV, -m, -2 * rho * V
        momentum[..., state], momentum[..., -1] = -((V**2).unsqueeze(-1)) * rho_y, -1.0
        return values.detach(), rows

    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Mass flux, no V, temperature and composition of the fresh gas."""
        return y - self._end(self.mass_flux_left, self.T_in, self.Y_in)

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No V, temperature and composition of the opposed gas."""
        return y - self._end(-self.mass_flux_right, self.T_right, self.Y_right)

    def _end(self, flux: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        b = self.batch
        first = torch.stack((flux.expand(b), torch.zeros(b, dtype=Y.dtype), T.expand(b)), dim=1)
        return torch.cat((first, Y.expand(b, -1)), dim=1)[:, None, None]

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The mass flux of the opposed gas."""
        return y[..., :1] + self.mass_flux_right.reshape(-1, 1, 1, 1)

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

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Burnt gas between a flame at `place` and a mixing layer at 0.65 of the length; a potential flow."""
        b, s = self.batch, (x / self.length)
        T_burnt, Y_burnt = self.burnt()
        into, out = torch.sigmoid((s - self.place) / 0.03).unsqueeze(-1), torch.sigmoid((s - 0.65) / 0.03).unsqueeze(-1)

        def blend(fresh: torch.Tensor, hot: torch.Tensor, opposed: torch.Tensor) -> torch.Tensor:
            fresh, hot, opposed = (v[:, None, None] for v in (fresh, hot, opposed))
            return fresh + (hot - fresh) * into + (opposed - hot) * out

        T = blend(self.T_in.detach().expand(b)[:, None], T_burnt[:, None], self.T_right.detach().expand(b)[:, None])
        Y = blend(self.Y_in.detach(), Y_burnt, self.Y_right.expand(b, -1))
        left, right = self.mass_flux_left.detach().expand(b), self.mass_flux_right.detach().expand(b)
        flux = left[:, None, None] - (left + right)[:, None, None] * s * s * (3 - 2 * s)
        rho = self.gas.density(self._pressure().detach(), T[..., 0], Y)
        V = (left + right)[:, None, None] * 6 * s * (1 - s) / self.length / (2 * rho)
        strain = (left + right) / self.rho_in.detach() / self.length
        return torch.cat((flux.unsqueeze(-1), V.unsqueeze(-1), T, Y), dim=-1), -self.rho_in.detach() * strain**2

    def alternatives(self) -> list[AbstractFlame]:
        """Flames nearer to the burner and farther from it."""
        return [dataclasses.replace(self, place=place) for place in (0.2, 0.4)]

    def eased(self) -> "CounterflowFlame | None":
        """With orders below 1 smoothed further, where a reactant that is used up leaves kinks."""
        if not len(self.gas.kinetics.fractional) or self.gas.smoothing >= EASED:
            return None
        return dataclasses.replace(self, gas=self.gas.smoothed(EASED))

    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mass flux within 20 times the inlets', T in (200 K, T_burnt + 500 K), Y in (least, 1.05), Lambda below 0."""
        b, T_burnt = self.batch, self.burnt()[0][:, None]
        m = (self.mass_flux_left + self.mass_flux_right).detach().expand(b)[:, None]
        rho = self.rho_in.detach()[:, None]
        strain, ones = m / rho / self.length, torch.ones(b, len(self.gas.W), dtype=torch.float64)
        curvature = rho * strain**2
        return (
            torch.cat((m, strain, T_burnt, 0.1 * ones, curvature), dim=1),
            torch.cat((-20 * m, -1e4 * strain, 0 * m + 200.0, self.least * ones, -1e9 * curvature), dim=1),
            torch.cat((20 * m, 1e4 * strain, T_burnt + 500.0, 1.05 * ones, 1e9 * curvature), dim=1),
        )

    def burning(self, y: torch.Tensor) -> torch.Tensor:
        """A third at least of the way from the hotter stream to the adiabatic temperature."""
        b = self.batch
        hottest = torch.maximum(self.T_in.detach().expand(b), self.T_right.detach().expand(b))
        T_burnt = self.burnt()[0]
        return y[..., 2].amax(1) > hottest + (T_burnt - hottest).clamp_min(0.0) / 3

    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The pressure curvature [Pa/m^2]."""
        return {"pressure_curvature": z}

    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """T [K], u [m/s], V [1/s], rho [kg/m^3], heat release [W/m^3] and the mass fractions by species."""
        T, Y = y[..., 2], y[..., 3:]
        rho = self.p.reshape(-1, 1) * self.gas.mean_W(Y) / (R * T)
        species = {name: Y[..., k] for k, name in enumerate(self.gas.mechanism.species)}
        return {"T": T, "u": y[..., 0] / rho, "V": y[..., 1], "rho": rho, "heat": self.heat_release(T, Y), **species}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionFlame(CounterflowFlame):
    """Two opposed nozzles, fuel on the left and oxidiser on the right, which burn where they meet.

    `mixture.fuel` is the fuel stream, mixed with `dilution`; `mixture.oxidiser` is the other; `phi` has no meaning and
    stays 1. Fields and eigenvalue are those of `CounterflowFlame`.

    Attributes:
        dilution: Moles of further species in the fuel stream, by name, for the moles of `mixture.fuel`.
    """

    phi: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    dilution: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def fed(self) -> set[str]:
        """Names of the species of both streams."""
        return {*self.mixture.species, *self.dilution}

    def _stream(self, moles: Mapping[str, float]) -> torch.Tensor:
        X = torch.zeros(len(self.gas.W), dtype=torch.float64)
        for name, amount in moles.items():
            X[self.gas.mechanism.index(name)] += amount
        return self.gas.mass_fractions(X)

    @property
    def Y_in(self) -> torch.Tensor:
        """Mass fractions of the fuel stream, (b, K)."""
        moles = dict(self.mixture.fuel)
        for name, amount in self.dilution.items():
            moles[name] = moles.get(name, 0.0) + amount
        return self._stream(moles).expand(self.batch, -1)

    @property
    def Y_right(self) -> torch.Tensor:
        """Mass fractions of the oxidiser, (K,)."""
        return self._stream(self.mixture.oxidiser)

    @property
    def stoichiometric(self) -> float:
        """Mass fraction of the fuel stream in a mixture of both that burns completely."""
        elements = self.gas.mechanism.elements
        need = torch.tensor([{"C": 1.0, "H": 0.25, "O": -0.5}.get(e, 0.0) for e in elements], dtype=torch.float64)
        demand = self.gas.mechanism.composition @ need / self.gas.W  # O2 molecules that a kg of each species takes up
        fuel, oxidiser = float(self.Y_in[0] @ demand), float(-(self.Y_right @ demand))
        if fuel <= 0 or oxidiser <= 0:
            raise MechanismError(
                f"fuel {dict(self.mixture.fuel)} and oxidiser {dict(self.mixture.oxidiser)}: expected one stream that "
                "needs oxygen and one that brings it"
            )
        return oxidiser / (fuel + oxidiser)

    def _mixed(self, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """T and Y of mixtures with these shares (n,) of the fuel stream, burnt; (n,) and (n, K)."""
        Y = self.Y_right + (self.Y_in[:1] - self.Y_right) * share[:, None]
        b = self.batch
        h_left = self.gas.h(self.T_in.expand(b)[:1], self.Y_in[:1])
        h_right = self.gas.h(self.T_right.expand(b)[:1], self.Y_right[None])
        h = h_right + (h_left - h_right) * share
        if self.held:
            inner = share.clamp(1e-3, 1 - 1e-3)
            Y = self.Y_right + (self.Y_in[:1] - self.Y_right) * inner[:, None]
            return equilibrium(self.gas, h, self.p.expand(b)[:1].expand(len(h)), Y)
        products = completely_burnt(self.gas, Y)
        return temperature_of(self.gas, h, products), products

    def burnt(self) -> tuple[torch.Tensor, torch.Tensor]:
        """T (b,) and Y (b, K) of the stoichiometric mixture of both streams, burnt; without gradients."""
        if "_burnt" not in self.__dict__:
            with torch.no_grad():
                T, Y = self._mixed(torch.tensor([self.stoichiometric], dtype=torch.float64))
            object.__setattr__(self, "_burnt", (T.expand(self.batch), Y.expand(self.batch, -1)))
        return self.__dict__["_burnt"]

    def _streams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where two cold inviscid streams stop [m], and sqrt(-Lambda) of theirs; (b, 1, 1) each."""
        b = self.batch
        left, right = (v.detach().expand(b)[:, None, None] for v in (self.mass_flux_left, self.mass_flux_right))
        T_right = self.T_right.detach().expand(b)[:, None, None]
        push_left = left / self.rho_in.detach()[:, None, None].sqrt()
        push_right = right / self.gas.density(self._pressure().detach(), T_right, self.Y_right).sqrt()
        plane = self.length * push_left / (push_left + push_right)
        return plane, push_left / plane

    def _with_flow(self, x: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fields and pressure curvature of two uniform inviscid streams, with V that of the density of T and Y.

        At a distance s from a nozzle, over that of the plane where the streams stop, rho u falls as 1 - s^2 and
        rho V^2 = -Lambda s^2 (K. Seshadri & F. A. Williams, Int. J. Heat Mass Transfer 21, 1978).
        """
        b = self.batch
        left, right = (v.detach().expand(b)[:, None, None] for v in (self.mass_flux_left, self.mass_flux_right))
        plane, push = self._streams()
        before, behind = x / plane, (self.length - x) / (self.length - plane)
        flux = torch.where(x < plane, left * (1 - before**2), -right * (1 - behind**2))
        rho = self.gas.density(self._pressure().detach(), T[..., 0], Y)
        V = push / rho.sqrt() * torch.minimum(before, behind)
        return torch.cat((flux.unsqueeze(-1), V.unsqueeze(-1), T, Y), dim=-1), -push[:, 0, 0].square()

    def alternatives(self) -> list[AbstractFlame]:
        """None: where fuel and oxidiser meet there is no choice."""
        return []

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Burnt mixtures across a mixing layer where two cold streams would stop, and their flow."""
        b = self.batch
        plane, push = self._streams()
        T_right = self.T_right.detach().expand(b)[:, None, None]
        strain = 2 * push / self.gas.density(self._pressure().detach(), T_right, self.Y_right).sqrt()
        share = torch.sigmoid((plane - x) / (0.25 * (4e-4 / strain).sqrt()))
        with torch.no_grad():
            knots = torch.sort(torch.cat((torch.linspace(0, 1, 21), torch.tensor([self.stoichiometric])))).values
            knots = knots.to(torch.float64)
            T_knots, Y_knots = self._mixed(knots)
            ends = torch.tensor([0, -1])
            Y_knots[ends] = torch.stack((self.Y_right, self.Y_in[0]))
            T_knots[ends] = torch.stack((self.T_right.expand(b)[0], self.T_in.expand(b)[0]))
        k = torch.searchsorted(knots, share.contiguous()).clamp(1, len(knots) - 1)
        w = (share - knots[k - 1]) / (knots[k] - knots[k - 1])
        T = T_knots[k - 1] + (T_knots[k] - T_knots[k - 1]) * w
        Y = Y_knots[k - 1] + (Y_knots[k] - Y_knots[k - 1]) * w.unsqueeze(-1)
        return self._with_flow(x, T.unsqueeze(-1), Y)

    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """As of any counterflow flame, and Bilger's mixture fraction Z (1989): 1 in the fuel stream, 0 in the other.

        Z is linear in 2 C/W_C + H/(2 W_H) - O/W_O, the demand for oxygen that no reaction changes.
        """
        need = torch.tensor([{"C": 2.0, "H": 0.5, "O": -1.0}.get(e, 0.0) for e in self.gas.mechanism.elements])
        demand = self.gas.mechanism.composition @ need.to(y) / self.gas.W
        left, right = self.Y_in @ demand, self.Y_right @ demand
        Z = (y[..., 3:] @ demand - right) / (left - right)[:, None]
        return {**super().profiles(y, z), "Z": Z}
