"""What all materials of a scene have whose law is known by formula: density, losses, and coefficients by name."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from simengine.scene.strict import NonNegative, Positive, Range

if TYPE_CHECKING:
    import torch

    from simengine.materials import Dissipation, Material

Poisson = Annotated[float, Range(gt=-1, lt=0.5)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxwellBranches:
    """Maxwell branches: held still after a sudden strain, stress is (1 + sum share exp(-t / time)) of that at rest.

    Attributes:
        times: Of the branches [s].
        shares: Modulus of each over that of the law, which is the one at rest [1].
    """

    times: Annotated[tuple[float, ...], Range(gt=0)]
    shares: Annotated[tuple[float, ...], Range(ge=0)]

    def __len__(self) -> int:
        return len(self.times)

    def __post_init__(self) -> None:
        if len(self.times) != len(self.shares):
            raise ValueError(f"shares: one for each of the {len(self.times)} times, got {len(self.shares)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayleighDamping:
    """Forces -(mass M + stiffness K) v: a mode of angular frequency w falls off at the rate (mass + stiffness w^2) / 2.

    Attributes:
        mass: In proportion to the mass [1/s].
        stiffness: In proportion to the stiffness [s].
    """

    mass: NonNegative = 0.0
    stiffness: NonNegative = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownLaw:
    """What all have whose law is known by formula.

    Attributes:
        density: rho [kg/m^3].
        viscosity: Newtonian, beside the law [Pa s].
        relaxation: Maxwell branches beside the law.
        damping: Rayleigh's, beside the law.
    """

    density: Positive = 1000.0
    viscosity: NonNegative = 0.0
    relaxation: MaxwellBranches | None = None
    damping: RayleighDamping | None = None

    def coefficients(self) -> dict[str, float]:
        """The coefficients of the law by name."""
        left = ("type", "density", "viscosity", "relaxation", "damping", "volume_correction", "critical_packing")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left}

    def variables(self) -> dict[str, float]:
        """All that `make` can take as tensors: coefficients, viscosity, the numbers of the branches and of damping."""
        found = {**self.coefficients(), "viscosity": self.viscosity}
        if self.relaxation is not None:
            for name in ("times", "shares"):
                found.update({f"relaxation.{name}.{k}": v for k, v in enumerate(getattr(self.relaxation, name))})
        if self.damping is not None:
            found.update({f"damping.{name}": value for name, value in vars(self.damping).items()})
        return found

    def losses(self, values: "Mapping[str, torch.Tensor | float]") -> "Dissipation | None":
        """Viscosity, branches, damping; None where nothing is lost and no viscosity is sought."""
        import torch

        from simengine.materials import Dissipation

        if self.viscosity == 0 and "viscosity" not in values and self.relaxation is None and self.damping is None:
            return None

        def vector(name: str) -> torch.Tensor:
            given = () if self.relaxation is None else getattr(self.relaxation, name)
            parts = [values.get(f"relaxation.{name}.{k}", v) for k, v in enumerate(given)]
            empty = torch.zeros(0, dtype=torch.float64)
            return torch.stack([torch.as_tensor(part, dtype=torch.float64) for part in parts]) if parts else empty

        viscosity = torch.as_tensor(values.get("viscosity", self.viscosity), dtype=torch.float64)
        damping = {
            f"{name}_damping": torch.as_tensor(values.get(f"damping.{name}", value), dtype=torch.float64)
            for name, value in vars(self.damping or RayleighDamping()).items()
        }
        return Dissipation(viscosity, vector("times"), vector("shares"), **damping)

    def law(self, values: "Mapping[str, torch.Tensor | float]") -> "dict[str, torch.Tensor | float]":
        """The coefficients with those given in their place."""
        own = self.coefficients()
        return {**own, **{name: value for name, value in values.items() if name in own}}

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material with these coefficients; a tensor among them passes its gradient on.

        Args:
            values: In place of the coefficients of the same name.
            dt: Time step [s], for laws of rate.
        """
        from simengine import materials

        factory: Any = getattr(materials, self.type)  # type: ignore[attr-defined]
        material: Material = factory(**self.law(values))
        material.dissipation = self.losses(values)
        return material


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoModuli(KnownLaw):
    """Those with two moduli.

    Attributes:
        E: Young's modulus [Pa].
        nu: Poisson's ratio [1].
    """

    E: Positive
    nu: Poisson
