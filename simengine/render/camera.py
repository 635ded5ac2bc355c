"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; the centre of pixel 0 is at 0.5."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

DEFAULT_FOV = math.radians(40.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinholeCamera:
    """One camera, or a batch of them: every tensor may have the same leading dimensions.

    Both tensors are differentiable: pose and intrinsics can be found from images.

    Attributes:
        world_to_camera: Rigid transform of homogeneous world points [m] to camera points [m], shape (..., 4, 4).
        intrinsics: Focal lengths and principal point (fx, fy, cx, cy) [pixel], shape (..., 4).
        width: Pixels in a row.
        height: Rows.

    Raises:
        ValueError: Shapes disagree, or the picture is empty.
    """

    world_to_camera: torch.Tensor
    intrinsics: torch.Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.world_to_camera.shape[-2:] != (4, 4):
            raise ValueError(f"world_to_camera: expected shape (..., 4, 4), got {tuple(self.world_to_camera.shape)}")
        if self.intrinsics.shape != (*self.world_to_camera.shape[:-2], 4):
            raise ValueError(
                f"intrinsics: expected shape {(*self.world_to_camera.shape[:-2], 4)} for (fx, fy, cx, cy), "
                f"got {tuple(self.intrinsics.shape)}"
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(f"width, height: expected at least 1 pixel each, got {self.width} x {self.height}")

    @classmethod
    def look_at(
        cls,
        eye: torch.Tensor | Sequence[float],
        target: torch.Tensor | Sequence[float] = (0.0, 0.0, 0.0),
        *,
        up: torch.Tensor | Sequence[float] = (0.0, 1.0, 0.0),
        fov_y: float | torch.Tensor = DEFAULT_FOV,
        width: int = 256,
        height: int = 256,
        dtype: torch.dtype | None = None,
    ) -> "PinholeCamera":
        """A camera at `eye` that looks at `target`, differentiable in both.

        Args:
            eye: Position of the camera [m], shape (..., 3).
            target: Point in the middle of the picture [m], shape (..., 3).
            up: Direction that points up in the picture, shape (..., 3).
            fov_y: Vertical field of view [rad].
            width: Pixels in a row.
            height: Rows.
            dtype: Of numbers; None for that of `eye` where it is a tensor, else float32.

        Raises:
            ValueError: `up` is parallel to the line of sight, or `eye` is `target`.
        """
        dtype = dtype or (eye.dtype if isinstance(eye, torch.Tensor) else torch.float32)
        device = eye.device if isinstance(eye, torch.Tensor) else None
        tensors = [torch.as_tensor(value, dtype=dtype, device=device) for value in (eye, target, up)]
        centre, aim, upward = torch.broadcast_tensors(*tensors)
        forward = aim - centre
        right = torch.linalg.cross(forward, upward)
        sine = right.norm(dim=-1) / (forward.norm(dim=-1) * upward.norm(dim=-1)).clamp_min(1e-30)
        if not bool((sine > 1e-6).all()):
            k = int((sine.reshape(-1) > 1e-6).int().argmin())
            seen = ", ".join(
                f"{name} {value.detach().reshape(-1, 3)[k].tolist()}"
                for name, value in (("eye", centre), ("target", aim), ("up", upward))
            )
            raise ValueError(
                f"camera: eye must differ from target, and up must not be parallel to the line of sight; got {seen}"
            )
        forward = torch.nn.functional.normalize(forward, dim=-1)
        right = torch.nn.functional.normalize(right, dim=-1)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
        translation = -(rotation @ centre[..., None])[..., 0]
        focal = height / 2 / torch.tan(torch.as_tensor(fov_y, dtype=dtype, device=device) / 2)
        ones = torch.ones(centre.shape[:-1], dtype=dtype, device=device)
        return cls(
            world_to_camera=rigid(rotation, translation),
            intrinsics=torch.stack([focal * ones, focal * ones, ones * (width / 2), ones * (height / 2)], dim=-1),
            width=width,
            height=height,
        )

    @classmethod
    def stack(cls, cameras: Sequence["PinholeCamera"]) -> "PinholeCamera":
        """Cameras of one picture size as a batch."""
        sizes = {(camera.width, camera.height) for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras: expected one picture size, got {sorted(sizes)}")
        return cls(
            world_to_camera=torch.stack([camera.world_to_camera for camera in cameras]),
            intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
            width=cameras[0].width,
            height=cameras[0].height,
        )

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions: () for a single camera."""
        return self.world_to_camera.shape[:-2]

    @property
    def rotation(self) -> torch.Tensor:
        """World to camera, shape (..., 3, 3)."""
        return self.world_to_camera[..., :3, :3]

    @property
    def translation(self) -> torch.Tensor:
        """World origin in camera coordinates [m], shape (..., 3)."""
        return self.world_to_camera[..., :3, 3]

    @property
    def position(self) -> torch.Tensor:
        """Position in the world [m], shape (..., 3)."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def __getitem__(self, index: int | slice | torch.Tensor) -> "PinholeCamera":
        """One camera of a batch, or some."""
        return dataclasses.replace(self, world_to_camera=self.world_to_camera[index], intrinsics=self.intrinsics[index])

    def to(self, *args: Any) -> "PinholeCamera":
        """The camera in another dtype or on another device."""
        return dataclasses.replace(
            self, world_to_camera=self.world_to_camera.to(*args), intrinsics=self.intrinsics.to(*args)
        )

    def resized(self, width: int, height: int) -> "PinholeCamera":
        """The same view on another number of pixels."""
        scale = torch.tensor([width / self.width, height / self.height] * 2).to(self.intrinsics)
        return dataclasses.replace(self, intrinsics=self.intrinsics * scale, width=width, height=height)

    def moved(self, rotation_vector: torch.Tensor, translation: torch.Tensor) -> "PinholeCamera":
        """The camera with its world turned and shifted in camera coordinates: p -> exp(w) p + t.

        Args:
            rotation_vector: Axis times angle w [rad], shape (..., 3); differentiable also at 0.
            translation: t [m], shape (..., 3).
        """
        zero = torch.zeros_like(rotation_vector[..., 0])
        x, y, z = rotation_vector.unbind(-1)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
        step = rigid(torch.linalg.matrix_exp(skew), translation)
        return dataclasses.replace(self, world_to_camera=step @ self.world_to_camera)

    def to_camera(self, points: torch.Tensor) -> torch.Tensor:
        """World points in camera coordinates [m]; (n, 3) of a single camera, (..., n, 3) of a batch."""
        return points @ self.rotation.mT + self.translation[..., None, :]

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """Pixel coordinates (x, y) of world points and their depth z [m], shape (..., n, 3)."""
        x, y, z = self.to_camera(points).unbind(-1)
        fx, fy, cx, cy = (value[..., None] for value in self.intrinsics.unbind(-1))
        return torch.stack([fx * x / z + cx, fy * y / z + cy, z], dim=-1)

    def directions(self) -> torch.Tensor:
        """Points of the plane z = 1 seen by each pixel, in camera coordinates, shape (..., h, w, 3).

        A distance t along such a direction is the depth z = t.
        """
        fx, fy, cx, cy = (value[..., None] for value in self.intrinsics.unbind(-1))
        columns = torch.arange(self.width, dtype=fx.dtype, device=fx.device) + 0.5
        rows = torch.arange(self.height, dtype=fx.dtype, device=fx.device) + 0.5
        x = ((columns - cx) / fx)[..., None, :].expand(*self.batch_shape, self.height, self.width)
        y = ((rows - cy) / fy)[..., :, None].expand(*self.batch_shape, self.height, self.width)
        return torch.stack([x, y, torch.ones_like(x)], dim=-1)

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Origins [m] and unit directions in the world of the rays through the pixel centres.

        Returns:
            Two tensors of shape (..., h, w, 3).
        """
        directions = torch.nn.functional.normalize(self.directions() @ self.rotation[..., None, :, :], dim=-1)
        return self.position[..., None, None, :].expand_as(directions), directions


def rigid(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """A homogeneous transform (..., 4, 4) of a rotation (..., 3, 3) and a translation (..., 3)."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    last = torch.zeros_like(top[..., :1, :])
    last[..., 0, 3] = 1
    return torch.cat([top, last], dim=-2)


def orbit(
    count: int,
    *,
    radius: float,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    elevation: float = 0.0,
    fov_y: float = DEFAULT_FOV,
    width: int = 256,
    height: int = 256,
    dtype: torch.dtype = torch.float32,
) -> PinholeCamera:
    """A batch of cameras evenly around a vertical axis (y up), the first at +z.

    Args:
        count: Number of cameras.
        radius: Distance from `target` [m].
        target: What they look at [m].
        elevation: Angle above the horizontal plane [rad].
        fov_y: Vertical field of view [rad].
        width: Pixels in a row.
        height: Rows.
        dtype: Of the cameras.
    """
    angle = torch.arange(count, dtype=dtype) * (2 * math.pi / count)
    level, rise = radius * math.cos(elevation), radius * math.sin(elevation)
    offset = torch.stack([level * angle.sin(), torch.full_like(angle, rise), level * angle.cos()], dim=-1)
    eye = torch.tensor(target, dtype=dtype) + offset
    return PinholeCamera.look_at(eye, torch.tensor(target, dtype=dtype), fov_y=fov_y, width=width, height=height)
