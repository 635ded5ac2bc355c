"""What rays are cast at: a painted triangle mesh, and the light, weather and ground around it."""

import dataclasses
import math
from functools import cached_property
from typing import Any

import torch
import warp as wp

from simengine.kernels.light import raycast as kernels
from simengine.ops import bridge

Vector = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RaySurface:
    """A triangle mesh with its materials.

    Attributes:
        vertices: Positions [m], z up, shape (v, 3).
        faces: Vertices of the triangles, shape (f, 3), integers.
        material: Of each face, shape (f,), integers below m.
        albedo: Linear RGB in [0, 1], shape (m, 3); of no effect on painted materials.
        roughness: GGX alpha is its square, in [0.02, 1], shape (m,).
        reflectance: Fresnel reflectance at normal incidence in [0, 1), shape (m,); 0 for a matt surface.
        painted: Which materials are the paint, shape (m,), bool.
        part: Which materials belong to the object, shape (m,), bool.
        instance: Number of the labelled thing that a material belongs to, shape (m,), integers; 0 for none. If it is
            None, 1 for the object.
        corner_uv: Texture coordinates, period 1, shape (f, 3, 2); zeros if None.
        corner_normals: Unit normals, shape (f, 3, 3); of the triangles if None.

    Raises:
        ValueError: A shape or an index is out of range.
    """

    vertices: torch.Tensor
    faces: torch.Tensor
    material: torch.Tensor
    albedo: torch.Tensor
    roughness: torch.Tensor
    reflectance: torch.Tensor
    painted: torch.Tensor
    part: torch.Tensor
    instance: torch.Tensor | None = None
    corner_uv: torch.Tensor | None = None
    corner_normals: torch.Tensor | None = None

    def __post_init__(self) -> None:
        f, m = len(self.faces), len(self.albedo)
        shapes = {"vertices": (len(self.vertices), 3), "faces": (f, 3), "material": (f,), "albedo": (m, 3)}
        shapes |= dict.fromkeys(("roughness", "reflectance", "painted", "part", "instance"), (m,))
        shapes |= {"corner_uv": (f, 3, 2), "corner_normals": (f, 3, 3)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
        if f == 0:
            raise ValueError("faces: a surface needs at least one triangle, got none")
        for name, limit in (("faces", len(self.vertices)), ("material", m)):
            value = getattr(self, name)
            if int(value.min()) < 0 or int(value.max()) >= limit:
                raise ValueError(
                    f"{name}: expected indices in [0, {limit}), got {int(value.min())}..{int(value.max())}"
                )
        if not torch.isfinite(self.vertices).all():
            raise ValueError("vertices: a coordinate is not finite")

    @property
    def triangles(self) -> torch.Tensor:
        """Corners of the triangles [m], shape (f, 3, 3)."""
        return self.vertices[self.faces.long()]

    @cached_property
    def normals(self) -> torch.Tensor:
        """Unit normals at the corners, shape (f, 3, 3)."""
        if self.corner_normals is not None:
            return self.corner_normals
        a, b, c = self.triangles.unbind(1)
        n = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return n[:, None].expand(-1, 3, -1)

    @cached_property
    def uv(self) -> torch.Tensor:
        """Texture coordinates at the corners, shape (f, 3, 2)."""
        return self.corner_uv if self.corner_uv is not None else self.vertices.new_zeros(len(self.faces), 3, 2)

    @cached_property
    def uv_scale(self) -> torch.Tensor:
        """Square root of the ratio of the areas in uv and in space [1/m], shape (f,)."""
        a, b, c = self.triangles.unbind(1)
        area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
        p, q = (self.uv[:, 1] - self.uv[:, 0]), (self.uv[:, 2] - self.uv[:, 0])
        return ((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).abs() / area.clamp(min=1e-12)).sqrt()

    @cached_property
    def instances(self) -> torch.Tensor:
        """Number of the labelled thing that each material belongs to, 0 for none, shape (m,)."""
        return self.part.long() if self.instance is None else self.instance.long()

    def to(self, device: torch.device | str) -> "RaySurface":
        """The same on a device; itself where it is there already."""
        if self.vertices.device == torch.device(device):
            return self
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: v.to(device) for name, v in values.items() if v is not None})

    def joined(self, other: "RaySurface") -> "RaySurface":
        """Both surfaces as one; materials of `other` come after those here, and so do the numbers of its instances."""

        def cat(a: torch.Tensor, b: torch.Tensor, shift: int = 0) -> torch.Tensor:
            return torch.cat([a, b + shift if shift else b])

        names = ("vertices", "albedo", "roughness", "reflectance", "painted", "part")
        return RaySurface(
            **{name: cat(getattr(self, name), getattr(other, name)) for name in names},
            faces=cat(self.faces, other.faces, len(self.vertices)),
            material=cat(self.material, other.material, len(self.albedo)),
            instance=torch.cat(
                [self.instances, torch.where(other.instances > 0, other.instances + int(self.instances.max()), 0)]
            ),
            corner_uv=cat(self.uv, other.uv),
            corner_normals=cat(self.normals, other.normals),
        )

    @cached_property
    def _handle(self) -> tuple[wp.Mesh, Any]:
        def floats(value: torch.Tensor, dtype: Any = None) -> wp.array:
            return bridge.array(value.float().contiguous(), dtype)

        def integers(value: torch.Tensor) -> wp.array:
            return bridge.array(value.to(torch.int32).contiguous())

        mesh = wp.Mesh(points=floats(self.vertices, wp.vec3), indices=integers(self.faces.reshape(-1)))
        surface = kernels.SurfaceData()
        surface.mesh = mesh.id
        surface.corner_normals = floats(self.normals, wp.vec3)
        surface.corner_uv = floats(self.uv, wp.vec2)
        surface.uv_scale = floats(self.uv_scale)
        surface.material = integers(self.material)
        surface.albedo = floats(self.albedo, wp.vec3)
        surface.roughness = floats(self.roughness)
        surface.reflectance = floats(self.reflectance)
        surface.painted = integers(self.painted)
        surface.part = integers(self.part)
        surface.instance = integers(self.instances)
        return mesh, surface


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamp:
    """A small lamp; its light falls with the square of the distance, and with the angle to its axis.

    Attributes:
        position: [m].
        axis: Along which it shines most; normalised where it is used.
        intensity: Along the axis [W/sr], up to the scale of the environment.
        spread: The intensity falls with cos^spread of the angle to the axis: 1 for a lamp that hangs over a street, 60
            for a headlamp, whose intensity is half at 8.7 degrees.
    """

    position: Vector
    axis: Vector = (0.0, 0.0, -1.0)
    intensity: Vector
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not math.hypot(*self.axis) > 0:
            raise ValueError(f"axis: expected a vector that is not zero, got {self.axis}")
        if not (self.spread >= 0 and min(self.intensity) >= 0):
            raise ValueError(f"expected intensity >= 0 and spread >= 0, got {self.intensity}, {self.spread}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """Sun, sky, lamps, haze and ground; radiances up to one common scale.

    Attributes:
        sun_direction: To the sun; z up; normalised here.
        sun_irradiance: On a plane that faces the sun [W/m^2].
        sky_zenith: Radiance overhead [W/(m^2 sr)].
        sky_horizon: Radiance at the horizon.
        haze: Extinction coefficient of the air [1/m].
        airlight: Radiance of an infinitely long way through the haze.
        ground: Whether the plane z = 0 is there.
        ground_dark: Albedo in the dark parts of its pattern.
        ground_light: Albedo in the light parts.
        ground_frequency: Of the pattern [1/m].
        road: Half the width of a carriageway along x, between kerbs and pavements [m]; 0 for none.
        lane: y of its middle [m].
        asphalt: Its albedo [1].
        clouds: Share of the sky that they cover [1].
        skyline: Radiance of what stands at the horizon.
        skyline_height: Sine of the largest elevation that it reaches; 0 for none.
        water: Mean depth of the water on the ground [mm]; it darkens what it soaks, and stands as a mirror where it is
            deeper than the ground is uneven (2 mm).
        lamps: Shine on everything; they are not seen themselves.
        panorama: Radiance of all directions, (r, 2 r, 3), seen and shining in place of sky, clouds and skyline; row 0
            is up, and its right half lies clockwise of its middle, seen from above. `sky_zenith` and `sky_horizon`
            still light what secondary rays meet. None for these.
        panorama_azimuth: Of its middle column [rad].
    """

    sun_direction: Vector = (0.4, 0.3, 0.85)
    sun_irradiance: Vector = (3.0, 2.9, 2.7)
    sky_zenith: Vector = (0.25, 0.4, 0.7)
    sky_horizon: Vector = (0.6, 0.65, 0.7)
    haze: float = 0.0
    airlight: Vector = (0.7, 0.75, 0.8)
    ground: bool = True
    ground_dark: Vector = (0.15, 0.15, 0.15)
    ground_light: Vector = (0.3, 0.29, 0.27)
    ground_frequency: float = 1.0
    road: float = 0.0
    lane: float = 0.0
    asphalt: float = 0.12
    clouds: float = 0.0
    skyline: Vector = (0.08, 0.1, 0.07)
    skyline_height: float = 0.0
    water: float = 0.0
    lamps: tuple[Lamp, ...] = ()
    panorama: torch.Tensor | None = None
    panorama_azimuth: float = 0.0

    def __post_init__(self) -> None:
        if self.panorama is not None:
            check_panorama(self.panorama)
        if not math.hypot(*self.sun_direction) > 0:
            raise ValueError(f"sun_direction: expected a vector that is not zero, got {self.sun_direction}")
        if not (self.haze >= 0 and math.isfinite(self.haze)):
            raise ValueError(f"haze: expected an extinction of at least 0 [1/m], got {self.haze}")
        if not (self.water >= 0 and math.isfinite(self.water)):
            raise ValueError(f"water: expected a depth of at least 0 [mm], got {self.water}")
        if not (self.road >= 0 and self.skyline_height >= 0 and 0 <= self.clouds <= 1):
            raise ValueError(
                f"expected road >= 0, skyline_height >= 0 and clouds in [0, 1], got {self.road}, "
                f"{self.skyline_height}, {self.clouds}"
            )

    @property
    def to_sun(self) -> Vector:
        """Unit vector to the sun."""
        x, y, z = self.sun_direction
        r = math.hypot(x, y, z)
        return (x / r, y / r, z / r)

    def lamp_tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Positions [m], unit axes and intensities (n, 3), spreads (n,), of the lamps, float64."""
        rows = [(*lamp.position, *lamp.axis, *lamp.intensity, lamp.spread) for lamp in self.lamps]
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 10)
        return table[:, :3], torch.nn.functional.normalize(table[:, 3:6], dim=1), table[:, 6:9], table[:, 9]

    def _struct(self, pixel: float, device: torch.device) -> Any:
        env = kernels.Outdoors()
        env.lamps = len(self.lamps)
        names = ("lamp_position", "lamp_axis", "lamp_intensity", "lamp_spread")
        for name, value in zip(names, self.lamp_tensors(), strict=True):
            value = value.to(device, torch.float32).contiguous()
            setattr(env, name, bridge.array(value, wp.vec3 if value.dim() == 2 else None))
        env.sun_direction = wp.vec3(*self.to_sun)
        colours = ("sun_irradiance", "sky_zenith", "sky_horizon", "airlight", "ground_dark", "ground_light", "skyline")
        for name in colours:
            setattr(env, name, wp.vec3(*getattr(self, name)))
        env.ground = int(self.ground)
        for name in ("haze", "ground_frequency", "road", "lane", "asphalt", "clouds", "skyline_height", "water"):
            setattr(env, name, float(getattr(self, name)))
        light = torch.zeros(0, 0, 3) if self.panorama is None else self.panorama
        env.panorama = bridge.array(light.to(device, torch.float32).contiguous(), wp.vec3)
        env.panorama_azimuth = self.panorama_azimuth
        env.pixel = pixel
        return env


def check_panorama(radiance: torch.Tensor) -> None:
    """Raise ValueError unless `radiance` is of shape (r, 2 r, 3) with values that are light."""
    if radiance.dim() != 3 or radiance.shape[1:] != (2 * len(radiance), 3) or not len(radiance):
        raise ValueError(f"panorama: expected shape (r, 2 r, 3) of all directions, got {tuple(radiance.shape)}")
    if not bool((radiance >= 0).all() and torch.isfinite(radiance).all()):
        raise ValueError("panorama: expected radiances that are finite and not negative")
