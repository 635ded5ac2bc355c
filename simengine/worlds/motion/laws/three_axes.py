"""An elastic solid with three axes, as a scene names it."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from simengine.scene.base import SceneError
from simengine.scene.strict import Range, Vector
from simengine.worlds.motion.laws.shipped import KnownLaw

if TYPE_CHECKING:
    import torch

    from simengine.materials import Material

_THREE = ("E", "nu", "G", "turn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreeAxes(KnownLaw):
    """An elastic solid with three axes, linear in Green's strain: wood, laminates, muscle.

    Attributes:
        E: Young's moduli along the axes 1, 2, 3 [Pa].
        nu: nu_12, nu_13, nu_23: contraction along the second axis in a pull along the first [1].
        G: Shear moduli G_12, G_13, G_23 [Pa].
        turn: Rotation vector from x, y, z to the axes 1, 2, 3 of the undeformed body [rad].
    """

    type: Literal["orthotropic"] = "orthotropic"
    E: Annotated[Vector, Range(gt=0)]
    nu: Vector
    G: Annotated[Vector, Range(gt=0)]
    turn: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        from simengine.materials.orthotropic import refuse_unstable

        refuse_unstable(*([float(value) for value in getattr(self, name)] for name in ("E", "nu", "G")))

    def coefficients(self) -> dict[str, float]:
        """None that could vary over a body."""
        return {}

    def variables(self) -> dict[str, float]:
        """Each entry, and what all laws have."""
        own = {f"{name}.{k}": value for name in _THREE for k, value in enumerate(getattr(self, name))}
        return {**own, **super().variables()}

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material with these numbers."""
        import torch

        from simengine import materials

        def vector(name: str) -> torch.Tensor:
            parts = [values.get(f"{name}.{k}", value) for k, value in enumerate(getattr(self, name))]
            return torch.stack([torch.as_tensor(part, dtype=torch.float64) for part in parts])

        try:
            material = materials.orthotropic(*(vector(name) for name in _THREE))
        except ValueError as error:
            raise SceneError(f"material.{error}") from error
        material.dissipation = self.losses(values)
        return material
