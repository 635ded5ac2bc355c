"""Views of an object under many cameras, lights and weathers: what a texture is seen through.

View i of a sampler depends on its seed and on i alone, so that a set can be made in pieces, in any order, and grown.
"""

import dataclasses
import math
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import torch

from simengine.dtn.bodies.surroundings import surroundings
from simengine.ops.light.raycast import Environment, RayBuffers, RaySurface, raycast
from simengine.render.camera import PinholeCamera
from simengine.render.tone import ToneCurve

Interval = tuple[float, float]
BUFFERS = {"offset": 3, "gain": 3, "paint": 1, "object": 1, "normal": 3, "position": 3, "uv": 2, "footprint": 2}
IN_MEMORY = 1 << 30  # bytes of buffers; those of a larger set lie in a file that the system reads and writes as needed
# albedo of what lies beside a road, light and dark: grass, dry grass, gravel, concrete, soil
GROUNDS = (
    ((0.13, 0.19, 0.06), (0.05, 0.09, 0.03)),
    ((0.28, 0.25, 0.13), (0.14, 0.13, 0.06)),
    ((0.30, 0.29, 0.26), (0.17, 0.16, 0.15)),
    ((0.36, 0.35, 0.33), (0.28, 0.27, 0.26)),
    ((0.22, 0.16, 0.11), (0.12, 0.09, 0.06)),
)
LENGTHS = (1.4, 3.2)  # of an object that the camera is away from it, if nothing else is said
CAR_DISTANCE, CAR_AIM, CAR_REACH = (6.2, 14.3), 0.73, 2.3  # what that comes to for the car that ships [m]
CONDITIONS = ("yaw", "pitch", "distance", "sun_azimuth", "sun_elevation", "sun", "sky", "haze")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewSampler:
    """Uniform distributions of camera, light and weather, on a road or beside one.

    Where `distance`, `aim` or `reach` is None, `fitted` takes it from the object; before that it is the shipped car's.

    Attributes:
        yaw: Azimuth of the camera about the object [deg].
        pitch: Its elevation above the ground [deg].
        distance: From the object's middle [m]; None for 1.4 to 3.2 times the object's length.
        sun_azimuth: [deg].
        sun_elevation: [deg].
        sun: Factor of the sun's irradiance; near 0 it is overcast [1].
        sky: Factor of the sky's radiance [1].
        haze: Extinction coefficient [1/m]; half of the views have none where it starts at 0.
        fov: Vertical field of view [deg].
        offset: Largest shift of the object's middle from the picture's, as a share of half the picture [1].
        boxes: Number of other bodies around.
        aim: Height that the camera looks at [m]; None for the middle of the object.
        reach: Largest horizontal distance of the object from the origin [m], which other bodies keep clear of; None for
            the object's own.
        seed: Of all views.
    """

    yaw: Interval = (0.0, 360.0)
    pitch: Interval = (4.0, 40.0)
    distance: Interval | None = None
    sun_azimuth: Interval = (0.0, 360.0)
    sun_elevation: Interval = (15.0, 75.0)
    sun: Interval = (0.1, 1.0)
    sky: Interval = (0.5, 1.2)
    haze: Interval = (0.0, 0.04)
    fov: float = 40.0
    offset: float = 0.35
    boxes: int = 6
    aim: float | None = None
    reach: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in CONDITIONS:
            low, high = self.interval(name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name}: expected a lower and an upper bound in order, got {(low, high)}")
        if self.distance is not None and self.distance[0] <= 0:
            raise ValueError(f"distance: expected more than 0 m, got {self.distance[0]:g}")
        if not 0.0 < self.fov < 180.0:
            raise ValueError(f"fov: expected an angle between 0 and 180 degrees, got {self.fov:g}")
        if self.boxes < 0:
            raise ValueError(f"boxes: expected a number of other bodies, 0 or more, got {self.boxes}")

    def fitted(self, surface: RaySurface) -> "ViewSampler":
        """This distribution with the distance, the aim and the reach of an object where none are given.

        Raises:
            ValueError: The smallest distance lies inside the object.
        """
        low, high = surface.vertices.min(0).values.tolist(), surface.vertices.max(0).values.tolist()
        length = max(high[0] - low[0], high[1] - low[1], high[2] - low[2])
        reach = float(surface.vertices[:, :2].norm(dim=-1).max())
        distance = self.distance or (LENGTHS[0] * length, LENGTHS[1] * length)
        if distance[0] <= reach:
            raise ValueError(f"distance: expected more than {reach:.3g} m, outside the object, got {distance[0]:g}")
        return dataclasses.replace(
            self,
            distance=distance,
            aim=0.5 * (low[2] + high[2]) if self.aim is None else self.aim,
            reach=reach if self.reach is None else self.reach,
        )

    def interval(self, name: str) -> Interval:
        """Bounds of a condition, by its name.

        Args:
            name: One of CONDITIONS.
        """
        given: Interval | None = getattr(self, name)
        return CAR_DISTANCE if given is None else given

    def _mixed(self, index: int, *, of: str) -> int:
        """The seed of a view's conditions, camera, ground or other bodies.

        Mixed to 32 bits: torch's generator on the CPU looks at no more of a seed than its lowest 32.
        """
        stream = ("conditions", "camera", "ground", "bodies").index(of)
        return int(np.random.SeedSequence((self.seed % 2**64, index, stream)).generate_state(1)[0])

    def _generator(self, index: int, *, of: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._mixed(index, of=of))

    def conditions(self, index: int) -> dict[str, float]:
        """Camera, light and weather of view `index` by the names of CONDITIONS."""
        u = torch.rand(
            len(CONDITIONS) + 1, generator=self._generator(index, of="conditions"), dtype=torch.float64
        ).tolist()
        values = {}
        for share, name in zip(u, CONDITIONS, strict=False):
            low, high = self.interval(name)
            values[name] = low + (high - low) * share
        if self.haze[0] == 0.0 and u[-1] < 0.5:
            values["haze"] = 0.0
        return values

    def camera(self, index: int, size: tuple[int, int]) -> PinholeCamera:
        """The camera of view `index` for pictures of `size` (height, width)."""
        view = self.conditions(index)
        yaw, pitch, r = math.radians(view["yaw"]), math.radians(view["pitch"]), view["distance"]
        middle = torch.tensor([0.0, 0.0, CAR_AIM if self.aim is None else self.aim], dtype=torch.float64)
        direction = [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)]
        eye = middle + r * torch.tensor(direction, dtype=torch.float64)
        generator = self._generator(index, of="camera")
        reach = CAR_REACH if self.reach is None else self.reach
        shift = (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1) * self.offset
        shift = shift * r * math.tan(math.radians(self.fov) / 2) * min(1.0, max(0.0, r / (2.2 * reach) - 1.0))
        forward = torch.nn.functional.normalize(middle - eye, dim=0)
        up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
        target = middle + shift[0] * right + shift[1] * torch.linalg.cross(right, forward)
        return PinholeCamera.look_at(
            eye, target, up=up, fov_y=math.radians(self.fov), height=size[0], width=size[1], dtype=torch.float64
        )

    def environment(self, index: int) -> Environment:
        """Light, weather and ground of view `index`."""
        view = self.conditions(index)
        azimuth, elevation = math.radians(view["sun_azimuth"]), math.radians(view["sun_elevation"])
        generator = self._generator(index, of="ground")
        u = torch.rand(12, generator=generator, dtype=torch.float64).tolist()
        warm = 1.0 - math.sin(elevation)
        sun, sky = 4.0 * view["sun"], view["sky"]
        light, dark = GROUNDS[int(u[0] * len(GROUNDS))]
        shade = 0.75 + 0.5 * u[1]
        haze_light = sky * (0.55 + 0.25 * view["sun"])
        green, height = (0.05 + 0.15 * u[2]) * (0.5 * sky + 0.4 * view["sun"]), 0.02 + 0.10 * u[3] * u[3]
        half = 3.0 + 1.5 * u[4]  # two lanes; the object stands on its right one, or at its edge
        lane = half * (0.35 + 0.3 * u[5])
        return Environment(
            sun_direction=(
                math.cos(azimuth) * math.cos(elevation),
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ),
            sun_irradiance=(sun, sun * (1 - 0.15 * warm), sun * (1 - 0.35 * warm)),
            sky_zenith=(0.20 * sky, 0.34 * sky, 0.62 * sky),
            sky_horizon=(0.52 * sky, 0.60 * sky, 0.69 * sky),
            haze=view["haze"],
            airlight=(haze_light, haze_light, 1.05 * haze_light),
            ground_light=(shade * light[0], shade * light[1], shade * light[2]),
            ground_dark=(shade * dark[0], shade * dark[1], shade * dark[2]),
            ground_frequency=0.3 + 1.2 * u[6],
            road=half if u[7] < 0.8 else 0.0,
            lane=lane if u[8] < 0.5 else -lane,
            asphalt=0.06 + 0.12 * u[9],
            clouds=min(1.0, 0.9 - 0.6 * view["sun"] + 0.3 * (u[10] - 0.5)),
            skyline=(0.85 * green, green, 0.75 * green),
            skyline_height=height,
        )

    def render(
        self,
        surface: RaySurface | None,
        index: int,
        size: tuple[int, int],
        *,
        samples: int = 2,
        sky_rays: int = 4,
        paint: torch.Tensor | None = None,
        repetitions_per_metre: float = 0.0,
    ) -> RayBuffers:
        """Cast view `index` of an object; the options are those of `simengine.ops.light.raycast.raycast`.

        Args:
            surface: The object; None shows its surroundings alone.
            index: Of the view.
            size: Height and width [pixels].
            samples: Per pixel and axis.
            sky_rays: Per sample.
            paint: Linear albedo, a texture (rows, columns, 3); None for a mid grey.
            repetitions_per_metre: 0 puts `paint` on by uv, above 0 triplanar.

        Raises:
            ValueError: There is neither an object nor anything around it.
        """
        scene = surface
        if self.boxes:
            yaw = math.radians(self.conditions(index)["yaw"])
            reach = CAR_REACH if self.reach is None else self.reach
            seed = self._mixed(index, of="bodies")
            around = surroundings(seed, number=self.boxes, away_from=yaw, reach=reach)
            scene = around if surface is None else surface.joined(around)
        if scene is None:
            raise ValueError("boxes: a view without the object needs other bodies to show, got 0; set views.boxes")
        camera = self.camera(index, size)
        return raycast(
            scene,
            self.environment(index),
            camera.world_to_camera,
            camera.intrinsics,
            size,
            samples=samples,
            sky_rays=sky_rays,
            paint=paint,
            repetitions_per_metre=repetitions_per_metre,
            seed=index,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ViewSet:
    """Buffers of n views, stacked and with the channels first.

    Attributes:
        gain: A, shape (n, 3, h, w).
        offset: B, shape (n, 3, h, w); of views without the object the only buffer with pixels.
        paint: Share covered by paint, shape (n, 1, h, w).
        object: Share covered by the object, shape (n, 1, h, w).
        normal: Shape (n, 3, h, w).
        position: [m], shape (n, 3, h, w).
        uv: Shape (n, 2, h, w).
        footprint: Of a pixel on the surface [m] and in uv, shape (n, 2, h, w).
        eye: Position of the camera [m], shape (n, 3).
        conditions: By the names of CONDITIONS, shape (n, 8).
        index: Of each view in its sampler, shape (n,).
        tone: From radiance to pictures.
    """

    gain: torch.Tensor
    offset: torch.Tensor
    paint: torch.Tensor
    object: torch.Tensor
    normal: torch.Tensor
    position: torch.Tensor
    uv: torch.Tensor
    footprint: torch.Tensor
    eye: torch.Tensor
    conditions: torch.Tensor
    index: torch.Tensor
    tone: ToneCurve = dataclasses.field(default_factory=ToneCurve)

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self.offset.shape[2], self.offset.shape[3]

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "tone"}

    def __getitem__(self, index: torch.Tensor | slice | Sequence[int]) -> "ViewSet":
        return ViewSet(**{name: value[index] for name, value in self.tensors().items()}, tone=self.tone)

    def picture(self, paint: torch.Tensor) -> torch.Tensor:
        """Encoded pictures for a paint in linear albedo that broadcasts to (n, 3, h, w): tone(A c + B).

        Raises:
            ValueError: It does not broadcast to this.
        """
        if not self.gain.numel():  # nothing to paint
            return self.tone.encode(self.offset)
        if any(p not in (1, g) and g != 1 for p, g in zip(paint.shape[::-1], self.gain.shape[::-1], strict=False)):
            raise ValueError(f"paint: expected a shape like {tuple(self.gain.shape)}, or 1, got {tuple(paint.shape)}")
        return self.tone.encode(self.gain * paint + self.offset)

    def boxes(self, *, threshold: float = 0.5) -> torch.Tensor:
        """Boxes (x0, y0, x1, y1) [pixels] of the visible object, shape (n, 4).

        Raises:
            ValueError: A view shows no object.
        """
        seen = self.object[:, 0] >= threshold
        empty = (~seen.flatten(1).any(1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"object: views {empty[:5]} show none; move the camera nearer or drop them")
        boxes = []
        for line in (seen.any(1), seen.any(2)):
            low = line.int().argmax(1)
            high = line.shape[1] - line.flip(1).int().argmax(1)
            boxes.append(torch.stack([low, high], 1))
        return torch.stack([boxes[0][:, 0], boxes[1][:, 0], boxes[0][:, 1], boxes[1][:, 1]], 1).float()


def object_crops(views: ViewSet, side: int) -> ViewSet:
    """The parts of `side` x `side` pixels about the middle of the object, shifted to lie within the pictures.

    Raises:
        ValueError: The pictures are smaller, or a view shows no object.
    """
    size = torch.tensor(views.size)
    if not 0 < side <= int(size.min()):
        raise ValueError(f"side: expected 1 to {int(size.min())} pixels, got {side}")
    boxes = views.boxes()
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().flip(1)  # row, column
    corners = torch.minimum((middle - side // 2).clamp(min=0), size - side).tolist()

    def cut(value: torch.Tensor) -> torch.Tensor:
        if value.dim() != 4:
            return value
        return torch.stack([v[:, y : y + side, x : x + side] for v, (y, x) in zip(value, corners, strict=True)])

    return ViewSet(**{name: cut(value) for name, value in views.tensors().items()}, tone=views.tone)


def stack_views(
    buffers: Sequence[RayBuffers],
    cameras: Sequence[PinholeCamera],
    conditions: Sequence[dict[str, float]],
    *,
    tone: ToneCurve,
    indices: Sequence[int] | None = None,
) -> ViewSet:
    """A ViewSet of views rendered one by one."""
    if not buffers:
        raise ValueError("buffers: expected at least one view, got none")
    views = [_planes(b) for b in buffers]
    return _view_set(
        {name: torch.stack([view[name] for view in views]) for name in BUFFERS},
        cameras,
        conditions,
        tone=tone,
        indices=list(indices if indices is not None else range(len(buffers))),
    )


def _planes(buffers: RayBuffers) -> dict[str, torch.Tensor]:
    """The buffers of one view, (channels, h, w)."""
    planes = {}
    for name in BUFFERS:
        value = getattr(buffers, name)
        planes[name] = value.permute(2, 0, 1) if value.dim() == 3 else value[None]
    planes["footprint"] = torch.stack([buffers.footprint, buffers.uv_footprint])
    return planes


def _view_set(
    planes: dict[str, torch.Tensor],
    cameras: Sequence[PinholeCamera],
    conditions: Sequence[dict[str, float]],
    *,
    tone: ToneCurve,
    indices: Sequence[int],
) -> ViewSet:
    return ViewSet(
        **planes,
        eye=torch.stack([camera.position for camera in cameras]).float(),
        conditions=torch.tensor([[c[name] for name in CONDITIONS] for c in conditions]),
        index=torch.tensor(indices),
        tone=tone,
    )


def render_views(
    surface: RaySurface | None,
    sampler: ViewSampler,
    indices: Sequence[int],
    size: tuple[int, int],
    *,
    tone: ToneCurve | None = None,
    samples: int = 2,
    sky_rays: int = 4,
) -> ViewSet:
    """Render the views with these indices; without the object where `surface` is None.

    About 0.07 s of CPU a view at 96 x 96 with 2 x 2 samples and 4 sky rays, and 72 bytes of each pixel, of which views
    without the object keep 12. A set of more than 1 GiB lies in a file without a name, in the folder for such files.

    Args:
        surface: What stands there, as rays see it.
        sampler: Draws camera, sun and place of a view by its number.
        indices: Numbers of the views.
        size: Height and width [pixel].
        tone: From light to display; None for the usual curve.
        samples: Rays along each side of a pixel.
        sky_rays: Towards the sky, from each point that is hit.

    Raises:
        OSError: There is no room for that file.
    """
    sampler = sampler if surface is None else sampler.fitted(surface)
    tone, shown = tone or ToneCurve(), BUFFERS if surface is not None else {"offset": 3}
    sizes = {name: (len(indices), count, *(size if name in shown else (0, 0))) for name, count in BUFFERS.items()}
    in_file = 4 * sum(map(math.prod, sizes.values())) > IN_MEMORY
    planes = {name: _room(shape, in_file=in_file and name in shown) for name, shape in sizes.items()}
    for place, index in enumerate(indices):
        buffers = _planes(sampler.render(surface, index, size, samples=samples, sky_rays=sky_rays))
        for name in shown:
            planes[name][place] = buffers[name]
    cameras, conditions = [sampler.camera(i, size) for i in indices], [sampler.conditions(i) for i in indices]
    return _view_set(planes, cameras, conditions, tone=tone, indices=list(indices))


def _room(shape: tuple[int, ...], *, in_file: bool) -> torch.Tensor:
    """A tensor of zeros, float32; in a file that has no name and goes with the tensor, where that is asked for."""
    if not in_file:
        return torch.zeros(shape)
    with tempfile.NamedTemporaryFile(prefix="simengine-views-") as file:
        os.truncate(file.name, 4 * math.prod(shape))
        if hasattr(os, "posix_fallocate"):  # now, or a full disk would end the process later
            os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return torch.from_file(file.name, shared=True, size=math.prod(shape)).reshape(shape)


def keep_views(views: ViewSet, keep: torch.Tensor) -> ViewSet:
    """Some of the views of a set, bool (n,), which take the places of the others; the set itself is used up."""
    kept = keep.nonzero().flatten().tolist()
    for place, k in enumerate(kept):
        if place != k:
            for value in views.tensors().values():
                value[place] = value[k].clone()
    return views[: len(kept)]
