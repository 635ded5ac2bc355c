"""Rigid bodies that particles bounce off, slide along or stick to; see `simengine.mpm.boundaries`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from simengine.scene.strict import NonNegative, Positive, Range, Vector

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Collider:
    """What all have.

    Attributes:
        kind: slip (approach only), sticky or friction.
        friction: Coulomb coefficient [1] of kind friction.
        velocity: [m/s].
    """

    kind: Literal["slip", "sticky", "friction"] = "slip"
    friction: NonNegative = 0.0
    velocity: Vector = (0.0, 0.0, 0.0)

    def make(self, values: "Mapping[str, torch.Tensor]") -> Any:
        """The boundary, with tensors in place of some of its numbers."""
        from simengine import mpm

        arguments = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "type"}
        names = {"plane": "Plane", "sphere": "Sphere", "box": "Box", "capsule": "Capsule"}
        kind: Any = getattr(mpm, names[self.type])  # type: ignore[attr-defined]
        return kind(**{**arguments, **values})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneCollider(_Collider):
    """A half space; `point` [m] on it, `normal` into the free side."""

    type: Literal["plane"] = "plane"
    point: Vector
    normal: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class SphereCollider(_Collider):
    """A ball; `center`, `radius` [m], `angular_velocity` [rad/s]."""

    type: Literal["sphere"] = "sphere"
    center: Vector
    radius: Positive
    angular_velocity: Vector = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxCollider(_Collider):
    """A box; `center`, `half_size` [m], `orientation` (quaternion wxyz), `angular_velocity` [rad/s]."""

    type: Literal["box"] = "box"
    center: Vector
    half_size: Annotated[Vector, Range(gt=0)]
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapsuleCollider(_Collider):
    """A cylinder with round ends along the third axis of its frame; `center`, `radius`, `half_length` [m]."""

    type: Literal["capsule"] = "capsule"
    center: Vector
    radius: Positive
    half_length: Positive
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)


ColliderSpec = PlaneCollider | SphereCollider | BoxCollider | CapsuleCollider
