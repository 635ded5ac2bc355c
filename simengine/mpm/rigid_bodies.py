"""Rigid bodies that particles bounce off, slide along or stick to; their numbers may be parameters."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from torch import nn

from simengine.kernels.matter import contact
from simengine.kernels.matter import signed_distance as shapes
from simengine.mpm.boundaries import MODES, Vector, keep
from simengine.mpm.recorded_path import RecordedPath
from simengine.ops.matter.contact_reference import distance_of

Kind = Literal["slip", "sticky", "friction"]


@dataclasses.dataclass(frozen=True)
class Surface:
    """How particles touch a rigid body.

    Attributes:
        kind: `slip` (approach only), `sticky` or `friction`.
        friction: Coulomb coefficient of kind `friction`, a number, a tensor or an `nn.Parameter`, () [1].
        width: Of a layer of nodes over which contact sets in [m]; None for hard contact of the particles.

    Raises:
        ValueError: A value is out of range.
    """

    kind: Kind = "slip"
    friction: float | torch.Tensor = 0.0
    width: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("slip", "sticky", "friction"):
            raise ValueError(f"kind must be slip, sticky or friction, got {self.kind!r}")
        if self.width is not None and not 0 < self.width < math.inf:
            raise ValueError(f"width must be positive [m], got {self.width}")


class AbstractBody(nn.Module):
    """A rigid body that moves with constant velocity and angular velocity, and along a path where it follows one.

    Contact is hard, at the surface of each particle (`simengine.kernels.matter.hard_contact`). With a `width` it acts
    on the nodes of the grid instead, over a layer of this thickness. Both are differentiable in the pose as well as in
    velocity and friction.

    Args:
        position: Of the body's frame at time 0 [m], (3,).
        orientation: Quaternion wxyz from the body's frame to the world, any length, (4,).
        surface: How particles touch it.
        velocity: Of the frame's origin [m/s], (3,).
        angular_velocity: [rad/s], (3,).

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
        surface: Surface,
        velocity: Vector,
        angular_velocity: Vector,
    ) -> None:
        super().__init__()
        self.kind: Kind = surface.kind
        self.width: float | None = surface.width
        self.path: RecordedPath | None = None
        keep(self, "position", position, ((3,),))
        keep(self, "orientation", orientation, ((4,),))
        keep(self, "friction", surface.friction, ((),))
        keep(self, "velocity", velocity, ((3,),))
        keep(self, "angular_velocity", angular_velocity, ((3,),))
        if float(self.friction.detach()) < 0 or float(self.orientation.detach().norm()) == 0:
            raise ValueError(
                f"friction must be >= 0 and orientation not zero, got {surface.friction!r} and {orientation!r}"
            )

    @property
    def mode(self) -> tuple[int, int]:
        """Shape and contact as the kernels number them."""
        if self.width is not None:
            return self.shape, MODES[self.kind]
        return self.shape, contact.HARD_STICKY if self.kind == "sticky" else contact.HARD_SEPARATING

    def size(self) -> tuple[float, float, float]:
        """The dimensions the kernel reads [m]."""
        return 0.0, 0.0, 0.0

    @property
    def thickness(self) -> float:
        """Twice the depth of its deepest point, or more [m]."""
        return math.inf

    def distance(self, x: torch.Tensor, dx: float) -> torch.Tensor:
        """Signed distance of points (n, 3) at time 0 [m], (n,), without a gradient; of cells `dx` [m]."""
        with torch.no_grad():
            x = x.detach().double().cpu()
            row = self.rows(torch.zeros(1, dtype=torch.float64), dx)[0].cpu()
            arm = (x - row[:3]) @ row[3:12].reshape(3, 3)
            field = getattr(self, "field", None)
            return distance_of(self.shape, arm, row[19:22], field and field.coefficients)[0][:, 0]

    def follow(self, path: RecordedPath | None) -> Self:
        """Displace it along a recorded path, beside its velocity; returns the body."""
        self.path = path
        return self

    def shift(self, times: torch.Tensor) -> torch.Tensor:
        """How far its frame stands from its place at given times (m,) [s], (m, 3) [m]."""
        straight = self.velocity.to(times) * times[:, None]
        return straight if self.path is None else straight + self.path.shift(times)

    @property
    def moving(self) -> bool:
        """Whether the pose changes in time."""
        own = (self.velocity, self.angular_velocity)
        return self.path is not None or any(t.requires_grad or bool(t.detach().abs().max() > 0) for t in own)

    def rows(self, times: torch.Tensor, dx: float, *, step: float = 0.0, since: float = 0.0) -> torch.Tensor:
        """Poses at the given times [s], shape (len(times), 23), see `simengine.kernels.matter.contact`.

        Args:
            times: (m,) [s].
            dx: Edge of a cell [m].
            step: Over which velocities along a path are means [s].
            since: Share of the step that has passed at `times`.
        """
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
        speed = velocity.expand(count, -1)
        if self.path is not None and step > 0:
            speed = speed + self.path.rate(times - since * step, step)
        rest = torch.cat((spin, mu[None], size)).expand(count, -1)
        return torch.cat((position + self.shift(times), R.flatten(1), speed, rest, width), 1)


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
        surface: How particles touch it.
        velocity: Of the plane [m/s], (3,).
    """

    shape = shapes.PLANE
    normal: torch.Tensor

    def __init__(
        self,
        *,
        point: Vector,
        normal: Vector,
        surface: Surface = Surface(),
        velocity: Vector = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__(point, (1.0, 0.0, 0.0, 0.0), surface, velocity, (0.0, 0.0, 0.0))
        keep(self, "normal", normal, ((3,),))
        if float(self.normal.detach().norm()) == 0:
            raise ValueError("normal must not be zero; it points into the free side")

    def rows(self, times: torch.Tensor, dx: float, *, step: float = 0.0, since: float = 0.0) -> torch.Tensor:
        """As of every body; the third axis of the frame is the normal."""
        rows = super().rows(times, dx, step=step, since=since)
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
        surface: How particles touch it.
        velocity: [m/s], (3,).
        angular_velocity: [rad/s], (3,).
    """

    shape = shapes.SPHERE

    def __init__(
        self,
        *,
        center: Vector,
        radius: float,
        surface: Surface = Surface(),
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__(center, (1.0, 0.0, 0.0, 0.0), surface, velocity, angular_velocity)
        if not 0 < radius < math.inf:
            raise ValueError(f"radius must be positive [m], got {radius}")
        self.radius = radius

    @property
    def thickness(self) -> float:
        """As of every body."""
        return 2 * self.radius

    def size(self) -> tuple[float, float, float]:
        """Radius."""
        return self.radius, 0.0, 0.0


class Box(AbstractBody):
    """A rigid box.

    Args:
        center: At time 0 [m], (3,).
        half_size: Half of its edges [m], (3,).
        orientation: Quaternion wxyz, (4,).
        surface: How particles touch it.
        velocity: Of its centre [m/s], (3,).
        angular_velocity: [rad/s], (3,).
    """

    shape = shapes.BOX

    def __init__(
        self,
        *,
        center: Vector,
        half_size: Sequence[float],
        orientation: Vector = (1.0, 0.0, 0.0, 0.0),
        surface: Surface = Surface(),
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__(center, orientation, surface, velocity, angular_velocity)
        if len(half_size) != 3 or not all(0 < h < math.inf for h in half_size):
            raise ValueError(f"half_size must be three positive lengths [m], got {half_size}")
        self.half_size: tuple[float, float, float] = (float(half_size[0]), float(half_size[1]), float(half_size[2]))

    @property
    def thickness(self) -> float:
        """As of every body."""
        return 2 * min(self.half_size)

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
        surface: How particles touch it.
        velocity: Of its centre [m/s], (3,).
        angular_velocity: [rad/s], (3,).
    """

    shape = shapes.CAPSULE

    def __init__(
        self,
        *,
        center: Vector,
        radius: float,
        half_length: float,
        orientation: Vector = (1.0, 0.0, 0.0, 0.0),
        surface: Surface = Surface(),
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__(center, orientation, surface, velocity, angular_velocity)
        if not 0 < radius < math.inf or not 0 <= half_length < math.inf:
            raise ValueError(f"radius must be positive and half_length >= 0 [m], got {radius} and {half_length}")
        self.radius = radius
        self.half_length = half_length

    @property
    def thickness(self) -> float:
        """As of every body."""
        return 2 * self.radius

    def size(self) -> tuple[float, float, float]:
        """Radius and half of the straight part."""
        return self.radius, self.half_length, 0.0
