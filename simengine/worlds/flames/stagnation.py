"""Flames of a scene in a flow that stagnates: against another stream, their own mirror image, or a wall."""

import dataclasses
from typing import Annotated, Any, Literal

from simengine.flame.equations.counterflow import CounterflowFlame, DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.single_nozzle import ImpingingFlame, TwinFlame
from simengine.flame.equations.stagnation import Geometry
from simengine.scene.strict import NonNegative, Positive, Range
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.specs import Free
from simengine.worlds.flames.terms import tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stagnating(Free):
    """A flame in a flow that stagnates.

    Attributes:
        geometry: Of round nozzles, from which gas leaves on all sides, or of long slots, from which it leaves on two.
    """

    geometry: Geometry = "axisymmetric"

    def conditions(self, gas: GasSpec) -> dict[str, Any]:
        """What every flame of a real gas is made of, and the geometry of its flow."""
        return {**super().conditions(gas), "geometry": self.geometry}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counterflow(Stagnating):
    """A premixed flame against an opposed stream.

    Attributes:
        length: Distance of the nozzles [m].
        mass_flux_left: rho u of the fresh gas [kg/(m^2 s)].
        mass_flux_right: Of the opposed gas, towards the left [kg/(m^2 s)].
        T_right: Temperature of the opposed gas [K].
        opposed: Mole fractions of the opposed gas [1].
    """

    type: Literal["counterflow"] = "counterflow"  # type: ignore[assignment]
    length: Positive = 0.02
    mass_flux_left: Positive = 1.0
    mass_flux_right: Positive = 1.0
    T_right: Positive = 300.0
    opposed: dict[str, float] = dataclasses.field(default_factory=lambda: {"N2": 1.0})

    def flame(self, gas: GasSpec) -> CounterflowFlame:  # type: ignore[override]
        """The equations."""
        data = self.conditions(gas)
        for name in ("mass_flux_left", "mass_flux_right", "T_right"):
            data[name] = tensor(getattr(self, name))
        return CounterflowFlame(**data, length=self.length, opposed=self.opposed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Twin(Stagnating):
    """Two nozzles that face each other with the same premixed gas: a flame on each side of the plane between them.

    Attributes:
        length: From a nozzle to the plane of symmetry, half the distance of the nozzles [m].
        mass_flux: rho u of the fresh gas at the nozzle [kg/(m^2 s)].
    """

    type: Literal["twin"] = "twin"  # type: ignore[assignment]
    length: Positive = 0.01
    mass_flux: Positive = 1.0

    def flame(self, gas: GasSpec) -> TwinFlame:  # type: ignore[override]
        """The equations."""
        return TwinFlame(**self.conditions(gas), length=self.length, mass_flux=tensor(self.mass_flux))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impinging(Stagnating):
    """A premixed jet against a wall that takes heat.

    Attributes:
        length: From the nozzle to the wall [m].
        mass_flux: rho u of the fresh gas at the nozzle [kg/(m^2 s)].
        T_wall: Temperature of the wall [K].
    """

    type: Literal["impinging"] = "impinging"  # type: ignore[assignment]
    length: Positive = 0.01
    mass_flux: Positive = 1.0
    T_wall: Positive = 600.0

    def flame(self, gas: GasSpec) -> ImpingingFlame:  # type: ignore[override]
        """The equations."""
        flux, wall = tensor(self.mass_flux), tensor(self.T_wall)
        return ImpingingFlame(**self.conditions(gas), length=self.length, mass_flux=flux, T_wall=wall)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion(Stagnating):
    """Fuel on the left against oxidiser on the right; `phi` has no meaning here.

    Attributes:
        dilution: Moles of further species in the fuel stream [mol].
        length: Distance of the nozzles [m].
        mass_flux_left: rho u of the fuel stream [kg/(m^2 s)].
        mass_flux_right: Of the oxidiser, towards the left [kg/(m^2 s)].
        T_right: Temperature of the oxidiser [K].
        strain: Global strain rate of an oxidiser with the momentum of the fuel, 4 u/length of round nozzles and pi
            u/length of slots, instead of both mass fluxes [1/s].
        agent: Moles of what is mixed into the oxidiser to put the flame out [mol].
        agent_fraction: Mole fraction of the agent in that stream [1].
    """

    type: Literal["diffusion"] = "diffusion"  # type: ignore[assignment]
    dilution: dict[str, float] = dataclasses.field(default_factory=dict)
    length: Positive = 0.02
    mass_flux_left: Positive = 0.5
    mass_flux_right: Positive = 1.0
    T_right: Positive = 300.0
    strain: Positive | None = None
    agent: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
    agent_fraction: Annotated[float, Range(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strain is not None and (self.mass_flux_left, self.mass_flux_right) != (0.5, 1.0):
            raise ValueError("strain: it tells both mass fluxes; leave out mass_flux_left and mass_flux_right")
        if isinstance(self.agent_fraction, float) and self.agent_fraction and not self.agent:
            raise ValueError("agent_fraction: of what? Name it, as in agent = { CO2 = 1.0 }")
        if self.composition is not None:
            raise ValueError(
                "composition: a diffusion flame has two streams, fuel and oxidiser, dilution beside the fuel"
            )

    def flame(self, gas: GasSpec) -> DiffusionFlame:  # type: ignore[override]
        """The equations."""
        data = self.conditions(gas)
        for name in ("mass_flux_left", "mass_flux_right", "T_right"):
            data[name] = tensor(getattr(self, name))
        if self.agent:
            data["mixture"] = Mixture(self.fuel, self._with_agent())
        flame = DiffusionFlame(**data, length=self.length, dilution=self.dilution)
        if self.strain is None:
            return flame
        speed = tensor(self.strain) * self.length / (2 * flame.ways * flame.steepness)
        left, right = flame.rho_in[0], flame.gas.density(flame.p, flame.T_right, flame.Y_right)
        return dataclasses.replace(flame, mass_flux_left=speed * (left * right).sqrt(), mass_flux_right=speed * right)

    def _with_agent(self) -> dict[str, Any]:
        """Moles of the oxidiser with the agent."""
        share = tensor(self.agent_fraction)
        air, whole = sum(self.oxidiser.values()), sum(self.agent.values())
        mixed: dict[str, Any] = {name: (1 - share) * amount / air for name, amount in self.oxidiser.items()}
        for name, amount in self.agent.items():
            mixed[name] = mixed.get(name, 0.0) + share * amount / whole
        return mixed
