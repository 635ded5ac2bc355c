"""Materials as scenes name them: a table with `type`, density and coefficients."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from simengine.io.model_folder import find_model
from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, Positive, Range, Unit
from simengine.worlds.motion.laws.clay import Clay
from simengine.worlds.motion.laws.grains import Grains
from simengine.worlds.motion.laws.shipped import KnownLaw, TwoModuli
from simengine.worlds.motion.laws.three_axes import ThreeAxes

if TYPE_CHECKING:
    import torch

    from simengine.materials import Material


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jelly(TwoModuli):
    """A soft elastic solid (fixed corotated)."""

    type: Literal["jelly"] = "jelly"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plasticine(TwoModuli):
    """A ductile solid (Hencky, von Mises).

    Attributes:
        yield_stress: Von Mises stress at which it begins to flow [Pa].
        hardening: Rise of the yield stress with the plastic strain [Pa].
    """

    type: Literal["plasticine"] = "plasticine"
    yield_stress: Positive
    hardening: NonNegative = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sand(TwoModuli):
    """Grains (Hencky elasticity, Coulomb friction).

    Attributes:
        friction_angle: Angle of internal friction [degrees].
        cohesion: A log volume strain up to which grains hold together [1].
        volume_correction: Whether grains that were apart press again only when the volume they gained is gone; false
            for the published law without it, by which sand that was thrown stays swollen.
        critical_packing: Packing over that at rest below which grains press on nothing, of explicit steps; 0 for none,
            0.86 brings thrown sand back to its volume [1].
        yield_surface: Drucker-Prager's cone, or Mohr-Coulomb's hexagon inside it: both have the same angle in triaxial
            compression, elsewhere the hexagon is weaker.
    """

    type: Literal["sand"] = "sand"
    friction_angle: Annotated[float, Range(gt=0, lt=90)]
    cohesion: NonNegative = 0.0
    volume_correction: bool = True
    critical_packing: Annotated[float, Range(ge=0, lt=1)] = 0.0
    yield_surface: Literal["drucker_prager", "mohr_coulomb"] = "drucker_prager"

    def law(self, values: "Mapping[str, torch.Tensor | float]") -> dict[str, Any]:
        """As of every law, and what is no unknown: what bounds the volume, and the surface."""
        names = ("volume_correction", "critical_packing", "yield_surface")
        words = {name: getattr(self, name) for name in names}
        return {**super().law(values), **words}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Water(TwoModuli):
    """A weakly compressible fluid."""

    type: Literal["water"] = "water"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StomakhinSnow(TwoModuli):
    """Snow (Stomakhin et al. 2013).

    Attributes:
        hardening: Exponent of the moduli in the compaction [1].
        critical_compression: Strain of compression beyond which it flows [1].
        critical_stretch: Strain of extension beyond which it flows [1].
    """

    type: Literal["snow"] = "snow"
    hardening: NonNegative = 10.0
    critical_compression: Annotated[float, Range(gt=0, lt=1)] = 2.5e-2
    critical_stretch: Positive = 7.5e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rubber(TwoModuli):
    """Neo-Hookean."""

    type: Literal["rubber"] = "rubber"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neural:
    """A learned material, as `simengine train` of a law leaves it.

    Attributes:
        density: rho [kg/m^3].
        weights: A .safetensors file, a model folder, or the run that holds one.
    """

    type: Literal["neural"] = "neural"
    density: Positive = 1000.0
    weights: Path

    def __post_init__(self) -> None:
        if (folder := find_model(self.weights)) is not None:  # a model, or the run that trained it
            object.__setattr__(self, "weights", folder / "weights.safetensors")

    def coefficients(self) -> dict[str, float]:
        """None that could be varied by name."""
        return {}

    def variables(self) -> dict[str, float]:
        """None either."""
        return {}

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material, its weights read from the file."""
        from simengine.materials.weights import load_material

        try:
            return load_material(self.weights)
        except ValueError as error:
            raise SceneError(f"material.weights: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyLaw(KnownLaw):
    """An elastic solid of a law that nobody wrote down: an energy network (`materials.neural_energy`) of few numbers.

    Attributes:
        mu: Shear modulus at rest, in units of `modulus` [1].
        kappa: Bulk modulus at rest, in units of `modulus` [1].
        numbers: Of the combinations of the last weights of random features, the one that changes stress most first [1].
        modulus: Scale of the stress [Pa].
        strain_scale: Strains at which the law is resolved [1].
        width: Random features.
        features: Seed of the features.
    """

    type: Literal["energy_network"] = "energy_network"
    mu: Positive = 0.5
    kappa: Positive = 0.5
    numbers: tuple[Annotated[float, Range(), Unit("1")], ...] = ()
    modulus: Positive = 1e5
    strain_scale: Positive = 0.3
    width: Annotated[int, Range(ge=3, le=1024)] = 48
    features: Annotated[int, Range(ge=0)] = 0

    def __post_init__(self) -> None:
        if len(self.numbers) > self.width - 2:
            raise ValueError(f"numbers: {len(self.numbers)} are more than width - 2, {self.width - 2}")

    def coefficients(self) -> dict[str, float]:
        """None that takes a tensor."""
        return {}

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material, float64."""
        import torch

        from simengine.materials import Identity, Material
        from simengine.materials.energy_basis import energy_network

        network = energy_network(
            torch.tensor([float(self.mu), float(self.kappa)], dtype=torch.float64),
            torch.tensor([float(n) for n in self.numbers], dtype=torch.float64),
            width=self.width,
            modulus=self.modulus,
            strain_scale=self.strain_scale,
            seed=self.features,
        )
        material = Material(network, Identity())
        material.dissipation = self.losses(values)
        return material


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaitWater(KnownLaw):
    """A weakly compressible fluid with Tait's equation of state.

    Attributes:
        K: Bulk modulus at rest [Pa].
        gamma: Exponent of the compression [1].
    """

    type: Literal["tait_water"] = "tait_water"
    K: Positive
    gamma: Positive = 7.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paste(TwoModuli):
    """A Herschel-Bulkley fluid.

    Attributes:
        yield_stress: Von Mises stress at which it begins to flow [Pa].
        consistency: Stress at a rate of 1/s above the yield stress [Pa s^n].
        exponent: n, of the rate [1].
    """

    type: Literal["paste"] = "paste"
    yield_stress: Positive
    consistency: Positive
    exponent: Positive = 1.0

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material at this time step [s]."""
        from simengine import materials

        coefficients: dict[str, Any] = self.law(values)
        material = materials.paste(**coefficients, dt=dt)
        material.dissipation = self.losses(values)
        return material


_Solids = EnergyLaw | Jelly | Rubber | ThreeAxes | Plasticine | Sand | Grains | Clay
MaterialSpec = Neural | _Solids | Water | TaitWater | StomakhinSnow | Paste
