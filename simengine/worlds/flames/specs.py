"""What a flame scene is made of: the flame and its grid."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.detailed import GivenMixture, Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.gas.mechanism import Mechanism
from simengine.scene.strict import Count, NonNegative, Positive, Range, nearest
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.light import Shown
from simengine.worlds.flames.terms import HeatLoss, ImposedTemperature, tensor

METHANE = {"CH4": 1.0}  # burns where nobody says what


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeSimple(Shown):
    """The simplified freely propagating flame; see `SimplifiedFlame` for its equations.

    Attributes:
        lam: Thermal conductivity [W/(m K)].
        cp: Specific heat [J/(kg K)].
        qF: Heat of combustion, of the fuel [J/kg].
        A: Pre-exponential factor, of order 1.6 in rho Y_F [kg^-0.6 m^1.8/s].
        Ea: Activation energy [J/mol].
        W: Molar mass of the gas [kg/mol].
        phi: Equivalence ratio; Y_F,in = phi/(phi + 4) [1].
        p: Pressure at the inlet [Pa].
        T_in: Temperature of the fresh gas [K].
        gradient: T'(0), which fixes where the flame is [K/m].
    """

    type: Literal["free_simple"] = "free_simple"
    lam: Positive = 2.6e-2
    cp: Positive = 1000.0
    qF: Positive = 5e7
    A: Positive = 1.4e8
    Ea: Positive = 1.214172e5
    W: Positive = 28.97e-3
    phi: Positive = 0.42
    p: Positive = 101325.0
    T_in: Positive = 298.0
    gradient: Positive = 1e5

    def flame(self, gas: GasSpec | None = None) -> SimplifiedFlame:
        """The equations."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("type", "body", "light")]
        return SimplifiedFlame(**{name: tensor(getattr(self, name)) for name in names})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free(Shown):
    """A freely propagating flame of a real gas.

    Attributes:
        fuel: Moles of each fuel species [mol].
        oxidiser: Moles of each species of the oxidiser [mol].
        phi: Equivalence ratio [1].
        composition: Moles of each species of the fresh gas, instead of fuel, oxidiser and phi [mol].
        p: Pressure [Pa].
        T_in: Temperature of the fresh gas [K].
        radiation: Heat that the gas loses as light, as far as it is optically thin (CO2, H2O, CH4 and CO), or none.
        radiation_factor: Multiplies that loss, below 1 where burnt gas takes part of it up again [1].
        heat_loss: What the gas loses besides, in a way that is sought; none unless given.
        width: The domain reaches as far at least, most of it behind the flame; None for 500 thicknesses of it [m].
    """

    moved: ClassVar[Mapping[str, str]] = {"mechanism": 'is now a table of its own: [gas] mechanism = "..."'}
    type: Literal["free"] = "free"
    fuel: dict[str, NonNegative] = dataclasses.field(default_factory=lambda: dict(METHANE))
    oxidiser: dict[str, NonNegative] = dataclasses.field(default_factory=lambda: {"O2": 1.0, "N2": 3.76})
    phi: Positive = 1.0
    composition: dict[str, NonNegative] | None = None
    p: Positive = 101325.0
    T_in: Positive = 300.0
    radiation: Literal["none", "optically_thin"] = "none"
    radiation_factor: NonNegative = 1.0
    heat_loss: HeatLoss | None = None
    width: Positive | None = None

    def refuse_unknown_species(self, mechanism: Mechanism) -> None:
        """The fresh gas is of species of the mechanism.

        Raises:
            ValueError: It is not, or nobody said what burns.
        """
        known = mechanism.species
        given = {"fuel": self.fuel, "oxidiser": self.oxidiser} if self.composition is None else {}
        for key, mixture in {**given, "composition": self.composition or {}}.items():
            for name in mixture:
                if name not in known:
                    default = key == "fuel" and mixture == METHANE
                    told = "say what burns, as in fuel = { H2 = 1.0 }, or the composition" if default else ""
                    raise ValueError(
                        f"flame.{key}: {name!r} is not in {mechanism.name}; {told or nearest(name, known)}"
                    )

    def conditions(self, gas: GasSpec) -> dict[str, Any]:
        """What every flame of a real gas is made of."""
        values: dict[str, Any] = {k: tensor(getattr(self, k)) for k in ("phi", "p", "T_in", "radiation_factor")}
        values["radiation"] = None if self.radiation == "none" else self.radiation
        values |= {} if self.heat_loss is None else self.heat_loss.parameters()
        mixture = Mixture(self.fuel, self.oxidiser) if self.composition is None else GivenMixture(self.composition)
        return {**gas.parameters(), "mixture": mixture, **values}

    def flame(self, gas: GasSpec) -> FreeFlame:
        """The equations."""
        return FreeFlame(**self.conditions(gas), width=self.width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Burner(Free):
    """A premixed flame on a porous burner.

    Attributes:
        mass_flux: rho u [kg/(m^2 s)], below that of the free flame.
        length: End of the domain [m].
        temperature: Along x as it was measured, in place of the energy equation; needs a [grid].
    """

    type: Literal["burner"] = "burner"  # type: ignore[assignment]
    mass_flux: Positive = 0.2
    length: Positive = 0.02
    temperature: ImposedTemperature | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is not None and (self.radiation != "none" or self.heat_loss is not None):
            raise ValueError("temperature: is given, so no heat that is lost moves it; remove radiation and heat_loss")

    def flame(self, gas: GasSpec) -> BurnerFlame:
        """The equations."""
        given = {} if self.temperature is None else self.temperature.parameters()
        return BurnerFlame(**self.conditions(gas), **given, mass_flux=tensor(self.mass_flux), length=self.length)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveGrid:
    """An adaptive grid instead of spectral elements; what detailed mechanisms need.

    Attributes:
        ratio: Largest ratio of neighbouring intervals [1].
        slope: Largest change of a field from point to point, over its range [1].
        curve: Largest change of its slope, over the range of its slopes [1].
        prune: Points below this share of the criteria are removed; 0 for none [1].
        max_points: Where refinement stops.
        convection: Of the second order, or upwind of the first, to compare with solvers that upwind.
    """

    ratio: Annotated[float, Range(ge=2)] = 3.0
    slope: Annotated[float, Range(gt=0, le=1)] = 0.05
    curve: Annotated[float, Range(gt=0, le=1)] = 0.1
    prune: Annotated[float, Range(ge=0, lt=1)] = 0.0
    max_points: Count = 1000
    convection: Literal["second_order", "upwind"] = "second_order"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameNetworkSpec:
    """A physics-informed network instead of the solver.

    Attributes:
        members: Networks of an ensemble.
        width: Units of each; None for 60, or 36 of a simplified flame.
        cells: Over which the equations are taken; None for 110, or 181 of a simplified flame.
        optimiser: Levenberg-Marquardt, or a first-order method.
        num_iterations: Steps at most.
    """

    members: Count = 1
    width: Count | None = None
    cells: Count | None = None
    optimiser: Literal["lm", "adam", "lbfgs", "soap"] = "lm"
    num_iterations: Count = 30
