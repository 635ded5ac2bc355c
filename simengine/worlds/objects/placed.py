"""A rendered car in the place of a real one: its 3-D box through the real camera, composited into the photograph.

What is rendered twice, with and without the car, tells how the road changes: its ratio darkens the photograph where
the car throws its shadow (Debevec, SIGGRAPH 1998). The exposure is the photograph's own: the road about the box is
taken for the road that is rendered.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch

from simengine.observe.columns import take
from simengine.scene.base import SceneError
from simengine.scene.strict import Positive, Range, Vector

if TYPE_CHECKING:
    from simengine.ops.light.ray_scene import RaySurface
    from simengine.ops.light.raycast import RayBuffers

Albedo = Annotated[float, Range(ge=0, le=1)]
FAR = 1e4  # where a car is that is not there [m]
ROAD = 0.25  # albedo of the rendered road; the exposure makes up for it


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxSpec:
    """A 3-D box in the camera's axes (x right, y down, z forward), as KITTI writes it.

    Attributes:
        center: Middle of its bottom face [m], or the names of three columns.
        size: Length, height, width [m], or the names of three columns.
        yaw: About y; 0 looks to +x [rad]; or the name of a column.
        file: The table of the columns.
        row: Of the table, from 0.
    """

    center: Vector | tuple[str, str, str]
    size: Vector | tuple[str, str, str]
    yaw: float | str = 0.0
    file: Path | None = None
    row: Annotated[int, Range(ge=0)] = 0

    def __post_init__(self) -> None:
        named = any(isinstance(v, str) for v in (*self.center, *self.size, self.yaw))
        if not named and (self.file is not None or self.row):
            raise ValueError("file, row: center, size and yaw name no column of a table; leave them out")

    def numbers(self) -> tuple[Vector, Vector, float]:
        """Center, size and yaw; read from the file where columns are named.

        Raises:
            SceneError: Columns are named without a file, or the file does not have them.
        """
        values = [*self.center, *self.size, self.yaw]
        if any(isinstance(v, str) for v in values):
            if self.file is None:
                raise SceneError('objects: box: columns are named; name their table, as in file = "cars.csv"')
            from simengine.io.tables import read_table

            try:
                raw = read_table(self.file)
                if self.row >= len(raw):
                    raise ValueError(f"{self.file.name} has {len(raw)} rows, counted from 0, and no row {self.row}")
                units = ["[m]"] * 6 + ["[rad]"]
                values = [
                    float(take(raw, v if "[" in v else f"{v} {unit}", key="objects.box")[0][self.row])
                    if isinstance(v, str)
                    else v
                    for v, unit in zip(values, units, strict=True)
                ]
            except ValueError as error:
                raise error if isinstance(error, SceneError) else SceneError(f"objects: box: {error}") from None
        x = [float(v) for v in values]
        if min(x[3:6]) <= 0:
            raise SceneError(f"objects: box.size: expected three lengths above 0, got {x[3:6]}")
        return (x[0], x[1], x[2]), (x[3], x[4], x[5]), x[6]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaintSpec:
    """A paint.

    Attributes:
        albedo: Linear, a number or RGB [1].
        texture: A picture (first row at v = 1) or an npy of linear albedo (rows, columns, 3); instead of `albedo`.
    """

    albedo: Albedo | tuple[Albedo, Albedo, Albedo] = 0.4
    texture: Path | None = None

    def __post_init__(self) -> None:
        if self.texture is not None and self.albedo != PaintSpec.albedo:
            raise ValueError("albedo: a texture takes its place; leave one of them out")

    def tensor(self) -> torch.Tensor:
        """The texture, (rows, columns, 3), row 0 at v = 0."""
        if self.texture is None:
            return torch.as_tensor(self.albedo, dtype=torch.float32).expand(3).reshape(1, 1, 3).clone()
        from simengine.io.pictures import read_rgb

        try:
            return torch.from_numpy(np.ascontiguousarray(read_rgb(self.texture)[::-1]))
        except ValueError as error:
            raise SceneError(f"objects: paint.texture: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlacedSpec:
    """A rendered car in a photograph.

    Attributes:
        type: The car that ships with simengine.
        box: Its place; the car is scaled to fill it.
        camera: A json file with K.
        picture: Name of the photograph; None for the only one.
        paint: Of the body.
        sun_elevation: Of the photograph's sun [deg].
        sun_azimuth: Seen from above, from straight ahead to the right [deg].
        sun: Share of the sun in the light [1]; 0 is overcast.
        exposure: Factor of the rendered light beside the photograph's own exposure [1].
    """

    type: Literal["car"] = "car"
    box: BoxSpec
    camera: Path
    picture: str | None = None
    paint: PaintSpec = dataclasses.field(default_factory=PaintSpec)
    sun_elevation: Annotated[float, Range(gt=0, le=90)] = 45.0
    sun_azimuth: float = 0.0
    sun: Annotated[float, Range(ge=0, le=1)] = 0.7
    exposure: Positive = 1.0


def box_corners(center: Sequence[float], size: Sequence[float], yaw: float) -> np.ndarray:
    """The eight corners of a box in the camera's axes, (8, 3) [m]."""
    length, height, width = size
    local = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-1.0, 0.0) for z in (-0.5, 0.5)])
    return (local * [length, height, width]) @ turn(yaw).T + np.asarray(center, dtype=float)


def turn(yaw: float) -> np.ndarray:
    """Rotation about the camera's y axis, (3, 3)."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def pose(center: Sequence[float], yaw: float) -> torch.Tensor:
    """From the box's own axes (x along it, z up, origin in its bottom) to the camera's, (4, 4)."""
    r = turn(yaw)
    up = np.array([0.0, -1.0, 0.0])
    forward = r @ np.array([1.0, 0.0, 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([forward, np.cross(up, forward), up], 1)
    matrix[:3, 3] = center
    return torch.from_numpy(matrix)


def fitted(surface: "RaySurface", size: Sequence[float]) -> "RaySurface":
    """A surface whose extent is the box's: length along x, width along y, height along z, standing on z = 0."""
    low, high = surface.vertices.amin(0), surface.vertices.amax(0)
    length, height, width = size
    factor = torch.tensor([length, width, height]) / (high - low)
    middle = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    normals = surface.corner_normals
    if normals is not None:
        normals = torch.nn.functional.normalize(normals / factor, dim=-1)
    return dataclasses.replace(surface, vertices=(surface.vertices - middle) * factor, corner_normals=normals)


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """A rendered car over a photograph; the picture is linear in its paint.

    Attributes:
        buffers: Of the view with the car.
        ratio: Of the road's light with the car to that without, (h, w, 3).
        exposure: Of the photograph over the rendered light, (3,).
        photograph: Linear light, (h, w, 3).
    """

    buffers: "RayBuffers"
    ratio: torch.Tensor
    exposure: torch.Tensor
    photograph: torch.Tensor

    def picture(self, lit: torch.Tensor) -> torch.Tensor:
        """The photograph with the car whose rendered light is `lit`, (h, w, 3), linear."""
        share = self.buffers.object[..., None]
        return share * self.exposure * lit + (1 - share) * self.photograph * self.ratio


def place(spec: PlacedSpec, photograph: torch.Tensor) -> Placement:
    """Render a car into the place that its box names.

    Args:
        spec: The car.
        photograph: Linear light, (h, w, 3).

    Raises:
        SceneError: The camera has no K, or the box lies behind it.
    """
    from simengine.dtn.bodies.car import car
    from simengine.ops.light.ray_scene import Environment
    from simengine.ops.light.raycast import raycast

    center, size, yaw = spec.box.numbers()
    k = camera_matrix(spec.camera)
    if box_corners(center, size, yaw)[:, 2].min() <= 0:
        raise SceneError("objects: box: it reaches behind the camera")
    intrinsics = torch.tensor([k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5])  # the first pixel's middle is 1/2 here
    to_camera = pose(center, yaw)
    azimuth, elevation = math.radians(spec.sun_azimuth), math.radians(spec.sun_elevation)
    sun = np.array(
        [math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    x, y, z = (to_camera[:3, :3].numpy().T @ sun).tolist()
    light = 3.2 * spec.sun
    road = (ROAD, ROAD, ROAD)
    environment = Environment(
        sun_direction=(x, y, z), sun_irradiance=(light, light, light), ground_dark=road, ground_light=road
    )
    h, w, _ = photograph.shape
    surface = fitted(car(), size)
    gone = dataclasses.replace(surface, vertices=surface.vertices + torch.tensor([0.0, 0.0, -FAR]))
    options: Any = {"samples": 3, "sky_rays": 4, "seed": 0}
    with_car = raycast(surface, environment, to_camera, intrinsics, (h, w), paint=spec.paint.tensor(), **options)
    without = raycast(gone, environment, to_camera, intrinsics, (h, w), **options)
    clear = with_car.object < 1e-6
    ratio = torch.where(clear[..., None], with_car.radiance / without.radiance.clamp(min=1e-6), 1.0).clamp(0, 1)
    return Placement(
        with_car, ratio, spec.exposure * _exposure(photograph, without.radiance, k, center, size, yaw), photograph
    )


def _exposure(
    photograph: torch.Tensor,
    rendered: torch.Tensor,
    k: np.ndarray,
    center: Sequence[float],
    size: Sequence[float],
    yaw: float,
) -> torch.Tensor:
    """The photograph's light over the rendered one, the median over the road between the box and the camera, (3,)."""
    corners = box_corners(center, size, yaw) @ k.T
    pixels = corners[:, :2] / corners[:, 2:]
    h, w, _ = photograph.shape
    left, right = (int(np.clip(v, 0, w - 1)) for v in (pixels[:, 0].min(), pixels[:, 0].max()))
    top = int(np.clip(pixels[:, 1].max() + 2, 0, h - 2))
    below = int(np.clip(top + max(4, 0.5 * (pixels[:, 1].max() - pixels[:, 1].min())), top + 1, h))
    patch = (slice(top, below), slice(left, max(right, left + 1)))
    return (photograph[patch].reshape(-1, 3).median(0).values / rendered[patch].reshape(-1, 3).median(0).values).float()


def camera_matrix(file: Path) -> np.ndarray:
    """K of a json file, (3, 3) [px].

    Raises:
        SceneError: There is none.
    """
    from simengine.io.arrays import read_json

    try:
        matrix = np.asarray(read_json(file).get("K"), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise SceneError(f"camera: {error}") from None
    if matrix.shape != (3, 3):
        raise SceneError(f"camera: {file.name}: expected K, three rows of three numbers")
    return matrix
