"""Bodies of no particular kind, to train on what is not the object: a rounded hull with panes, wheels and blocks."""

import math

import torch

from simengine.dtn.bodies.builder import Look, MeshBuilder, Point
from simengine.ops.light.ray_scene import RaySurface

LOOKS: dict[str, Look] = {
    "glass": ((0.02, 0.025, 0.03), 0.06, 0.08),
    "tyre": ((0.03, 0.03, 0.03), 0.9, 0.0),
    "metal": ((0.40, 0.40, 0.42), 0.25, 0.4),
}
STATIONS, SIDES = 14, 20


def coat(u: float, v: float) -> tuple[float, float]:
    """Roughness and reflectance of a paint from two numbers in [0, 1]: a third matt, the rest from satin to gloss."""
    return (0.9, 0.0) if u < 1 / 3 else (0.1 + 0.5 * v, 0.02 + 0.06 * (u - 1 / 3) * 1.5)


def various(seed: int) -> RaySurface:
    """A painted body of 1.5 to 6 m on the ground z = 0.

    Args:
        seed: Of shape and coat.
    """
    u = torch.rand(24, generator=torch.Generator().manual_seed(seed)).tolist()
    b = MeshBuilder({"paint": ((0.5, 0.5, 0.5), *coat(u[0], u[1])), **LOOKS})
    half = (0.75 + 2.25 * u[2], 0.4 + 0.9 * u[3], 0.3 + 0.9 * u[4])  # length, width, height, halves [m]
    low, squareness, ends = 0.1 + 0.5 * u[5], 2.0 + 6.0 * u[6] * u[6], 2.0 + 5.0 * u[7]
    lean = 0.5 * (u[8] - 0.5)

    def ring(t: float) -> list[Point]:
        scale = max(1 - abs(t) ** ends, 0.02) ** 0.5
        points = []
        for k in range(SIDES):
            c, s = math.cos(2 * math.pi * k / SIDES), math.sin(2 * math.pi * k / SIDES)
            size = (abs(c) ** squareness + abs(s) ** squareness) ** (-1 / squareness)
            y, z = scale * half[1] * size * c, scale * half[2] * size * s
            points.append((half[0] * t + lean * z, y, low + half[2] + z))
        return points

    rings = [ring(-1 + 2 * k / (STATIONS - 1)) for k in range(STATIONS)]
    start = -0.8 + 1.0 * u[9]
    panes = [
        (name, (half[0] * at, half[0] * (at + 0.15 + 0.5 * width)), columns)
        for name, at, width, columns in (
            ("glass", start, u[10], (1, 2, 7, 8)),
            ("metal" if u[11] < 0.3 else "paint", start + 0.4, u[12], (10, 11, 18, 19)),
        )
    ]
    b.loft(rings, "paint", parts=panes)
    if u[13] < 0.6:
        radius = low + 0.1 + 0.15 * u[14]
        for x in (-0.6, 0.6):
            for side in (-1.0, 1.0):
                y = (side * 0.7 * half[1], side * (half[1] + 0.02))
                b.disc(x * half[0], y, radius, radius, "tyre")
    for k in range(int(2.99 * u[15])):
        at, size, up = (1.4 * u[16 + 3 * k] - 0.7) * half[0], 0.15 + 0.4 * u[17 + 3 * k], low + 2 * half[2]
        y = 0.6 * half[1]
        name = "paint" if u[18 + 3 * k] < 0.6 else "metal"
        b.box((at - size, -y, low + half[2]), (at + size, y, up + 0.8 * size), name)
    return b.surface(painted="paint", part=True, crease=math.radians(40.0))
