"""Rigid bodies that particles bounce off, slide along or stick to; see `simengine.mpm.rigid_bodies`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from simengine.scene.strict import NonNegative, Positive, Range, Vector
from simengine.worlds.motion.paths import PathSpec
from simengine.worlds.motion.shapes import MeshShape

if TYPE_CHECKING:
    import torch

    from simengine.mpm.rigid_bodies import AbstractBody


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Collider:
    """What all have.

    Attributes:
        kind: slip (approach only), sticky or friction.
        friction: Coulomb coefficient [1] of kind friction.
        velocity: [m/s].
        name: For scalars; "" for its number.
        path: A recorded motion that it follows, beside its velocity.
    """

    kind: Literal["slip", "sticky", "friction"] = "slip"
    friction: NonNegative = 0.0
    velocity: Vector = (0.0, 0.0, 0.0)
    name: str = ""
    path: PathSpec | None = None

    def make(self, values: "Mapping[str, torch.Tensor]", *, origin: Vector = (0.0, 0.0, 0.0)) -> Any:
        """The boundary, with tensors in place of some of its numbers, in coordinates that begin at `origin` [m]."""
        from simengine import mpm

        rest = ("type", "name", "path")
        arguments = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in rest}
        names = {"plane": "Plane", "sphere": "Sphere", "box": "Box", "capsule": "Capsule"}
        kind: Any = getattr(mpm, names[self.type])  # type: ignore[attr-defined]
        return self.moved(kind(**self.shifted({**arguments, **self.tensors(values)}, origin)), values)

    def moved(self, body: "AbstractBody", values: "Mapping[str, torch.Tensor]") -> "AbstractBody":
        """The body, following the path if there is one.

        Raises:
            ValueError: The path cannot be read.
        """
        return body if self.path is None else body.follow(self.path.recorded(values))

    def shifted(self, arguments: dict[str, Any], origin: Vector) -> dict[str, Any]:
        """The arguments of the body: its place in coordinates that begin at `origin`, how it is touched in one."""
        import torch

        from simengine.mpm import Surface

        arguments["surface"] = Surface(arguments.pop("kind"), arguments.pop("friction"))
        for name in ("point", "center"):
            if name in arguments and any(origin):
                place = torch.as_tensor(arguments[name], dtype=torch.float64)
                arguments[name] = place - torch.tensor(origin, dtype=torch.float64)
        return arguments

    def variables(self) -> dict[str, float]:
        """The numbers that `make` can take as tensors, by dotted key: friction, pose, velocities, those of a path."""
        found = {"friction": self.friction, **(self.path.variables() if self.path is not None else {})}
        for name in ("point", "normal", "center", "orientation", "velocity", "angular_velocity"):
            found.update({f"{name}.{k}": value for k, value in enumerate(getattr(self, name, ()))})
        return found

    def tensors(self, values: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Whole arguments from values of some of their numbers."""
        import torch

        found = {}
        for name in {key.partition(".")[0] for key in values} - {"path"}:
            start = getattr(self, name)
            if isinstance(start, float):
                found[name] = values[name]
            else:
                rest = torch.tensor(start, dtype=torch.float64)
                found[name] = torch.stack([values.get(f"{name}.{k}", rest[k]).double().cpu() for k in range(len(rest))])
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneCollider(_Collider):
    """A half space.

    Attributes:
        point: On the plane [m].
        normal: Into the free side; its length does not matter [1].
    """

    type: Literal["plane"] = "plane"
    point: Vector
    normal: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class SphereCollider(_Collider):
    """A ball.

    Attributes:
        center: Centre [m].
        radius: Radius [m].
        angular_velocity: About its centre [rad/s].
    """

    type: Literal["sphere"] = "sphere"
    center: Vector
    radius: Positive
    angular_velocity: Vector = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxCollider(_Collider):
    """A box.

    Attributes:
        center: Centre [m].
        half_size: Half its edges [m].
        orientation: Quaternion wxyz of its turn [1].
        angular_velocity: About its centre [rad/s].
    """

    type: Literal["box"] = "box"
    center: Vector
    half_size: Annotated[Vector, Range(gt=0)]
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapsuleCollider(_Collider):
    """A cylinder with round ends along the third axis of its frame.

    Attributes:
        center: Centre [m].
        radius: Radius [m].
        half_length: Half the length of the cylinder, without the ends [m].
        orientation: Quaternion wxyz of its turn [1].
        angular_velocity: About its centre [rad/s].
    """

    type: Literal["capsule"] = "capsule"
    center: Vector
    radius: Positive
    half_length: Positive
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshCollider(_Collider):
    """A closed mesh from a file.

    Attributes:
        file: OBJ, PLY, STL, glTF or OFF.
        center: Where the middle of its bounding box comes to lie [m].
        size: Longest edge of its bounding box [m].
        orientation: Quaternion wxyz of a turn about its centre [1].
        angular_velocity: [rad/s].
        resolution: Samples of the signed distance along the longest edge.
    """

    type: Literal["mesh"] = "mesh"
    file: Path
    center: Vector
    size: Positive
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)
    resolution: Annotated[int, Range(ge=8, le=256)] = 48

    def make(self, values: "Mapping[str, torch.Tensor]", *, origin: Vector = (0.0, 0.0, 0.0)) -> Any:
        """As of every collider."""
        import torch

        from simengine.mpm import MeshBody

        vertices, faces = MeshShape(file=self.file, center=(0.0, 0.0, 0.0), size=self.size).triangles()
        names = ("center", "orientation", "kind", "friction", "velocity", "angular_velocity", "resolution")
        arguments: dict[str, Any] = {name: getattr(self, name) for name in names}
        placed = self.shifted({**arguments, **self.tensors(values)}, origin)
        return self.moved(MeshBody(torch.tensor(vertices), torch.tensor(faces), **placed), values)


ColliderSpec = PlaneCollider | SphereCollider | BoxCollider | CapsuleCollider | MeshCollider
