"""Scenes of boxes and balls on a floor, met by rays in closed form: exact depth and normals, to learn from."""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.render.camera import PinholeCamera

FAR = 1e6  # [m], where a ray meets nothing
TARGET = (0.0, 0.35, 0.0)  # what the cameras around a scene look at [m]
DISTANCE = 4.0  # of the cameras from it [m]
FIELD_OF_VIEW = math.radians(30.0)


def cameras(poses: torch.Tensor, size: int) -> PinholeCamera:
    """Cameras on a sphere about a scene.

    Args:
        poses: Azimuth and elevation [rad], shape (b, 2).
        size: Pixels along each side.
    """
    azimuth, elevation = poses.unbind(-1)
    level = elevation.cos()
    offset = torch.stack([azimuth.sin() * level, elevation.sin(), azimuth.cos() * level], dim=-1)
    target = poses.new_tensor(TARGET)
    return PinholeCamera.look_at(target + DISTANCE * offset, target, fov_y=FIELD_OF_VIEW, width=size, height=size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solids:
    """k boxes and ellipsoids in each of b scenes.

    Attributes:
        centres: [m], shape (b, k, 3).
        axes: Their own axes as rows, orthonormal, shape (b, k, 3, 3).
        half: Half of their extents along these [m], shape (b, k, 3).
        ball: Which are ellipsoids, shape (b, k), bool.
        floor: Height y of a floor without end [m]; None for none.
    """

    centres: torch.Tensor
    axes: torch.Tensor
    half: torch.Tensor
    ball: torch.Tensor
    floor: float | None = None

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, index: torch.Tensor | slice | Sequence[int]) -> "Solids":
        """Some of the scenes."""
        names = ("centres", "axes", "half", "ball")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in names})

    def repeated(self, views: int) -> "Solids":
        """Each scene so many times in a row, for a camera each."""
        return self[torch.arange(len(self)).repeat_interleave(views)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hits:
    """What the rays of pictures meet first.

    Attributes:
        depth: Along the optical axis [m], `FAR` where nothing is met, shape (b, h, w).
        points: In the world [m], shape (b, h, w, 3).
        normals: Unit normals in the world, shape (b, h, w, 3).
        index: Of the solid, k for the floor, -1 for nothing, shape (b, h, w).
    """

    depth: torch.Tensor
    points: torch.Tensor
    normals: torch.Tensor
    index: torch.Tensor


def cast(solids: Solids, camera: PinholeCamera) -> Hits:
    """The surfaces that cameras see, one for each scene.

    Args:
        solids: b scenes.
        camera: A batch of b cameras.

    Raises:
        ValueError: The numbers of scenes and cameras differ.
    """
    if camera.batch_shape != (len(solids),):
        raise ValueError(f"camera: expected a batch of {len(solids)}, one for each scene, got {camera.batch_shape}")
    along = camera.directions() @ camera.rotation[:, None]  # per unit of depth
    origin = camera.position[:, None, None].expand_as(along)
    # into the frame of each solid, scaled to a unit cube or ball: (b, k, h, w, 3)
    turn = (solids.axes / solids.half[..., None]).transpose(-1, -2)
    start = ((origin[:, None] - solids.centres[:, :, None, None]).flatten(2, 3) @ turn).unflatten(2, along.shape[1:3])
    step = (along[:, None].flatten(2, 3) @ turn).unflatten(2, along.shape[1:3])
    distance, local = _unit_solids(start, step, solids.ball)
    depth, index = distance.min(dim=1)
    local = local.gather(1, index[:, None, ..., None].expand(-1, 1, -1, -1, 3))[:, 0]
    number = torch.arange(len(solids))[:, None, None].expand_as(index)
    normals = torch.nn.functional.normalize((turn[number, index] @ local[..., None])[..., 0], dim=-1)
    index = torch.where(depth < FAR, index, -1)
    if solids.floor is not None:
        down = along[..., 1]
        below = (solids.floor - origin[..., 1]) / torch.where(down.abs() > 1e-9, down, 1e-9)
        nearer = (below > 0) & (below < depth)
        depth = torch.where(nearer, below, depth)
        index = torch.where(nearer, solids.centres.shape[1], index)
        normals = torch.where(nearer[..., None], normals.new_tensor([0.0, 1.0, 0.0]), normals)
    return Hits(depth=depth, points=origin + along * depth[..., None], normals=normals, index=index)


def _unit_solids(start: torch.Tensor, step: torch.Tensor, ball: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays meet the cube [-1, 1]^3 or the unit ball, and the normal there in scaled coordinates."""
    safe = torch.where(step.abs() > 1e-9, step, 1e-9)
    near, far = (-1 - start) / safe, (1 - start) / safe
    low, high = torch.minimum(near, far), torch.maximum(near, far)
    enter, leave = low.amax(-1), high.amin(-1)
    box = torch.where((leave > enter) & (enter > 0), enter, FAR)
    face = torch.nn.functional.one_hot(low.argmax(-1), 3).to(step) * -step.sign()
    a, b, c = (step * step).sum(-1), (start * step).sum(-1), (start * start).sum(-1) - 1
    root = b * b - a * c
    first = (-b - root.clamp_min(0).sqrt()) / a
    sphere = torch.where((root > 0) & (first > 0), first, FAR)
    is_ball = ball[..., None, None]
    around = start + step * sphere.clamp_max(1e3)[..., None]
    return torch.where(is_ball, sphere, box), torch.where(is_ball[..., None], around, face)


def random_solids(count: int, *, bodies: int = 2, spread: float = 0.6) -> Solids:
    """Boxes, turned about the vertical, and balls of random sizes on the floor y = 0, from torch's global generator.

    Args:
        count: Number of scenes.
        bodies: In each.
        spread: They stand at most this far from the axis x = z = 0 [m], in each direction.
    """
    shape = (count, bodies)
    ball = torch.rand(shape) < 0.5
    half = 0.2 + 0.3 * torch.rand(*shape, 3)
    half = torch.where(ball[..., None], half[..., :1], half)
    place = spread * (2 * torch.rand(*shape, 3) - 1)
    place[..., 1] = half[..., 1]
    return Solids(centres=place, axes=_upright(2 * math.pi * torch.rand(shape)), half=half, ball=ball, floor=0.0)


def _upright(angle: torch.Tensor) -> torch.Tensor:
    """Axes turned about y by angles of any shape."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [torch.stack(row, -1) for row in ([c, zero, s], [zero, one, zero], [-s, zero, c])]
    return torch.stack(rows, -2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paint:
    """Matt colours that vary in space as sines, for each solid and, last, for the floor.

    Attributes:
        base: Mean linear RGB, shape (b, k + 1, 3).
        swing: Amplitude, shape (b, k + 1, 3).
        waves: Wave vector of each channel [rad/m], shape (b, k + 1, 3, 3).
        phase: [rad], shape (b, k + 1, 3).
    """

    base: torch.Tensor
    swing: torch.Tensor
    waves: torch.Tensor
    phase: torch.Tensor

    def __getitem__(self, index: torch.Tensor | slice | Sequence[int]) -> "Paint":
        """Of some of the scenes."""
        return Paint(**{field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)})


def random_paint(solids: Solids) -> Paint:
    """Paint of random colours and patterns, from torch's global generator."""
    shape = (len(solids), solids.centres.shape[1] + 1)
    return Paint(
        base=0.3 + 0.4 * torch.rand(*shape, 3),
        swing=0.1 + 0.15 * torch.rand(*shape, 1) * torch.ones(3),
        waves=14 * torch.nn.functional.normalize(torch.randn(*shape, 3, 3), dim=-1) * (0.5 + torch.rand(*shape, 1, 1)),
        phase=2 * math.pi * torch.rand(*shape, 3),
    )


def painted(hits: Hits, paint: Paint, *, ambient: float = 0.4) -> torch.Tensor:
    """Pictures of what was met, matt under one fixed light; linear RGB, shape (b, h, w, 3)."""
    number = torch.arange(len(hits.depth))[:, None, None].expand_as(hits.index)
    waves, phase = paint.waves[number, hits.index], paint.phase[number, hits.index]
    sines = ((waves @ hits.points[..., None])[..., 0] + phase).sin()
    light = torch.nn.functional.normalize(hits.normals.new_tensor([0.4, 1.0, 0.3]), dim=0)
    lit = ambient + (1 - ambient) * (hits.normals @ light).clamp_min(0)[..., None]
    return (paint.base[number, hits.index] + paint.swing[number, hits.index] * sines) * lit
