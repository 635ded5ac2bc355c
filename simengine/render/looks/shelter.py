"""What bodies keep from the light of each other and of the floor: soft shadows, and shade where they stand close.

For figures, without a gradient: the depth that a light sees from many places is compared with that of each point.
"""

import dataclasses
import math

import torch

from simengine.ops.light.mesh_raster import draw_triangles
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image
from simengine.render.lights import DirectionalLight, Light
from simengine.render.meshes import TexturedMesh, camera_points
from simengine.render.shadows import shadow_of

PLACES = 24  # of a lamp with a width
SIDES = 160  # that light from all around comes from: of fewer, each one's shade shows on an even floor
FAR = 300.0  # radii of the scene: how far away light is taken to be, so that it falls nearly parallel
PIXELS = 512  # along each side of what a lamp sees
COARSE = 128  # of what each side of the sky sees
FLOOR_SENDS_BACK = 0.5  # of the light that falls onto it, to what lies above


@dataclasses.dataclass(frozen=True)
class Floor:
    """A plane that catches shadows.

    Attributes:
        up: Unit vector from which gravity comes, shape (3,).
        height: Along it [m].
    """

    up: torch.Tensor
    height: float


class Shelter:
    """What arrives of lights at points near a mesh; for `sheltered` of `render_mesh`.

    Args:
        mesh: What stands in the light.
        lights: Far ones have a width of `spread`; harmonic ones come from all around.
        floor: What it stands on, or None.
        spread: Half the angle that a lamp is wide [rad].
    """

    def __init__(
        self, mesh: TexturedMesh, lights: tuple[Light, ...], *, floor: Floor | None = None, spread: float = 0.07
    ) -> None:
        points = mesh.vertices.detach().float()
        low, high = points.amin(0), points.amax(0)
        self._middle, self._radius = (low + high) / 2, float((high - low).norm().clamp_min(1e-9)) / 2
        self._corners = points, mesh.faces.long()
        self._lights, self._floor = lights, floor
        self._around = _sphere(SIDES)
        self._seen_around = [
            None if floor is not None and float(way @ floor.up.float()) < 0 else self._seen_from(way, COARSE)
            for way in self._around
        ]
        self._lamps = [
            [self._seen_from(way, PIXELS) for way in _cone(light.direction.detach().float(), spread)]
            if isinstance(light, DirectionalLight)
            else None
            for light in lights
        ]

    def __call__(self, points: torch.Tensor, normals: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The part of each light, and of the ambient one, at points with unit normals (m, 3), (m, 1) each."""
        like = points
        with torch.no_grad():
            points, normals = points.float(), normals.float()
            sky = self._sky(points, normals)
            arrives = [
                sky if lamp is None else torch.stack([self._lit(points, normals, *seen) for seen in lamp]).mean(0)
                for lamp in self._lamps
            ]
        return [part.to(like) for part in arrives], sky.to(like)

    def _sky(self, points: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Of light from all around what is not hidden, weighted as a matt surface takes it."""
        total, free = torch.zeros(len(points), 1), torch.zeros(len(points), 1)
        for way, seen in zip(self._around, self._seen_around, strict=True):
            weight = (normals @ way).clamp_min(0)[:, None]
            total = total + weight
            free = free + weight * (FLOOR_SENDS_BACK if seen is None else self._lit(points, normals, *seen))
        return free / total.clamp_min(1e-6)

    def _seen_from(self, way: torch.Tensor, pixels: int) -> tuple[Image, PinholeCamera]:
        """Depth of the mesh from far away along a unit vector."""
        upright = torch.eye(3)[int(way.abs().argmin())]
        camera = PinholeCamera.look_at(
            self._middle + FAR * self._radius * way,
            self._middle,
            up=upright,
            fov_y=2 * math.asin(1.05 / FAR),
            width=pixels,
            height=pixels,
        )
        vertices, faces = self._corners
        face, depth = draw_triangles(camera_points(vertices, camera)[faces], width=pixels, height=pixels)
        alpha = (face >= 0).float()[..., None]
        return Image(rgb=alpha, alpha=alpha, depth=depth[..., None]), camera

    def _lit(self, points: torch.Tensor, normals: torch.Tensor, image: Image, camera: PinholeCamera) -> torch.Tensor:
        texel = 2 * self._radius / camera.width
        lifted = points + 1.5 * texel * normals  # off the surface that they lie on
        return shadow_of(lifted, image, camera, bias=2 * texel, softness=0.5 * texel)


def floor_picture(
    floor: Floor,
    camera: PinholeCamera,
    shelter: Shelter,
    *,
    lights: tuple[Light, ...],
    ambient: float,
    background: torch.Tensor,
) -> torch.Tensor:
    """The background with a floor in it that shows nothing but the shade on it, shape (h, w, 3).

    Args:
        floor: Where it lies; a camera below it does not see it.
        camera: A single one.
        shelter: What keeps light from it.
        lights: As of the shelter.
        ambient: Light from all around, as of `render_mesh`.
        background: Linear RGB, shape (3,).
    """
    origins, ways = camera.rays()
    up = floor.up.to(ways)
    falls = ways @ up
    t = (floor.height - origins @ up) / torch.where(falls < -1e-9, falls, -1.0)
    hit = (falls < -1e-9) & (t > 0)
    points = origins[hit] + t[hit][:, None] * ways[hit]
    normals = up.expand_as(points)
    arrives, sky = shelter(points, normals)
    lit, full = ambient * sky, torch.full_like(sky, ambient)
    for light, part in zip(lights, arrives, strict=True):
        if isinstance(light, DirectionalLight):
            way, strength = light.arriving(points)
            falling = (way @ up).clamp_min(0)[:, None] * strength.mean(-1, keepdim=True) / math.pi
            lit, full = lit + falling * part, full + falling
        else:
            lit, full = lit + part, full + 1
    share = torch.ones_like(ways[..., :1])
    share[hit] = torch.where(full > 0, lit / full.clamp_min(1e-12), 1.0).to(share)
    return share * background.to(ways)


def _sphere(count: int) -> torch.Tensor:
    """Unit vectors evenly around, shape (count, 3)."""
    from simengine.render.bodies import sphere

    return sphere(count)[1]


def _cone(axis: torch.Tensor, spread: float) -> torch.Tensor:
    """Unit vectors evenly over a cone around an axis (Vogel 1979), shape (PLACES, 3)."""
    axis = torch.nn.functional.normalize(axis, dim=0)
    side = torch.nn.functional.normalize(torch.linalg.cross(axis, torch.eye(3)[int(axis.abs().argmin())]), dim=0)
    k = torch.arange(PLACES, dtype=torch.float32)
    radius, turn = math.tan(spread) * ((k + 0.5) / PLACES).sqrt(), math.pi * (3 - math.sqrt(5)) * k
    other = torch.linalg.cross(axis, side)
    flat = (radius * turn.cos())[:, None] * side + (radius * turn.sin())[:, None] * other
    return torch.nn.functional.normalize(axis + flat, dim=1)
