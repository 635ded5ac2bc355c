"""The gas of a flame scene: a mechanism whose reactions and species have addresses, so that each can be sought."""

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from simengine.flame.equations.transport import AbstractTransport, LewisNumbers, MixtureAveraged, Multicomponent
from simengine.flame.gas.document import find
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.scene.strict import Positive, Unit, nearest
from simengine.worlds.flames.terms import ConductivityLaw, RateLaw

LAWS: dict[str, type[AbstractTransport]] = {
    "mixture_averaged": MixtureAveraged,
    "multicomponent": Multicomponent,
    "unity_lewis": LewisNumbers,
}
SMOOTHING = 1e-7  # mol/m^3, of powers of order under 1: moves flame speeds by 5e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReactionNumbers:
    """What of a reaction can be changed or sought; what is left out is the mechanism's.

    Attributes:
        factor: Multiplies the rate constant, at every pressure [1].
        b: Exponent of the temperature, of the high-pressure limit of a fall-off [1].
        Ea: Activation energy, likewise [J/mol].
    """

    factor: Positive = 1.0
    b: Annotated[float, Unit("1")] | None = None
    Ea: Annotated[float, Unit("J/mol")] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeciesNumbers:
    """What of a species can be changed or sought.

    Attributes:
        diffusivity_factor: Multiplies its diffusivity in the mixture [1].
    """

    diffusivity_factor: Positive = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GasSpec:
    """A gas.

    Attributes:
        mechanism: A mechanism in Cantera's YAML format: a file, `asset:methane_1step.yaml`, or the name of one in
            Cantera's data folder, as in `gri30.yaml`.
        phase: Which gas of a file that describes several; unset, the first.
        transport: How heat and species diffuse: each species into the mixture, by the Stefan-Maxwell equations, or as
            heat does (`unity_lewis`; a species' `diffusivity_factor` is then one over its Lewis number).
        soret: With thermal diffusion, which drives light species towards the heat.
        conductivity_factor: Multiplies the conductivity of the mixture [1].
        conductivity_law: Multiplies it besides, as a function of temperature that is sought; none unless given.
        rate_law: Multiplies the rates of all reactions in flames, of temperature or composition; none unless given.
        reactions: Equation as the mechanism writes it -> its numbers; a repeated one is followed by (2), (3), ...
        species: Name -> its numbers.
    """

    mechanism: Path
    phase: str | None = None
    transport: Literal["mixture_averaged", "multicomponent", "unity_lewis"] = "mixture_averaged"
    soret: bool = False
    conductivity_factor: Positive = 1.0
    conductivity_law: ConductivityLaw | None = None
    rate_law: RateLaw | None = None
    reactions: dict[str, ReactionNumbers] = dataclasses.field(default_factory=dict)
    species: dict[str, SpeciesNumbers] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        path = self.mechanism if self.mechanism.is_file() else find(Path(self.mechanism.name))
        if path.is_file():
            set_(self, "mechanism", path.resolve())
        mechanism = self.gas.mechanism
        names = reaction_names(mechanism.reactions.equations)
        for given, known, what in (
            (self.reactions, names, "reactions"),
            (self.species, mechanism.species, "species"),
        ):
            for name in given:
                if name not in known:
                    raise ValueError(f"{what}: {name[:80]!r} is not in {mechanism.name}; {nearest(name, known)}")
        known = ["T", *(f"Y_{name}" for name in mechanism.species)]
        if self.rate_law is not None and self.rate_law.against not in known:
            against = self.rate_law.against
            raise ValueError(f"rate_law.against: {against!r} is not T or a mass fraction; {nearest(against, known)}")
        r = mechanism.reactions
        filled = {}
        for name, b, Ea in zip(names, r.b.tolist(), r.Ea.tolist(), strict=True):
            own = self.reactions.get(name, ReactionNumbers())
            b, Ea = (own.b if own.b is not None else b), (own.Ea if own.Ea is not None else Ea)
            filled[name] = dataclasses.replace(own, b=b, Ea=Ea)
        set_(self, "reactions", filled)
        set_(self, "species", {name: self.species.get(name, SpeciesNumbers()) for name in mechanism.species})

    @property
    def gas(self) -> Gas:
        """Mechanism and properties, read once."""
        path = self.mechanism
        stat = path.stat() if path.is_file() else None
        return _gas(path, self.phase, (stat.st_mtime_ns, stat.st_size) if stat else (0, 0))

    def parameters(self) -> dict[str, Any]:
        """What a flame of a real gas takes: the gas, rate constants and transport factors, tensors where these are."""
        gas, reactions = self.gas, list(self.reactions.values())
        factor = vector(own.factor for own in reactions)
        return {
            "gas": gas,
            "transport": LAWS[self.transport](soret=self.soret),
            "A": gas.rate_parameters.A * factor,
            "A_low": gas.rate_parameters.A_low * factor,
            "b": vector(own.b for own in reactions),
            "Ea": vector(own.Ea for own in reactions),
            "lam_factor": torch.as_tensor(self.conductivity_factor, dtype=torch.float64),
            **({} if self.conductivity_law is None else self.conductivity_law.parameters()),
            **({} if self.rate_law is None else self.rate_law.parameters()),
            "D_factor": vector(own.diffusivity_factor for own in self.species.values()),
        }

    def name_in_flame(self, parts: list[str]) -> str | None:
        """How the equations call a number of the gas, as in `Ea-0`; None for one that they have no name for."""
        if parts[1:] == ["conductivity_factor"]:
            return "lam_factor"
        if parts[1] == "species":
            return f"D_factor-{parts[2]}"
        if parts[-1] in ("b", "Ea"):
            return f"{parts[-1]}-{list(self.reactions).index(parts[2])}"
        return None


@lru_cache(maxsize=8)
def _gas(path: Path, phase: str | None, stamp: tuple[int, int]) -> Gas:
    return Gas(load_mechanism(path, phase=phase), smoothing=SMOOTHING)


def reaction_names(equations: tuple[str, ...]) -> list[str]:
    """The equations, each its own name."""
    seen: dict[str, int] = {}
    names = []
    for equation in equations:
        seen[equation] = seen.get(equation, 0) + 1
        names.append(equation if seen[equation] == 1 else f"{equation} ({seen[equation]})")
    return names


def vector(values: Any) -> torch.Tensor:
    """Numbers and 0-d tensors as one tensor, (n,) float64."""
    entries = list(values)
    if any(isinstance(value, torch.Tensor) for value in entries):
        return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in entries])
    return torch.tensor(entries, dtype=torch.float64)
