"""Further things of known classes about an object, placed so that none stands in another."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache

import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.bodies.paints import NATURAL_PAINTS
from simengine.dtn.bodies.vehicles import Colour, bicycle, stop_sign, van
from simengine.ops.light.ray_scene import RaySurface

GAP = 0.4  # that stays free about each [m]
TRIES = 40  # places tried for each thing before it is left out


def _other_car(colour: Colour) -> RaySurface:
    """The car that ships, in a paint that is nobody's to change."""
    body = car()
    albedo = torch.where(body.painted[:, None], torch.tensor(colour), body.albedo)
    none = torch.zeros_like(body.painted)
    return dataclasses.replace(body, albedo=albedo, painted=none, part=none, instance=none.long() + 1)


CLASSES: dict[str, Callable[[Colour], RaySurface]] = {
    "car": _other_car,
    "van": van,
    "bicycle": bicycle,
    "stop sign": stop_sign,
}


@cache
def _body(name: str, colour: Colour) -> RaySurface:
    return CLASSES[name](colour)


@dataclasses.dataclass(frozen=True)
class Footprint:
    """A rectangle on the ground.

    Attributes:
        x: Of its middle [m].
        y: Of its middle [m].
        half: Of its length and width [m].
        yaw: Of its length against x [rad].
    """

    x: float
    y: float
    half: tuple[float, float]
    yaw: float

    def corners(self) -> list[tuple[float, float]]:
        """In order around it."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
        steps = [(a * self.half[0], b * self.half[1]) for a, b in signs]
        return [(self.x + c * u - s * v, self.y + s * u + c * v) for u, v in steps]

    def meets(self, other: "Footprint") -> bool:
        """Whether the two have a point in common: no side of either separates them (Gottschalk et al. 1996)."""
        mine, theirs = self.corners(), other.corners()
        for yaw in (self.yaw, other.yaw):
            for ax, ay in ((math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))):
                spans = [[x * ax + y * ay for x, y in corners] for corners in (mine, theirs)]
                if max(spans[0]) < min(spans[1]) or max(spans[1]) < min(spans[0]):
                    return False
        return True


def footprint(surface: RaySurface, *, x: float = 0.0, y: float = 0.0, yaw: float = 0.0, gap: float = 0.0) -> Footprint:
    """Of a surface that is moved and turned about z.

    Args:
        surface: As it was made.
        x: Where its origin goes [m].
        y: Where its origin goes [m].
        yaw: By which it is turned [rad].
        gap: That is added all around [m].
    """
    low, high = surface.vertices[:, :2].min(0).values, surface.vertices[:, :2].max(0).values
    u, v = ((low + high) / 2).tolist()
    a, b = ((high - low) / 2 + gap).tolist()
    c, s = math.cos(yaw), math.sin(yaw)
    return Footprint(x + c * u - s * v, y + s * u + c * v, (a, b), yaw)


def placed(surface: RaySurface, x: float, y: float, yaw: float) -> RaySurface:
    """A surface turned about z [rad] and then moved [m]."""
    c, s = math.cos(yaw), math.sin(yaw)
    turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return dataclasses.replace(
        surface,
        vertices=surface.vertices @ turn.T + torch.tensor([x, y, 0.0]),
        corner_normals=None if surface.corner_normals is None else surface.corner_normals @ turn.T,
    )


@dataclasses.dataclass(frozen=True)
class Sight:
    """Where a camera looks, for things to be placed in its picture.

    Attributes:
        eye: [m].
        azimuth: Of the middle of the picture [rad].
        pitch: How far it looks down [rad].
        half: Half the angle that is filled [rad].
        far: Largest horizontal distance [m].
    """

    eye: tuple[float, float, float]
    azimuth: float
    pitch: float
    half: float
    far: float

    def ground(self, bearing: float, share: float, near: float) -> tuple[float, float] | None:
        """A point of the ground in the picture.

        Args:
            bearing: -1 to 1 across the picture.
            share: 0 to 1 from near to far.
            near: Smallest distance [m].

        Returns:
            x and y [m]; None where it lies above or below the picture.
        """
        d = near + max(self.far - near, 0.0) * share
        if abs(math.atan2(self.eye[2], d) - self.pitch) > self.half:
            return None
        angle = self.azimuth + bearing * self.half
        return self.eye[0] + d * math.cos(angle), self.eye[1] + d * math.sin(angle)


def traffic(
    seed: int, number: int, classes: Sequence[str], sight: Sight, taken: Sequence[Footprint] = ()
) -> list[tuple[str, RaySurface]]:
    """Things on the ground before a camera, with the class of each; fewer where there is no room for all.

    Vehicles stand along the road, x, in three of four cases; the faces of signs look to the camera, up to 50 degrees
    off. Each is at least 1 m and 1.5 times its largest side from the camera.

    Args:
        seed: Of classes, places and colours.
        number: Of things.
        classes: Names of CLASSES to draw from.
        sight: Of the camera.
        taken: Footprints to keep off.
    """
    generator = torch.Generator().manual_seed(seed)
    occupied, found = list(taken), []
    for _ in range(number):
        u = torch.rand(2, generator=generator).tolist()
        name = classes[int(u[0] * len(classes))]
        body = _body(name, NATURAL_PAINTS[int(u[1] * len(NATURAL_PAINTS))])
        near = 1.0 + 1.5 * float((body.vertices.max(0).values - body.vertices.min(0).values).max())
        for _ in range(TRIES):
            v = torch.rand(5, generator=generator).tolist()
            place = sight.ground(2 * v[0] - 1, v[1], near)
            if place is None:
                continue
            x, y = place
            if name == "stop sign":
                yaw = math.atan2(sight.eye[1] - y, sight.eye[0] - x) + math.radians(100) * (v[3] - 0.5)
            elif v[2] < 0.75:
                yaw = (math.pi if v[4] < 0.5 else 0.0) + math.radians(12) * (v[3] - 0.5)
            else:
                yaw = 2 * math.pi * v[3]
            own = footprint(body, x=x, y=y, yaw=yaw, gap=GAP / 2)
            if not any(own.meets(other) for other in occupied):
                occupied.append(own)
                found.append((name, placed(body, x, y, yaw)))
                break
    return found


def overlapping(footprints: Sequence[Footprint]) -> bool:
    """Whether any two of them meet."""
    return any(a.meets(b) for a, b in itertools.combinations(footprints, 2))
