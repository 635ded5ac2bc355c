"""Flames of real gases: mixture-averaged transport with a correction flux, detailed kinetics, ideal gas.

Energy and species, with the mass flux rho u (M of a free flame, m(x) of a counterflow):

    0 = (lam T')' - (rho u cp + sum_k j_k cp_k) T' - sum_k h_k W_k w_k
    0 = -j_k' - rho u Y_k' + W_k w_k,    j_k = -rho (W_k/W) D_k X_k' - Y_k sum_l (the first term of l)

(R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, chapters 6, 12 and 16). The species of
the inlet's diluent closes the system: sum_k Y_k = 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.conductivity_law import scale
from simengine.flame.equations.heat_loss import lost
from simengine.flame.equations.rate_law import scaled
from simengine.flame.equations.transport import AbstractTransport, MixtureAveraged, Multicomponent, State
from simengine.flame.gas.burnt import completely_burnt, temperature_of
from simengine.flame.gas.equilibrium import equilibrium
from simengine.flame.gas.mechanism import Mechanism, MechanismError
from simengine.flame.gas.thermochemistry import Gas, RateParameters
from simengine.flame.gas.units import R

AIR = {"O2": 1.0, "N2": 3.76}
RATES = tuple(field.name for field in dataclasses.fields(RateParameters))


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Fuel and oxidiser, mixed by equivalence ratio.

    Attributes:
        fuel: Moles of each fuel species.
        oxidiser: Moles of each species of the oxidiser, O2 among them.
    """

    fuel: Mapping[str, float]
    oxidiser: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(AIR))

    def moles(self, mechanism: Mechanism) -> tuple[torch.Tensor, torch.Tensor]:
        """Moles of fuel, and of oxidiser that burns them completely, (K,) each.

        Raises:
            MechanismError: A species is not in the mechanism, or the fuel does not burn.
        """
        fuel, oxidiser = torch.zeros(2, len(mechanism.species), dtype=torch.float64)
        for name, amount in self.fuel.items():
            fuel[mechanism.index(name)] = amount
        for name, amount in self.oxidiser.items():
            oxidiser[mechanism.index(name)] = amount
        need = torch.tensor(
            [{"C": 1.0, "H": 0.25, "O": -0.5}.get(e, 0.0) for e in mechanism.elements], dtype=fuel.dtype
        )
        demand, supply = fuel @ mechanism.composition @ need, oxidiser[mechanism.index("O2")]
        if not bool(demand > 0) or not bool(supply > 0):
            raise MechanismError(f"fuel {dict(self.fuel)} and oxidiser {dict(self.oxidiser)}: expected a fuel and O2")
        return fuel, oxidiser * demand / supply

    def mass_fractions(self, gas: Gas, phi: torch.Tensor) -> torch.Tensor:
        """Y of the mixture at equivalence ratios phi (b,), shape (b, K)."""
        fuel, oxidiser = self.moles(gas.mechanism)
        return gas.mass_fractions(phi[:, None] * fuel + oxidiser)

    def closing(self, mechanism: Mechanism) -> int:
        """The most abundant species of the oxidiser other than O2."""
        others = {name: n for name, n in self.oxidiser.items() if name != "O2"}
        return mechanism.index(max(others, key=lambda name: others[name]) if others else "O2")

    @property
    def sought(self) -> bool:
        """Whether an amount is a tensor, which may have a gradient."""
        return any(isinstance(n, torch.Tensor) for n in (*self.fuel.values(), *self.oxidiser.values()))

    @property
    def species(self) -> set[str]:
        """Names of what is in it."""
        return {*self.fuel, *self.oxidiser}

    def told(self, phi: float) -> str:
        """The mixture at an equivalence ratio, for messages."""
        return f"phi = {phi:g}"


@dataclasses.dataclass(frozen=True)
class GivenMixture(Mixture):
    """A mixture told species by species; an equivalence ratio has no meaning beside it.

    Attributes:
        amounts: Moles of each species, in any unit; tensors that require a gradient get one.
    """

    fuel: Mapping[str, float] = dataclasses.field(default_factory=dict, init=False)
    oxidiser: Mapping[str, float] = dataclasses.field(default_factory=dict, init=False)
    amounts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def mass_fractions(self, gas: Gas, phi: torch.Tensor) -> torch.Tensor:
        """Y of the mixture, (b, K), the same for all phi (b,).

        Raises:
            MechanismError: A species is not in the mechanism, or there is nothing.
        """
        X = torch.zeros(len(gas.mechanism.species), dtype=torch.float64)
        for name, amount in self.amounts.items():
            if isinstance(amount, torch.Tensor) or amount:
                one = torch.zeros_like(X)
                one[gas.mechanism.index(name)] = 1.0
                X = X + one * amount
        if not bool(X.sum() > 0):
            raise MechanismError(f"composition {dict(self.amounts)}: expected amounts of species")
        return gas.mass_fractions(X).expand(len(phi), -1)

    @property
    def sought(self) -> bool:
        """Whether an amount is a tensor, which may have a gradient."""
        return any(isinstance(n, torch.Tensor) for n in self.amounts.values())

    def closing(self, mechanism: Mechanism) -> int:
        """The most abundant species that takes up no oxygen, other than O2; O2 where there is none."""
        need = torch.tensor([{"C": 1.0, "H": 0.25, "O": -0.5}.get(e, 0.0) for e in mechanism.elements])
        demand = mechanism.composition @ need.to(mechanism.composition)
        inert = {
            name: n
            for name, n in self._plain().items()
            if name != "O2" and n > 0 and float(demand[mechanism.index(name)]) <= 0
        }
        return mechanism.index(max(inert, key=lambda name: inert[name]) if inert else "O2")

    @property
    def species(self) -> set[str]:
        """Names of what is in it."""
        return {name for name, n in self.amounts.items() if isinstance(n, torch.Tensor) or n > 0}

    def told(self, phi: float) -> str:
        """The mixture, for messages."""
        return "the mixture " + ", ".join(f"{name} {n:g}" for name, n in self._plain().items() if n > 0)

    def _plain(self) -> dict[str, float]:
        return {k: float(v.detach() if isinstance(v, torch.Tensor) else v) for k, v in self.amounts.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractDetailedFlame(AbstractFlame):
    """What flames of real gases share. Every tensor may require a gradient.

    Attributes:
        gas: Mechanism and properties.
        mixture: Of the fresh gas.
        phi: Its equivalence ratio, () or (b,).
        p: Pressure [Pa], () or (b,).
        T_in: Temperature of the fresh gas [K], () or (b,).
        A: Pre-exponential factors, (R,) as in `Reactions`; None for the mechanism's, as the next six.
        b: Temperature exponents.
        Ea: Activation energies [J/mol].
        orders: Exponents of the concentrations, (R, K).
        A_low: Pre-exponential factors of the low-pressure limits, (R,), as the next two.
        b_low: Their temperature exponents.
        Ea_low: Their activation energies [J/mol].
        lam_factor: Multiplies the conductivity; ().
        conductivity_law: Weights of a network of temperature that multiplies the conductivity besides, (n,) [1]; empty
            for none. See `conductivity_law.py`.
        conductivity_law_units: Where its units stand, (n,) [K].
        rate_law: Weights of a network that multiplies the rates of all reactions, (n,) [1]; empty for none. See
            `rate_law.py`.
        rate_law_units: Where its units stand, (n,) [K], or [1] of a mass fraction.
        rate_law_against: What it hangs on: `T`, or the mass fraction of a species, as in `Y_O2`.
        D_factor: Multiplies the diffusivity of each species; (K,).
        transport: How heat and species diffuse.
        radiation: Heat that the gas loses by light; None for none.
        radiation_factor: Multiplies it; ().
        heat_loss: Weights of a network of temperature, for what is lost besides, (n,) [W/(m^3 K)]; see `heat_loss.py`.
        heat_loss_units: Where its units stand, (n,) [K].
    """

    gas: Gas
    mixture: Mixture
    phi: torch.Tensor
    p: torch.Tensor
    T_in: torch.Tensor
    A: torch.Tensor | None = None
    b: torch.Tensor | None = None
    Ea: torch.Tensor | None = None
    orders: torch.Tensor | None = None
    A_low: torch.Tensor | None = None
    b_low: torch.Tensor | None = None
    Ea_low: torch.Tensor | None = None
    lam_factor: torch.Tensor | None = None
    conductivity_law: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    conductivity_law_units: torch.Tensor = dataclasses.field(
        default_factory=lambda: torch.zeros(0, dtype=torch.float64)
    )
    rate_law: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    rate_law_units: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    rate_law_against: str = "T"
    D_factor: torch.Tensor | None = None
    transport: AbstractTransport = dataclasses.field(default_factory=MixtureAveraged)
    radiation: Literal["optically_thin"] | None = None
    radiation_factor: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    heat_loss: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    heat_loss_units: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def __post_init__(self) -> None:
        stored = self.gas.rate_parameters
        for name in RATES:
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(stored, name))
        if self.lam_factor is None:
            object.__setattr__(self, "lam_factor", torch.ones((), dtype=torch.float64))
        if self.D_factor is None:
            object.__setattr__(self, "D_factor", torch.ones(len(self.gas.W), dtype=torch.float64))
        for name in ("phi", "p", "T_in"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            object.__setattr__(self, name, value)
            if value.dim() > 1 or not bool((value.detach() > 0).all()):
                raise ValueError(f"{name}: expected positive numbers of shape () or (b,), got {value.tolist()}")
        sizes = {getattr(self, name).numel() for name in ("phi", "p", "T_in")} - {1}
        if len(sizes) > 1:
            raise ValueError(f"phi, p, T_in of shape (b,) must agree in b, got sizes {sorted(sizes)}")

    @property
    def batch(self) -> int:
        """Number of conditions b."""
        return max(getattr(self, name).numel() for name in ("phi", "p", "T_in"))

    def parameters(self) -> dict[str, torch.Tensor]:
        """Conditions, rates and transport factors, by name."""
        names = ("phi", "p", "T_in", *RATES, "lam_factor", "D_factor", "radiation_factor", "heat_loss")
        names = (*names, "conductivity_law", "rate_law", *self._own())
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def _own() -> tuple[str, ...]:
        """Further parameters of a kind of flame."""
        return ()

    def replace(self, **parameters: torch.Tensor) -> "AbstractDetailedFlame":
        """The same flame with some parameters replaced; `Ea-3` is entry 3 of `Ea`, `D_factor-CH4` that of CH4."""
        known, changed = self.parameters(), dict[str, Any]()
        for name, value in parameters.items():
            base, _, entry = name.partition("-")
            if base not in known:
                raise ValueError(f"{name}: no parameter of this flame; known: {', '.join(known)}")
            current = changed.get(base, known[base])
            if not entry:
                changed[base] = value.reshape(current.shape) if value.numel() == current.numel() else value
                continue
            k = int(entry) if entry.isdigit() else self.gas.mechanism.index(entry)
            mask = torch.zeros(current.shape[-1], dtype=torch.bool)
            mask[k] = True
            changed[base] = torch.where(mask, value, current)
        return dataclasses.replace(self, **changed)

    def fed(self) -> set[str]:
        """Names of the species of all streams."""
        return self.mixture.species

    def reduced(self) -> "AbstractDetailedFlame":
        """The same flame in the species that reactions can make from those fed: the others are nowhere in it.

        Of GRI-Mech 3.0 a flame of hydrogen in argon keeps 9 species of 53.
        """
        part = self.gas.reaching(self.fed())
        if len(part.species) == len(self.gas.W):
            return self
        own = self.parameters()
        changed: dict[str, Any] = {name: own[name][part.reactions] for name in RATES}
        changed["orders"] = changed["orders"][:, part.species]
        return dataclasses.replace(self, gas=part.gas, D_factor=own["D_factor"][part.species], **changed)

    def simpler(self) -> "AbstractDetailedFlame | None":
        """With mixture-averaged transport, where it is multicomponent."""
        if not isinstance(self.transport, Multicomponent):
            return None
        return dataclasses.replace(self, transport=MixtureAveraged())

    def parameter(self, name: str) -> torch.Tensor:
        """One parameter, or one of its entries, by the names that `replace` takes."""
        base, _, entry = name.partition("-")
        if base not in self.parameters():
            raise ValueError(f"{name}: no parameter of this flame; known: {', '.join(self.parameters())}")
        value = self.parameters()[base]
        return value if not entry else value[int(entry) if entry.isdigit() else self.gas.mechanism.index(entry)]

    @property
    def loses(self) -> bool:
        """Whether heat leaves the gas."""
        return self.radiation is not None or len(self.heat_loss) > 0

    @property
    def rates(self) -> RateParameters:
        """The rate parameters of this flame."""
        return RateParameters(*(getattr(self, name) for name in RATES))

    @property
    def Y_in(self) -> torch.Tensor:
        """Mass fractions of the fresh gas, (b, K)."""
        if "_Y_in" in self.__dict__:
            return self.__dict__["_Y_in"]
        Y = self.mixture.mass_fractions(self.gas, self.phi.expand(self.batch))
        if not (self.phi.requires_grad or self.mixture.sought):  # asked for by every residual
            object.__setattr__(self, "_Y_in", Y)
        return Y

    @property
    def rho_in(self) -> torch.Tensor:
        """Density of the fresh gas [kg/m^3], (b,)."""
        return self.gas.density(self.p.expand(self.batch), self.T_in.expand(self.batch), self.Y_in)

    def burnt(self) -> tuple[torch.Tensor, torch.Tensor]:
        """T (b,) [K] and Y (b, K) after adiabatic combustion, without gradients.

        Chemical equilibrium where reactions are reversible; complete combustion where none is.
        """
        if "_burnt" not in self.__dict__:
            with torch.no_grad():
                object.__setattr__(self, "_burnt", self._burn(self.T_in.expand(self.batch), self.Y_in))
        return self.__dict__["_burnt"]

    def _burn(self, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.gas.h(T, Y)
        if bool(self.gas.mechanism.reactions.reversible.any()):
            return equilibrium(self.gas, h, self.p.expand(len(h)), Y)
        products = completely_burnt(self.gas, Y)
        return temperature_of(self.gas, h, products), products

    @property
    def held(self) -> tuple[int, ...]:  # type: ignore[override]
        """Temperature and flow, while radicals form that no guess has."""
        return tuple(range(self.fields.index("T") + 1)) if bool(self.gas.mechanism.reactions.reversible.any()) else ()

    @property
    def positive(self) -> tuple[int, ...]:  # type: ignore[override]
        """The species."""
        first = self.fields.index("T") + 1
        return tuple(range(first, first + len(self.gas.W)))

    @property
    def least(self) -> float:
        """Least mass fraction Newton may pass through on its way; radicals do not bear much below 0."""
        return -1e-3 if self.held else -0.05

    @property
    def closing(self) -> int:
        """The species whose equation is replaced by sum Y = 1: an abundant one that does not burn."""
        return self.mixture.closing(self.gas.mechanism)

    def _pressure(self) -> torch.Tensor:
        return self.p.reshape(-1, 1, 1)

    def diffusive_flux(
        self, T: torch.Tensor, Y: torch.Tensor, dT: torch.Tensor, dY: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lam [W/(m K)], (...), and j_k [kg/(m^2 s)], (..., K)."""
        assert self.D_factor is not None  # set where the flame is made
        lam, j = self.transport.fluxes(self.gas, State(self._pressure(), T, Y, dT, dY), self.D_factor)
        return scale(self, T) * lam, j

    def convection(self, mass_flux: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Mass flux times cp/lam [1/m], the inverse of the length over which heat is carried against the flow."""
        lam = scale(self, T) * self.gas.conductivity(T, Y)
        return mass_flux * self.gas.cp(T, Y) / lam

    def heat_release(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """-sum_k h_k W_k w_k [W/m^3] at q points, (b, q), of T (b, q) and Y (b, q, K)."""
        T, Y = T.unsqueeze(1), Y.unsqueeze(1)
        C = (self._pressure() / (R * T) * self.gas.mean_W(Y)).unsqueeze(-1) * Y / self.gas.W
        made = scaled(self, T, Y, self.gas.production(T, C, self.rates)) * self.gas.W
        return -(self.gas.h_species(T) * made).sum(-1)[:, 0]

    def energy_and_species(
        self, mass_flux: torch.Tensor, T: torch.Tensor, Y: torch.Tensor, dT: torch.Tensor, dY: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fluxes lam T' and -j_k, and sources of T and of Y_k, with sum Y = 1 in place of the closing species."""
        gas = self.gas
        lam, j = self.diffusive_flux(T, Y, dT, dY)
        C = (self._pressure() / (R * T) * gas.mean_W(Y)).unsqueeze(-1) * Y / gas.W
        made = scaled(self, T, Y, gas.production(T, C, self.rates)) * gas.W
        cp = gas.cp_species(T)
        convection = (mass_flux * (cp * Y).sum(-1) + (cp * j).sum(-1)) * dT
        heat = (gas.h_species(T) * made).sum(-1)
        if self.loses:
            heat = heat + lost(self, T, Y)
        species = made - mass_flux.unsqueeze(-1) * dY
        closed = torch.zeros(len(gas.W), dtype=torch.bool)
        closed[self.closing] = True
        species = torch.where(closed, Y.sum(-1, keepdim=True) - 1, species)
        return lam * dT, torch.where(closed, 0.0, -j), -convection - heat, species
