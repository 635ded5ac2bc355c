"""Distribution of cameras, lights and weathers; view i of a sampler depends on its seed and on i alone."""

import dataclasses
import functools
import math

import numpy as np
import torch

from simengine.dtn.bodies.surroundings import KINDS, surroundings
from simengine.dtn.bodies.traffic import CLASSES, Sight, footprint, traffic
from simengine.dtn.scenery.cameras import ListedCamera
from simengine.dtn.scenery.photographs import BackgroundPhotograph, behind, speck
from simengine.dtn.scenery.skies import LUMINANCE, SkyPanorama
from simengine.dtn.weather.light import SUN, drawn_environment, under
from simengine.dtn.weather.rain import BRIGHT, streaks
from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast import RayBuffers, raycast
from simengine.render.camera import PinholeCamera

Interval = tuple[float, float]
LENGTHS = (1.4, 3.2)  # of an object that the camera is away from it, if nothing else is said
CAR_DISTANCE, CAR_AIM, CAR_REACH = (6.2, 14.3), 0.73, 2.3  # what that comes to for the car that ships [m]
UNITS = {
    "yaw": "deg",
    "pitch": "deg",
    "distance": "m",
    "sun_azimuth": "deg",
    "sun_elevation": "deg",
    "sun": "1",
    "sky": "1",
    "haze": "1/m",
    "rain": "mm/h",
    "water": "mm",
    "lamps": "cd",
    "headlamps": "cd",
}
CONDITIONS = tuple(UNITS)
WEATHER = CONDITIONS[8:]  # of which half of the views have none where their range starts at 0
WET = 0.1  # least water on the ground where it rains [mm]: its pores are full
GREY = 0.18  # mean luminance that a camera that meters brightens a dark view to [W/(m^2 sr)]


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
        haze: Extinction coefficient [1/m]; half of the views have none where it starts at 0. Of fog that one sees V
            metres through it is 3.9/V.
        rain: Rain rate [mm/h]; half of the views have none where it starts at 0. It dims what is far and draws streaks.
        water: Mean depth of the water on the ground [mm], at least 0.1 where it rains; likewise.
        lamps: Luminous intensity of street lamps, 8 m high and 30 m apart, straight down [cd]; likewise. Below one
            stand a 64th of it in lux; full sun (`sun` = 1) is 100 klx.
        headlamps: Luminous intensity of the two headlamps of the vehicle that the camera is on [cd]; likewise.
        shutter: Time that the shutter is open, which streaks of rain are as long as [s].
        metering: Largest factor by which the camera brightens a dark view to a mean of grey; 1 leaves all as it is [1].
        fov: Vertical field of view [deg].
        offset: Largest shift of the object's middle from the picture's, as a share of half the picture [1].
        boxes: Number of other bodies around.
        aim: Height that the camera looks at [m]; None for the middle of the object.
        reach: Largest horizontal distance of the object from the origin [m], which other bodies keep clear of; None for
            the object's own.
        objects: Least and most further things in a view, each of one of the classes and none in another; fewer where
            there is no room [1].
        classes: Of these: `"car"`, `"van"`, `"bicycle"`, `"stop sign"`.
        seed: Of all views.
        cameras: View i is seen by number i of these, counted round; none for those drawn.
        photographs: View i shows number i of these behind the object, counted round; none for road and surroundings.
        skies: View i stands under number i of these, counted round, with its sun at `sun_azimuth`, as high and as
            bright beside the sky as it is there; `sky` is the factor of both. None for the drawn sky and sun.
    """

    yaw: Interval = (0.0, 360.0)
    pitch: Interval = (4.0, 40.0)
    distance: Interval | None = None
    sun_azimuth: Interval = (0.0, 360.0)
    sun_elevation: Interval = (15.0, 75.0)
    sun: Interval = (0.1, 1.0)
    sky: Interval = (0.5, 1.2)
    haze: Interval = (0.0, 0.04)
    rain: Interval = (0.0, 0.0)
    water: Interval = (0.0, 0.0)
    lamps: Interval = (0.0, 0.0)
    headlamps: Interval = (0.0, 0.0)
    shutter: float = 0.008
    metering: float = 1.0
    fov: float = 40.0
    offset: float = 0.35
    boxes: int = 6
    aim: float | None = None
    reach: float | None = None
    objects: tuple[int, int] = (0, 0)
    classes: tuple[str, ...] = tuple(CLASSES)
    seed: int = 0
    cameras: tuple[ListedCamera, ...] = dataclasses.field(default=(), metadata={"internal": True})
    photographs: tuple[BackgroundPhotograph, ...] = dataclasses.field(default=(), metadata={"internal": True})
    skies: tuple[SkyPanorama, ...] = dataclasses.field(default=(), metadata={"internal": True})

    def __post_init__(self) -> None:
        for name in CONDITIONS:
            low, high = self.interval(name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name}: expected a lower and an upper bound in order, got {(low, high)}")
        for name in ("haze", *WEATHER):
            if self.interval(name)[0] < 0:
                raise ValueError(f"{name}: expected at least 0 {UNITS[name]}, got {self.interval(name)[0]:g}")
        if not (self.shutter > 0 and self.metering >= 1):
            raise ValueError(f"expected shutter > 0 s and metering >= 1, got {self.shutter:g} and {self.metering:g}")
        if self.distance is not None and self.distance[0] <= 0:
            raise ValueError(f"distance: expected more than 0 m, got {self.distance[0]:g}")
        if not 0.0 < self.fov < 180.0:
            raise ValueError(f"fov: expected an angle between 0 and 180 degrees, got {self.fov:g}")
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects: expected two numbers in order, 0 or more, got {self.objects}")
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown or not self.classes:
            raise ValueError(f"classes: expected some of {', '.join(CLASSES)}, got {unknown or 'none'}")
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

    def span(self, name: str) -> Interval:
        """Bounds of what the views have of a condition: of listed cameras and skies, what these have.

        Args:
            name: One of CONDITIONS.
        """
        if self.cameras and name in ("yaw", "pitch", "distance"):
            values = [self._seen_from(k)[name] for k in range(len(self.cameras))]
        elif self.skies and name == "sun_elevation":
            values = [math.degrees(sky.elevation) for sky in self.skies]
        elif self.skies and name == "sun":
            values = [factor * sky.illuminance / SUN for sky in self.skies for factor in self.interval("sky")]
        else:
            return self.interval(name)
        return min(values), max(values)

    def _mixed(self, index: int, *, of: str) -> int:
        """The seed of a view's conditions, camera, ground, other bodies or further objects.

        Mixed to 32 bits: torch's generator on the CPU looks at no more of a seed than its lowest 32.
        """
        stream = ("conditions", "camera", "ground", "bodies", "objects", "weather").index(of)
        return int(np.random.SeedSequence((self.seed % 2**64, index, stream)).generate_state(1)[0])

    def _generator(self, index: int, *, of: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._mixed(index, of=of))

    def conditions(self, index: int) -> dict[str, float]:
        """Camera, light and weather of view `index` by the names of CONDITIONS."""
        first = [name for name in CONDITIONS if name not in WEATHER]
        u = torch.rand(len(first) + 1, generator=self._generator(index, of="conditions"), dtype=torch.float64).tolist()
        values = {}
        for share, name in zip(u, first, strict=False):
            low, high = self.interval(name)
            values[name] = low + (high - low) * share
        if self.haze[0] == 0.0 and u[-1] < 0.5:
            values["haze"] = 0.0
        v = torch.rand(len(WEATHER), 2, generator=self._generator(index, of="weather"), dtype=torch.float64).tolist()
        for (share, there), name in zip(v, WEATHER, strict=True):
            low, high = self.interval(name)
            values[name] = 0.0 if low == 0.0 and there < 0.5 else low + (high - low) * share
        if values["rain"] > 0:
            values["water"] = max(values["water"], WET)
        if self.cameras:
            values |= self._seen_from(index)
        if self.skies:
            sky = self.skies[index % len(self.skies)]
            values |= {"sun_elevation": math.degrees(sky.elevation), "sun": values["sky"] * sky.illuminance / SUN}
        return values

    def _seen_from(self, index: int) -> dict[str, float]:
        """Yaw, pitch and distance of the camera that is listed for view `index`."""
        aim = CAR_AIM if self.aim is None else self.aim
        eye = self.cameras[index % len(self.cameras)].camera((1, 1)).position
        x, y, z = (eye - torch.tensor([0.0, 0.0, aim], dtype=eye.dtype)).tolist()
        distance = math.hypot(x, y, z)
        yaw, pitch = math.degrees(math.atan2(y, x)) % 360, math.degrees(math.asin(z / max(distance, 1e-9)))
        return {"yaw": yaw, "pitch": pitch, "distance": distance}

    def camera(self, index: int, size: tuple[int, int]) -> PinholeCamera:
        """The camera of view `index` for pictures of `size` (height, width)."""
        if self.cameras:
            return self.cameras[index % len(self.cameras)].camera(size)
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
        eye, bearing, _ = self._sight(index)
        u = torch.rand(12, generator=self._generator(index, of="ground"), dtype=torch.float64).tolist()
        environment = drawn_environment(view, u, eye=eye, bearing=bearing)
        return under(environment, self.skies[index % len(self.skies)], view) if self.skies else environment

    def _sight(self, index: int) -> tuple[tuple[float, float, float], float, float]:
        """Where the camera of a view is [m], the azimuth of its middle and how far it looks down [rad]."""
        pose = self.camera(index, (16, 16)).world_to_camera
        ahead, (x, y, z) = pose[2, :3].tolist(), (-pose[:3, :3].T @ pose[:3, 3]).tolist()
        return (x, y, z), math.atan2(ahead[1], ahead[0]), -math.asin(ahead[2])

    def things(self, surface: RaySurface | None, index: int) -> list[tuple[int, RaySurface]]:
        """What is labelled in view `index`: class (0 for the object, 1 for the first of `classes`) and surface."""
        found = [] if surface is None else [(0, surface)]
        if not self.objects[1]:
            return found
        generator = self._generator(index, of="objects")
        least, most = self.objects
        number = least + int(torch.randint(most - least + 1, (), generator=generator))
        eye, azimuth, pitch = self._sight(index)
        sight = Sight(
            eye=eye,
            azimuth=azimuth,
            pitch=pitch,
            half=0.45 * math.radians(self.fov),
            far=1.6 * self.conditions(index)["distance"] + 4.0,
        )
        taken = [] if surface is None else [footprint(surface)]
        for name, body in traffic(self._mixed(index, of="objects"), number, self.classes, sight, taken):
            found.append((1 + self.classes.index(name), body))
        return found

    def standing(self, surface: RaySurface | None, index: int) -> RaySurface:
        """All that stands in view `index`."""
        bodies = [body for _, body in self.things(surface, index)]
        if self.boxes:
            reach = CAR_REACH if self.reach is None else self.reach
            clear = max([reach, *(float(body.vertices[:, :2].norm(dim=-1).max()) for body in bodies)])
            kinds = [kind for kind in KINDS if kind != "van"] if self.objects[1] else KINDS  # vans would be labelled
            yaw, seed = math.radians(self.conditions(index)["yaw"]), self._mixed(index, of="bodies")
            bodies.append(surroundings(seed, number=self.boxes, away_from=yaw, reach=clear, kinds=kinds))
        if not bodies and self.photographs:
            bodies.append(speck())
        if not bodies:
            raise ValueError("boxes: a view without the object needs other bodies to show, got 0; set views.boxes")
        scene = bodies[0]
        for body in bodies[1:]:
            scene = scene.joined(body)
        return scene

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
        device: torch.device | str = "cpu",
    ) -> RayBuffers:
        """Cast view `index` of an object; the options are those of `simengine.ops.light.raycast.raycast`.

        The buffers lie in main memory, whatever the device: a set of views may be larger than that of a GPU.

        Args:
            surface: The object; None shows its surroundings alone.
            index: Of the view.
            size: Height and width [pixels].
            samples: Per pixel and axis.
            sky_rays: Per sample.
            paint: Linear albedo, a texture (rows, columns, 3); None for a mid grey.
            repetitions_per_metre: 0 puts `paint` on by uv, above 0 triplanar.
            device: That the rays are cast on, `"cpu"` or `"cuda"`.

        Raises:
            ValueError: There is neither an object nor anything around it.
        """
        camera, environment = self.camera(index, size), self.environment(index)
        options = functools.partial(
            raycast,
            environment=environment,
            world_to_camera=camera.world_to_camera,
            intrinsics=camera.intrinsics,
            size=size,
            samples=samples,
            sky_rays=sky_rays,
            seed=index,
        )

        def cast(what: RaySurface, paint: torch.Tensor | None = None) -> RayBuffers:
            return options(what.to(device), paint=paint, repetitions_per_metre=repetitions_per_metre).cpu()

        buffers = cast(self.standing(surface, index), paint)
        if self.photographs:
            photo = self.photographs[index % len(self.photographs)].behind(size)
            if int(buffers.instance.max()) == 0:
                buffers = dataclasses.replace(buffers, offset=photo, radiance=photo)
            else:
                offset = behind(buffers, cast(speck()), photo)
                radiance = (buffers.radiance + offset - buffers.offset).clamp(min=0)
                buffers = dataclasses.replace(buffers, offset=offset, radiance=radiance)
        rate = self.conditions(index)["rain"]
        if rate > 0:
            seed = self._mixed(index, of="weather")
            covered = streaks(rate, camera, buffers.depth, shutter=self.shutter, seed=seed)[..., None]
            light = BRIGHT * covered * torch.tensor(environment.airlight)
            buffers = dataclasses.replace(
                buffers,
                gain=(1 - covered) * buffers.gain,
                offset=(1 - covered) * buffers.offset + light,
                radiance=(1 - covered) * buffers.radiance + light,
            )
        return self._metered(buffers)

    def _metered(self, buffers: RayBuffers) -> RayBuffers:
        """Buffers as a camera exposes them that brightens dark views, by the geometric mean of what it sees."""
        if self.metering == 1:
            return buffers
        luminance = buffers.radiance @ torch.tensor(LUMINANCE)
        mean = float(luminance.clamp(min=1e-7).log().mean().exp())
        factor = min(max(GREY / mean, 1.0), self.metering)
        changed = {name: factor * getattr(buffers, name) for name in ("gain", "offset", "radiance")}
        return dataclasses.replace(buffers, **changed)
