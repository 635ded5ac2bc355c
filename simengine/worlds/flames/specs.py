"""What a flame scene is made of: the flame, its grid, and what is sought in it."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.counterflow import CounterflowFlame, DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.scene.strict import Count, Positive, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeSimple:
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

    def flame(self) -> SimplifiedFlame:
        """The equations."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "type"}
        return SimplifiedFlame(**{k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()})


SMOOTHING = 1e-7  # mol/m^3, of powers of order under 1: moves flame speeds by 5e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free:
    """A freely propagating flame of a real gas.

    Attributes:
        mechanism: A mechanism in Cantera's YAML format: a file, or `asset:methane_1step.yaml`.
        fuel: Moles of each fuel species [mol].
        oxidiser: Moles of each species of the oxidiser [mol].
        phi: Equivalence ratio [1].
        p: Pressure [Pa].
        T_in: Temperature of the fresh gas [K].
    """

    type: Literal["free"] = "free"
    mechanism: Path
    fuel: dict[str, float] = dataclasses.field(default_factory=lambda: {"CH4": 1.0})
    oxidiser: dict[str, float] = dataclasses.field(default_factory=lambda: {"O2": 1.0, "N2": 3.76})
    phi: Positive = 1.0
    p: Positive = 101325.0
    T_in: Positive = 300.0

    def conditions(self) -> dict[str, Any]:
        """What every flame of a real gas is made of."""
        values = {k: torch.tensor(getattr(self, k), dtype=torch.float64) for k in ("phi", "p", "T_in")}
        gas = Gas(load_mechanism(self.mechanism), smoothing=SMOOTHING)
        return {"gas": gas, "mixture": Mixture(self.fuel, self.oxidiser), **values}

    def flame(self) -> FreeFlame:
        """The equations."""
        return FreeFlame(**self.conditions())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counterflow(Free):
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

    def flame(self) -> CounterflowFlame:  # type: ignore[override]
        """The equations."""
        data = self.conditions()
        for name in ("mass_flux_left", "mass_flux_right", "T_right"):
            data[name] = torch.tensor(getattr(self, name), dtype=torch.float64)
        return CounterflowFlame(**data, length=self.length, opposed=self.opposed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Burner(Free):
    """A premixed flame on a porous burner.

    Attributes:
        mass_flux: rho u [kg/(m^2 s)], below that of the free flame.
        length: End of the domain [m].
    """

    type: Literal["burner"] = "burner"  # type: ignore[assignment]
    mass_flux: Positive = 0.2
    length: Positive = 0.02

    def flame(self) -> BurnerFlame:
        """The equations."""
        flux = torch.tensor(self.mass_flux, dtype=torch.float64)
        return BurnerFlame(**self.conditions(), mass_flux=flux, length=self.length)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion(Free):
    """Fuel on the left against oxidiser on the right; `phi` has no meaning here.

    Attributes:
        dilution: Moles of further species in the fuel stream [mol].
        length: Distance of the nozzles [m].
        mass_flux_left: rho u of the fuel stream [kg/(m^2 s)].
        mass_flux_right: Of the oxidiser, towards the left [kg/(m^2 s)].
        T_right: Temperature of the oxidiser [K].
    """

    type: Literal["diffusion"] = "diffusion"  # type: ignore[assignment]
    dilution: dict[str, float] = dataclasses.field(default_factory=dict)
    length: Positive = 0.02
    mass_flux_left: Positive = 0.5
    mass_flux_right: Positive = 1.0
    T_right: Positive = 300.0

    def flame(self) -> DiffusionFlame:  # type: ignore[override]
        """The equations."""
        data = self.conditions()
        for name in ("mass_flux_left", "mass_flux_right", "T_right"):
            data[name] = torch.tensor(getattr(self, name), dtype=torch.float64)
        return DiffusionFlame(**data, length=self.length, dilution=self.dilution)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
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
class NetworkSpec:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sought:
    """One parameter to find.

    Attributes:
        initial: Where the search starts [unit of the key].
        lower: Exclusive lower bound; a positive parameter is sought in its logarithm [unit of the key].
        upper: Exclusive upper bound; None for none [unit of the key].
    """

    initial: float
    lower: float = 0.0
    upper: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileFit:
    """What to find from profiles measured in the flame.

    Attributes:
        parameters: Parameter of the flame -> where to look for it; `offset` [m], by which measured x are too large, is
            one of the measurement, with bounds of both signs.
        profiles: Measured profiles, by name.
        data: CSV file with a header, a column `x` [m] and one for each profile [SI]; None to make data from the scene's
            own flame with the scene's seed.
        points: How many points of made data, spread evenly over `span`.
        span: First and last point of made data [m].
        noise: Relative standard deviation of the data; 0 to estimate it from the residual [1].
        scaling: What the noise is relative to: each value, or the largest of its profile.
        num_iterations: At most so many steps.
    """

    type: Literal["profiles"] = "profiles"
    parameters: dict[str, Sought]
    profiles: tuple[str, ...] = ("T", "u")
    data: Path | None = None
    points: Count = 10
    span: tuple[float, float] = (0.0, 1.5e-3)
    noise: Annotated[float, Range(ge=0, lt=1)] = 0.02
    scaling: Literal["relative", "absolute"] = "relative"
    num_iterations: Count = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedFit:
    """What to find from flame speeds over the equivalence ratio.

    Attributes:
        parameters: Parameter of the flame -> where to look for it.
        data: CSV file with a header and columns `phi`, `flame_speed` [m/s] and, where they differ from the scene's or
            from row to row, `T_in` [K], `p` [Pa] and `sigma`, the standard deviation of each speed [m/s]. A header may
            name another unit, as in `flame_speed [cm/s]`.
        span: Equivalence ratios between which the data are fitted; the others are only drawn [1].
        noise: Relative standard deviation of the data; 0 to estimate it from the residual [1].
        num_iterations: At most so many steps.
    """

    type: Literal["flame_speeds"] = "flame_speeds"
    parameters: dict[str, Sought]
    data: Path
    span: tuple[float, float] = (0.0, 10.0)
    noise: Annotated[float, Range(ge=0, lt=1)] = 0.0
    num_iterations: Count = 15
