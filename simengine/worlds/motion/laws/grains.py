"""Grains in rapid flow, as a scene names them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from simengine.scene.base import SceneError
from simengine.scene.strict import Positive
from simengine.worlds.motion.laws.shipped import TwoModuli

if TYPE_CHECKING:
    import torch

    from simengine.materials import Material


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grains(TwoModuli):
    """Grains in rapid flow (Hencky elasticity, mu(I) friction of Jop, Forterre, Pouliquen 2006).

    Attributes:
        static: mu_s, shear stress over pressure at which flow begins [1].
        fast: mu_2, of rapid flow [1].
        number: I_0, the inertial number at which friction is half way between [1].
        diameter: Of a grain [m].
        grain_density: Of a grain itself, where `density` counts the gaps [kg/m^3].
    """

    type: Literal["grains"] = "grains"
    static: Positive = 0.38
    fast: Positive = 0.64
    number: Positive = 0.28
    diameter: Positive
    grain_density: Positive = 2500.0

    def __post_init__(self) -> None:
        if not self.fast > self.static:
            raise ValueError(f"fast: must lie above static, {float(self.static):g}, got {float(self.fast):g}")

    def friction(self, rate: "torch.Tensor", pressure: "torch.Tensor") -> "torch.Tensor":
        """mu(I) [1] at shear rates [1/s] and pressures [Pa]."""
        number = rate * self.diameter * (self.grain_density / pressure) ** 0.5
        return self.static + (self.fast - self.static) * number / (self.number + number)

    def make(self, values: "Mapping[str, torch.Tensor | float]", *, dt: float) -> "Material":
        """The material at this time step [s]."""
        from simengine import materials

        coefficients: dict[str, Any] = self.law(values)
        try:
            material = materials.grains(**coefficients, dt=dt)
        except ValueError as error:
            raise SceneError(f"material: {error}") from error
        material.dissipation = self.losses(values)
        return material
