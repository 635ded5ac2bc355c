"""Counterflow flames: fresh gas or fuel from the left against hot gas, inert gas or oxidiser from the right."""

import dataclasses
from collections.abc import Mapping

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.stagnation import AbstractStagnationFlame
from simengine.flame.gas.burnt import completely_burnt, temperature_of
from simengine.flame.gas.equilibrium import equilibrium
from simengine.flame.gas.mechanism import MechanismError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CounterflowFlame(AbstractStagnationFlame):
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

    def fed(self) -> set[str]:
        """Names of the species of both streams."""
        return {*super().fed(), *self.opposed}

    @staticmethod
    def _own() -> tuple[str, ...]:
        return ("mass_flux_left", "mass_flux_right", "T_right")

    def inflows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of both nozzles."""
        return self.mass_flux_left, self.mass_flux_right

    @property
    def Y_right(self) -> torch.Tensor:
        """Mass fractions of the opposed gas, (K,)."""
        X = torch.zeros(len(self.gas.W), dtype=torch.float64)
        for name, amount in self.opposed.items():
            X[self.gas.mechanism.index(name)] = amount
        return self.gas.mass_fractions(X)

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No V, temperature and composition of the opposed gas."""
        return y - self._end(-self.mass_flux_right, self.T_right, self.Y_right)

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The mass flux of the opposed gas."""
        return y[..., :1] + self.mass_flux_right.reshape(-1, 1, 1, 1)

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
        V = (left + right)[:, None, None] * 6 * s * (1 - s) / self.length / (self.ways * rho)
        strain = (left + right) / self.rho_in.detach() / self.length
        return torch.cat((flux.unsqueeze(-1), V.unsqueeze(-1), T, Y), dim=-1), -self.rho_in.detach() * strain**2

    def _streams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where two inviscid streams stop [m], and sqrt(-Lambda) of theirs; (b, 1, 1) each."""
        b = self.batch
        left, right = (v.detach().expand(b)[:, None, None] for v in (self.mass_flux_left, self.mass_flux_right))
        T_right = self.T_right.detach().expand(b)[:, None, None]
        push_left = left / self.rho_in.detach()[:, None, None].sqrt()
        push_right = right / self.gas.density(self._pressure().detach(), T_right, self.Y_right).sqrt()
        plane = self.length * push_left / (push_left + push_right)
        return plane, self.steepness * push_left / plane

    def _with_flow(self, x: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fields and pressure curvature of two uniform inviscid streams, with V that of the density of T and Y.

        About an axis rho u falls as 1 - s^2 and rho V^2 = -Lambda s^2, s being the distance from a nozzle over that of
        the plane where the streams stop (K. Seshadri & F. A. Williams, Int. J. Heat Mass Transfer 21, 1978).
        """
        b = self.batch
        left, right = (v.detach().expand(b)[:, None, None] for v in (self.mass_flux_left, self.mass_flux_right))
        plane, push = self._streams()
        before, behind = x / plane, (self.length - x) / (self.length - plane)
        flux = torch.where(x < plane, left * self.stream(before)[0], -right * self.stream(behind)[0])
        rho = self.gas.density(self._pressure().detach(), T[..., 0], Y)
        V = push / rho.sqrt() * self.stream(torch.minimum(before, behind))[1]
        return torch.cat((flux.unsqueeze(-1), V.unsqueeze(-1), T, Y), dim=-1), -push[:, 0, 0].square()

    def _layer(self, x: torch.Tensor) -> torch.Tensor:
        """Share of the left stream across a mixing layer where both stop."""
        plane, push = self._streams()
        T_right = self.T_right.detach().expand(self.batch)[:, None, None]
        strain = self.ways * push / self.gas.density(self._pressure().detach(), T_right, self.Y_right).sqrt()
        return torch.sigmoid((plane - x) / (0.25 * (4e-4 / strain).sqrt()))

    def mixing(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First guess of fields and eigenvalue where nothing burns: both streams, mixed."""
        b, share = self.batch, self._layer(x)
        T_in, T_right = (v.detach().expand(b)[:, None, None] for v in (self.T_in, self.T_right))
        left, right = self.Y_in.detach()[:, None, None], self.Y_right.detach().expand(b, -1)[:, None, None]
        T, Y = T_right + (T_in - T_right) * share, right + (left - right) * share.unsqueeze(-1)
        return self._with_flow(x, T.unsqueeze(-1), Y)

    def alternatives(self) -> list[AbstractFlame]:
        """Flames nearer to the burner and farther from it."""
        return [dataclasses.replace(self, place=place) for place in (0.2, 0.4)]

    def burning(self, y: torch.Tensor) -> torch.Tensor:
        """A third at least of the way from the hotter stream to the adiabatic temperature."""
        b = self.batch
        hottest = torch.maximum(self.T_in.detach().expand(b), self.T_right.detach().expand(b))
        T_burnt = self.burnt()[0]
        return y[..., 2].amax(1) > hottest + (T_burnt - hottest).clamp_min(0.0) / 3


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

    def alternatives(self) -> list[AbstractFlame]:
        """None: where fuel and oxidiser meet there is no choice."""
        return []

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Burnt mixtures across a mixing layer where two cold streams would stop, and their flow."""
        b, share = self.batch, self._layer(x)
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
