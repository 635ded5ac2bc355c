"""What stands around an object: houses with windows, trees, crates, and vans that may be mistaken for a car."""

import math
from collections.abc import Sequence

import torch

from simengine.dtn.bodies.builder import Look, MeshBuilder, Point
from simengine.ops.light.ray_scene import RaySurface

LOOKS: dict[str, Look] = {
    "window": ((0.03, 0.04, 0.05), 0.1, 0.08),
    "bark": ((0.09, 0.07, 0.05), 0.9, 0.0),
    "tyre": ((0.03, 0.03, 0.03), 0.9, 0.0),
}
KINDS = ("house", "van", "tree", "crate", "van", "tree")


def surroundings(
    seed: int, *, number: int = 6, away_from: float = 0.0, reach: float = 2.3, kinds: Sequence[str] = KINDS
) -> RaySurface:
    """Bodies around the origin, to be seen beside the object and some of them to be mistaken for it.

    Houses stand along the road, on the side away from the camera.

    Args:
        seed: Of places, sizes and colours.
        number: Of bodies; their kinds follow one another.
        away_from: Azimuth of the camera [rad]; the 90 degrees about it stay free.
        reach: Largest horizontal distance of the object from the origin [m]; bodies keep 5 m more.
        kinds: Of KINDS, in the order in which they follow one another.
    """
    generator = torch.Generator().manual_seed(seed)
    b = MeshBuilder(LOOKS)
    for k in range(number):
        u = torch.rand(10, generator=generator).tolist()
        shade, kind, name = 0.06 + 0.55 * u[5] * u[6], kinds[k % len(kinds)], f"body {k}"
        colour = (shade * (0.9 + 0.3 * u[7]), shade * (0.9 + 0.2 * u[8]), shade * (0.8 + 0.3 * u[9]))
        b.materials[name] = (colour, 0.5, 0.03)
        azimuth = away_from + math.pi * (0.25 + 1.5 * u[0])
        distance = reach + 5.7 + 17.0 * u[1] * u[1]
        x, y = distance * math.cos(azimuth), distance * math.sin(azimuth)
        if kind == "house":
            _house(b, x, -math.copysign(max(abs(y), reach + 9.0), math.sin(away_from)), u, name)
        elif kind == "van":
            _van(b, x, y, u, name)
        elif kind == "tree":
            b.materials[name] = ((0.3 * shade + 0.02, 0.4 * shade + 0.05, 0.15 * shade + 0.01), 0.9, 0.0)
            _tree(b, x, math.copysign(max(abs(y), reach + 6.0), y), u, name)
        else:
            half, top = (0.4 + 1.2 * u[2], 0.4 + 1.2 * u[3]), 0.6 + 2.0 * u[4] * u[4]
            b.box((x - half[0], y - half[1], 0.0), (x + half[0], y + half[1], top), name)
    return b.surface(painted=None, part=False, crease=0.0)


def _house(b: MeshBuilder, x: float, y: float, u: list[float], name: str) -> None:
    """A house with rows of windows on the side of the road; `y` is that side."""
    length, depth, floors = 8.0 + 10.0 * u[2], 8.0, 1 + int(3.99 * u[3])
    far = y + math.copysign(depth, y)
    b.box((x - length / 2, min(y, far), 0.0), (x + length / 2, max(y, far), 0.6 + 3.0 * floors), name)
    face = y - math.copysign(0.03, y)
    columns = max(2, int(length / (2.2 + u[4])))
    for floor in range(floors):
        for column in range(columns):
            left, low = x - length / 2 + length * (column + 0.28) / columns, 1.2 + 3.0 * floor
            right, high = left + 0.44 * length / columns, low + 1.5
            b.quad((left, face, low), (right, face, low), (right, face, high), (left, face, high), "window")


def _van(b: MeshBuilder, x: float, y: float, u: list[float], name: str) -> None:
    """A plain body of the size of a car or a van, with a dark band where it has its windows, and wheels."""
    half, low, high = (2.2, 0.9), 0.25 + 0.1 * u[3], 1.3 + 0.9 * u[4]
    along = u[2] < 0.7  # the road

    def place(p: Point) -> Point:
        return (x + p[0], y + p[1], p[2]) if along else (x + p[1], y + p[0], p[2])

    def block(low: Point, high: Point, material: str) -> None:
        first, second = place(low), place(high)
        b.box(first, second, material)

    block((-half[0], -half[1], low), (half[0], half[1], high), name)
    band = (0.62 * high, 0.92 * high)
    block((-0.94 * half[0], -half[1] - 0.01, band[0]), (0.94 * half[0], half[1] + 0.01, band[1]), "window")
    block((-half[0] - 0.01, -0.9 * half[1], band[0]), (half[0] + 0.01, 0.9 * half[1], band[1]), "window")
    for wheel in (-1.35, 1.35):
        block((wheel - 0.3, -half[1] - 0.005, 0.0), (wheel + 0.3, half[1] + 0.005, 0.6), "tyre")


def _tree(b: MeshBuilder, x: float, y: float, u: list[float], name: str) -> None:
    """A trunk, and a crown of uneven rings."""
    trunk, radius = 1.5 + 1.5 * u[2], 1.2 + 1.3 * u[3]
    b.box((x - 0.12, y - 0.12, 0.0), (x + 0.12, y + 0.12, trunk + 0.5), "bark")
    rings = []
    for k in range(7):
        polar = math.pi * (0.06 + 0.88 * k / 6)
        ring = []
        for m in range(10):
            uneven = radius * (1.0 + 0.18 * math.sin(7.0 * (u[4] + k) + 2.3 * m * m))
            angle = 2 * math.pi * m / 10
            flat = uneven * math.sin(polar)
            ring.append(
                (x + flat * math.cos(angle), y + flat * math.sin(angle), trunk + radius * (1.0 - 1.2 * math.cos(polar)))
            )
        rings.append(ring)
    b.loft(rings, name)
