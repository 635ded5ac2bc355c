"""What stops particles: the faces of the grid, and rigid bodies of any pose; their numbers may be parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import nn

from simengine.kernels import contact

FaceKind = Literal["slip", "sticky", "friction", "periodic", "open"]
Kind = Literal["slip", "sticky", "friction"]
Vector = Sequence[float] | torch.Tensor
FACES = ("-x", "+x", "-y", "+y", "-z", "+z")
_MODES = {
    "open": 0,
    "periodic": 0,
    "sticky": contact.STICKY,
    "slip": contact.SEPARATING,
    "friction": contact.SEPARATING,
}


def _keep(module: nn.Module, name: str, value: float | Vector, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Keep a number or vector as a parameter if it is one, otherwise as a float64 buffer.

    Raises:
        ValueError: It is not finite or of none of the shapes.
    """
    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if tuple(tensor.shape) not in shapes or not bool(torch.isfinite(tensor.detach()).all()):
        raise ValueError(f"{name}: expected a finite value of shape {shapes[0]}, got {value!r}")
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


class Walls(nn.Module):
    """Contact of the six faces of the grid.

    `slip` stops the velocity into the wall only (approach-only free slip), `sticky` stops all of it, `friction`
    separates freely and slows sliding by Coulomb friction, `periodic` (both faces of an axis) wraps around, `open` does
    nothing: a particle that reaches the edge of the grid is an error.

    Args:
        kind: One kind for all faces, or kinds by face (`"-x"`, `"+x"`, ...), the others slip.
        friction: Coulomb coefficient of faces of kind `friction`; a number, or a tensor or parameter, 0-d or (6,).
        thickness: The layer of a face: nodes with index < thickness, or > num_grids - thickness.

    Raises:
        ValueError: A kind or face is unknown, or only one face of an axis is periodic.
    """

    friction: torch.Tensor

    def __init__(
        self,
        kind: FaceKind | Mapping[str, FaceKind] = "slip",
        *,
        friction: float | torch.Tensor = 0.0,
        thickness: int = 3,
    ) -> None:
        super().__init__()
        kinds = dict.fromkeys(FACES, kind) if isinstance(kind, str) else {**dict.fromkeys(FACES, "slip"), **kind}
        for face, value in kinds.items():
            if face not in FACES or value not in _MODES:
                raise ValueError(f"walls: expected faces {FACES} and kinds {tuple(_MODES)}, got {face!r}: {value!r}")
        periodic = [kinds[face] == "periodic" for face in FACES]
        for axis in range(3):
            if periodic[2 * axis] != periodic[2 * axis + 1]:
                raise ValueError(f"walls: both faces of axis {'xyz'[axis]} must be periodic, or neither")
        if thickness < 1:
            raise ValueError(f"walls: thickness must be at least 1 node, got {thickness}")
        self.kinds: Mapping[str, str] = kinds
        self.thickness = thickness
        _keep(self, "friction", friction, ((), (6,)))

    @property
    def faces(self) -> tuple[int, int, int, int, int, int]:
        """Contact of each face as the kernels number it."""
        a, b, c, d, e, f = (_MODES[self.kinds[face]] for face in FACES)
        return a, b, c, d, e, f

    @property
    def periodic(self) -> tuple[bool, bool, bool]:
        """Axes that wrap around."""
        return self.kinds["-x"] == "periodic", self.kinds["-y"] == "periodic", self.kinds["-z"] == "periodic"

    def row(self, like: torch.Tensor) -> torch.Tensor:
        """Coulomb coefficient of each face, 0 where it has none, then zeros; shape (23,)."""
        friction = self.friction.to(like)
        mask = torch.tensor([self.kinds[face] == "friction" for face in FACES], device=like.device)
        values = torch.where(mask, friction, torch.zeros_like(friction)).expand(6)
        return torch.cat((values, like.new_zeros(contact.COLUMNS - 6)))


class AbstractBody(nn.Module):
    """A rigid body that moves with constant velocity and angular velocity.

    The contact sets in smoothly over a layer of thickness `width` around the surface, so that the motion is
    differentiable in the pose as well as in velocity and friction.

    Args:
        position: Of the body's frame at time 0 [m], (3,).
        orientation: Quaternion wxyz from the body's frame to the world, any length, (4,).
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient [1] of kind `friction`.
        velocity: Of the frame's origin [m/s], (3,).
        angular_velocity: [rad/s], (3,).
        width: Of the layer [m]; None for one cell.

    Raises:
        ValueError: A value is not finite, out of range or of the wrong shape.
    """

    shape: ClassVar[int]
    position: torch.Tensor
    orientation: torch.Tensor
    friction: torch.Tensor
    velocity: torch.Tensor
    angular_velocity: torch.Tensor

    def __init__(
        self,
        position: Vector,
        orientation: Vector,
        kind: Kind,
        friction: float | torch.Tensor,
        velocity: Vector,
        angular_velocity: Vector,
        width: float | None,
    ) -> None:
        super().__init__()
        if kind not in ("slip", "sticky", "friction"):
            raise ValueError(f"kind must be slip, sticky or friction, got {kind!r}")
        if width is not None and not 0 < width < math.inf:
            raise ValueError(f"width must be positive [m], got {width}")
        self.kind = kind
        self.width = width
        _keep(self, "position", position, ((3,),))
        _keep(self, "orientation", orientation, ((4,),))
        _keep(self, "friction", friction, ((),))
        _keep(self, "velocity", velocity, ((3,),))
        _keep(self, "angular_velocity", angular_velocity, ((3,),))
        if float(self.friction.detach()) < 0 or float(self.orientation.detach().norm()) == 0:
            raise ValueError(f"friction must be >= 0 and orientation not zero, got {friction!r} and {orientation!r}")

    @property
    def mode(self) -> tuple[int, int]:
        """Shape and contact as the kernels number them."""
        return self.shape, _MODES[self.kind]

    def size(self) -> tuple[float, float, float]:
        """The dimensions the kernel reads [m]."""
        return 0.0, 0.0, 0.0

    @property
    def moving(self) -> bool:
        """Whether the pose changes in time."""
        return any(t.requires_grad or bool(t.detach().abs().max() > 0) for t in (self.velocity, self.angular_velocity))

    def rows(self, times: torch.Tensor, dx: float) -> torch.Tensor:
        """Poses at the given times [s], shape (len(times), 23), see `simengine.kernels.contact`."""
        position, quaternion, friction, velocity, spin = (
            t.to(times) for t in (self.position, self.orientation, self.friction, self.velocity, self.angular_velocity)
        )
        count = len(times)
        # exp of the skew matrix of spin * t, a rotation that is smooth in spin also at 0
        turn = torch.linalg.matrix_exp(_skew(spin) * times[:, None, None])
        R = turn @ _rotation(quaternion)
        size = times.new_tensor(self.size())
        mu = friction if self.kind == "friction" else torch.zeros_like(friction)
        width = times.new_full((count, 1), self.width or dx)
        rest = torch.cat((velocity, spin, mu[None], size)).expand(count, -1)
        return torch.cat((position + velocity * times[:, None], R.flatten(1), rest, width), 1)


def _skew(w: torch.Tensor) -> torch.Tensor:
    o = torch.zeros_like(w[0])
    return torch.stack((o, -w[2], w[1], w[2], o, -w[0], -w[1], w[0], o)).reshape(3, 3)


def _rotation(quaternion: torch.Tensor) -> torch.Tensor:
    """Rotation matrix of a quaternion wxyz of any length."""
    w, x, y, z = quaternion / quaternion.norm()
    return torch.stack(
        (
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        )
    ).reshape(3, 3)  # fmt: skip


class Plane(AbstractBody):
    """A half space.

    Args:
        point: A point of the plane [m], (3,).
        normal: Into the free side, any length, (3,).
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient [1].
        velocity: Of the plane [m/s], (3,).
        width: Of the layer over which contact sets in [m]; None for one cell.
    """

    shape = contact.PLANE
    normal: torch.Tensor

    def __init__(
        self,
        *,
        point: Vector,
        normal: Vector,
        kind: Kind = "slip",
        friction: float | torch.Tensor = 0.0,
        velocity: Vector = (0.0, 0.0, 0.0),
        width: float | None = None,
    ) -> None:
        super().__init__(point, (1.0, 0.0, 0.0, 0.0), kind, friction, velocity, (0.0, 0.0, 0.0), width)
        _keep(self, "normal", normal, ((3,),))
        if float(self.normal.detach().norm()) == 0:
            raise ValueError("normal must not be zero; it points into the free side")

    def rows(self, times: torch.Tensor, dx: float) -> torch.Tensor:
        """As of every body; the third axis of the frame is the normal."""
        rows = super().rows(times, dx)
        normal = self.normal.to(times)
        normal = normal / normal.norm()
        R = rows.new_zeros(len(times), 3, 3)
        R = torch.cat((R[:, :, :2], normal[None, :, None].expand(len(times), 3, 1)), 2)
        return torch.cat((rows[:, :3], R.flatten(1), rows[:, 12:]), 1)


class Sphere(AbstractBody):
    """A rigid ball.

    Args:
        center: Of the ball at time 0 [m], (3,).
        radius: [m].
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient [1].
        velocity: [m/s], (3,).
        angular_velocity: [rad/s], (3,).
        width: Of the layer over which contact sets in [m]; None for one cell.
    """

    shape = contact.SPHERE

    def __init__(
        self,
        *,
        center: Vector,
        radius: float,
        kind: Kind = "slip",
        friction: float | torch.Tensor = 0.0,
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
        width: float | None = None,
    ) -> None:
        super().__init__(center, (1.0, 0.0, 0.0, 0.0), kind, friction, velocity, angular_velocity, width)
        if not 0 < radius < math.inf:
            raise ValueError(f"radius must be positive [m], got {radius}")
        self.radius = radius

    def size(self) -> tuple[float, float, float]:
        """Radius."""
        return self.radius, 0.0, 0.0


class Box(AbstractBody):
    """A rigid box.

    Args:
        center: At time 0 [m], (3,).
        half_size: Half of its edges [m], (3,).
        orientation: Quaternion wxyz, (4,).
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient [1].
        velocity: Of its centre [m/s], (3,).
        angular_velocity: [rad/s], (3,).
        width: Of the layer over which contact sets in [m]; None for one cell.
    """

    shape = contact.BOX

    def __init__(
        self,
        *,
        center: Vector,
        half_size: Sequence[float],
        orientation: Vector = (1.0, 0.0, 0.0, 0.0),
        kind: Kind = "slip",
        friction: float | torch.Tensor = 0.0,
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
        width: float | None = None,
    ) -> None:
        super().__init__(center, orientation, kind, friction, velocity, angular_velocity, width)
        if len(half_size) != 3 or not all(0 < h < math.inf for h in half_size):
            raise ValueError(f"half_size must be three positive lengths [m], got {half_size}")
        self.half_size = (float(half_size[0]), float(half_size[1]), float(half_size[2]))

    def size(self) -> tuple[float, float, float]:
        """Half of its edges."""
        return self.half_size


class Capsule(AbstractBody):
    """A rigid cylinder with round ends along the third axis of its frame.

    Args:
        center: At time 0 [m], (3,).
        radius: [m].
        half_length: Half of the straight part [m].
        orientation: Quaternion wxyz, (4,).
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient [1].
        velocity: Of its centre [m/s], (3,).
        angular_velocity: [rad/s], (3,).
        width: Of the layer over which contact sets in [m]; None for one cell.
    """

    shape = contact.CAPSULE

    def __init__(
        self,
        *,
        center: Vector,
        radius: float,
        half_length: float,
        orientation: Vector = (1.0, 0.0, 0.0, 0.0),
        kind: Kind = "slip",
        friction: float | torch.Tensor = 0.0,
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
        width: float | None = None,
    ) -> None:
        super().__init__(center, orientation, kind, friction, velocity, angular_velocity, width)
        if not 0 < radius < math.inf or not 0 <= half_length < math.inf:
            raise ValueError(f"radius must be positive and half_length >= 0 [m], got {radius} and {half_length}")
        self.radius = radius
        self.half_length = half_length

    def size(self) -> tuple[float, float, float]:
        """Radius and half of the straight part."""
        return self.radius, self.half_length, 0.0
