"""A car composed of lofted and extruded parts, some five thousand triangles, with texture coordinates."""

import dataclasses
import itertools
import math

import torch

from simengine.dtn.bodies.builder import VEHICLE, Look, MeshBuilder, Pair, Point, Regions
from simengine.ops.light.ray_scene import RaySurface

ATLAS = 6.4  # [m] that the unit square of texture coordinates spans
#         name: albedo, roughness, reflectance
MATERIALS: dict[str, Look] = {
    "paint": ((0.5, 0.5, 0.5), 0.30, 0.04),
    **VEHICLE,
    "chrome": ((0.30, 0.30, 0.31), 0.15, 0.55),
}
# stations of the body: x, bottom z, belt z, half width [m]; x forward, y left, z up
BODY = (
    (-2.22, 0.46, 0.72, 0.60),
    (-2.17, 0.36, 0.90, 0.74),
    (-2.05, 0.29, 0.99, 0.82),
    (-1.70, 0.22, 1.01, 0.875),
    (-1.10, 0.19, 0.995, 0.90),
    (-0.20, 0.18, 0.97, 0.905),
    (0.60, 0.18, 0.945, 0.90),
    (1.10, 0.19, 0.915, 0.89),
    (1.60, 0.20, 0.845, 0.865),
    (1.95, 0.22, 0.765, 0.81),
    (2.12, 0.26, 0.69, 0.73),
    (2.19, 0.32, 0.62, 0.63),
    (2.22, 0.40, 0.55, 0.52),
)
STATIONS = 34
# a half of the cabin's outline, front to rear: share of its length from the rear, of its half width, what follows
OUTLINE = (
    (1.0, 0.0, "glass"),
    (0.995, 0.40, "glass"),
    (0.975, 0.72, "glass"),
    (0.955, 0.86, "paint"),
    (0.925, 0.94, "paint"),
    (0.89, 0.975, "glass"),
    (0.78, 0.995, "glass"),
    (0.66, 1.0, "glass"),
    (0.545, 1.0, "trim"),
    (0.51, 1.0, "glass"),
    (0.38, 1.0, "glass"),
    (0.24, 0.985, "paint"),
    (0.12, 0.95, "paint"),
    (0.05, 0.87, "paint"),
    (0.025, 0.78, "glass"),
    (0.005, 0.45, "glass"),
    (0.0, 0.0, "glass"),
)
ROWS = (
    0.0,
    0.13,
    0.16,
    0.40,
    0.65,
    0.86,
    0.93,
    1.0,
)  # of the cabin, shares of its height; glass from the second to the sixth
WHEELS = (1.36, -1.32)


def car() -> RaySurface:
    """A saloon car of 4.4 x 1.8 x 1.45 m on the ground z = 0, its nose to +x; material 0 is the paint."""
    b = MeshBuilder(MATERIALS)
    lamps: Regions = (("headlamp", (1.93, 2.14), (3, 4, 12, 13)), ("taillamp", (-2.18, -1.97), (3, 4, 12, 13)))
    b.loft([_section(*station) for station in _stations()], "paint", parts=lamps)
    _cabin(b)
    for x in WHEELS:
        for side in (-1.0, 1.0):
            _wheel(b, x, side)
    for side in (-1.0, 1.0):
        _side(b, side)
        _block(b, side, (1.98, 2.212), (0.36, 0.66), (0.535, 0.645), "headlamp", slant=0.06)
        _block(b, side, (-2.228, -2.0), (0.40, 0.74), (0.72, 0.86), "taillamp", slant=-0.04)
        _block(b, side, (2.0, 2.16), (0.50, 0.66), (0.33, 0.41), "trim", slant=0.08)
        _block(b, side, (0.60, 0.74), (0.86, 1.04), (0.97, 1.09), "paint")  # mirrors
    b.box((2.10, -0.33, 0.50), (2.235, 0.33, 0.60), "trim")  # grille
    b.box((2.10, -0.33, 0.60), (2.240, 0.33, 0.615), "chrome")
    b.box((2.10, -0.50, 0.30), (2.205, 0.50, 0.38), "trim")  # air intake
    b.box((2.19, -0.26, 0.40), (2.245, 0.26, 0.49), "plate")
    b.box((-2.235, -0.26, 0.60), (-2.19, 0.26, 0.71), "plate")
    b.box((-2.225, -0.60, 0.34), (-2.10, 0.60, 0.42), "trim")
    b.box((-1.85, -0.72, 0.15), (1.85, 0.72, 0.24), "trim")  # underbody
    body = b.surface(painted="paint", part=True, crease=math.radians(32.0))
    return dataclasses.replace(body, corner_uv=chart_uv(body.triangles))


def _stations() -> list[tuple[float, ...]]:
    """Stations of the body, dense towards its ends, by a spline through BODY (Catmull and Rom 1974)."""
    knots = [BODY[0], *BODY, BODY[-1]]
    pieces = len(BODY) - 1
    stations = []
    for k in range(STATIONS):
        place = min(pieces * k / (STATIONS - 1), pieces - 1e-9)
        i, t = int(place), place - int(place)
        p = knots[i : i + 4]
        stations.append(
            tuple(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(*p, strict=True)
            )
        )
    return stations


def _section(x: float, bottom: float, belt: float, half: float) -> list[Point]:
    """A closed cross-section of the body, rounded at sill and shoulder."""
    height = belt - bottom
    right = [
        (0.80 * half, bottom),
        (0.93 * half, bottom + 0.04 * height),
        (0.985 * half, bottom + 0.22 * height),
        (half, bottom + 0.52 * height),
        (0.99 * half, bottom + 0.74 * height),
        (0.96 * half, bottom + 0.90 * height),
        (0.88 * half, bottom + 0.99 * height),
        (0.50 * half, belt + 0.025),
        (0.18 * half, belt + 0.034),
    ]
    return [(x, y, z) for y, z in right] + [(x, -y, z) for y, z in reversed(right)]


def _cabin(b: MeshBuilder) -> None:
    """Rings from the belt to the roof; columns are pillars and panes, which lean with them."""
    bottom, top, crown = 0.93, 1.44, 0.035
    half = OUTLINE[1:-1]
    ring = [*OUTLINE, *((a, -w, name) for (a, w, _), (*_, name) in zip(half[::-1], OUTLINE[-2::-1], strict=False))]

    def outline(t: float, scale: float = 1.0) -> list[Point]:
        bulge = t * (1 - t)
        front, rear, side = (
            1.02 - 0.84 * t + 0.22 * bulge,
            -1.78 + 0.62 * t - 0.2 * bulge,
            0.80 - 0.21 * t + 0.1 * bulge,
        )
        middle, length = (front + rear) / 2, front - rear
        z = bottom + (top - bottom) * t + crown * (1 - scale**2)
        return [(middle + scale * (a - 0.5) * length, scale * w * side, z) for a, w, _ in ring]

    for k, (low, high) in enumerate(itertools.pairwise(ROWS)):
        first, second = outline(low), outline(high)
        for m, (_, _, name) in enumerate(ring):
            n = (m + 1) % len(ring)
            seal = "trim" if k == 1 and name == "glass" else name
            b.quad(first[m], first[n], second[n], second[m], seal if 1 <= k <= 5 else "paint")
    roof = [outline(1.0, scale) for scale in (1.0, 0.93, 0.78, 0.5, 0.2)]
    b.loft(roof, "paint")


def _wheel(b: MeshBuilder, x: float, side: float) -> None:
    """Arch, tyre, and a rim with five spokes."""
    z, out = 0.325, 0.905
    b.disc(x, (side * 0.60, side * (out + 0.002)), z + 0.03, 0.352, "trim", sides=28)
    tyre = ((0.66, 0.25), (0.67, 0.31), (0.70, 0.325), (0.885, 0.325), (0.912, 0.30), (0.918, 0.225))
    b.revolve(x, z, [(side * y, r) for y, r in tyre], "tyre")
    b.revolve(x, z, [(side * 0.918, 0.225), (side * 0.922, 0.205), (side * 0.88, 0.20)], "rim")
    b.disc(x, (side * 0.70, side * 0.885), z, 0.21, "trim", sides=20)
    b.disc(x, (side * 0.80, side * 0.92), z, 0.055, "rim", sides=12)
    for k in range(5):
        angle = 2 * math.pi * k / 5 + 0.3 * x
        c, s = math.cos(angle), math.sin(angle)
        spoke: list[Point] = [
            (x + r * c - e * s, side * 0.912, z + r * s + e * c)
            for r, e in ((0.04, -0.035), (0.20, -0.045), (0.20, 0.045), (0.04, 0.035))
        ]
        b.quad(spoke[0], spoke[1], spoke[2], spoke[3], "rim")


def _side(b: MeshBuilder, side: float) -> None:
    """Gaps of the doors, handles, a sill."""
    stations = _stations()

    def skin(x: float) -> list[Point]:
        index = min(range(len(stations)), key=lambda k: abs(stations[k][0] - x))
        _, bottom, belt, half = stations[index]
        return [(x, side * (abs(y) + 0.004), z) for _, y, z in _section(x, bottom, belt, half)[1:6]]

    for x in (0.80, -0.27, -1.22):
        for (lower, upper), (low, high) in zip(
            itertools.pairwise(skin(x - 0.008)), itertools.pairwise(skin(x + 0.008)), strict=True
        ):
            b.quad(lower, low, high, upper, "trim")
    for x in (-0.12, -1.06):
        _block(b, side, (x - 0.10, x + 0.10), (0.88, 0.925), (0.83, 0.86), "chrome")
    _block(b, side, (-0.88, 0.92), (0.80, 0.892), (0.17, 0.235), "trim")


def _block(b: MeshBuilder, side: float, x: Pair, y: Pair, z: Pair, name: str, *, slant: float = 0.0) -> None:
    """A block on the side `side`, whose outer end lies `slant` further back than its inner one."""
    rings = [
        [(u - s, side * w, h) for u, h in ((x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1]))]
        for w, s in zip(y, (0.0, slant), strict=True)
    ]
    b.loft(rings, name)


def chart_uv(triangles: torch.Tensor) -> torch.Tensor:
    """Texture coordinates from five planar charts (left, right, top, front, rear) side by side in the unit square.

    Args:
        triangles: Corners [m], shape (f, 3, 3), within 4.6 m along x, 2.1 m along y and 1.5 m of height.

    Returns:
        Shape (f, 3, 2), one unit for ATLAS metres.
    """
    a, b, c = triangles.unbind(1)
    centre = triangles.mean(1)
    n = torch.linalg.cross(b - a, c - a)
    n = n * torch.where((n * (centre - centre.new_tensor([0.0, 0.0, 0.7]))).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    axis = n.abs().argmax(-1)
    x, y, z = triangles.unbind(-1)
    x, y = x + 2.3, y + 1.05
    charts = {
        "left": torch.stack([x, z], -1),
        "right": torch.stack([x, z + 1.55], -1),
        "top": torch.stack([x, y + 3.1], -1),
        "front": torch.stack([0.5 * y + 4.75, z], -1),
        "rear": torch.stack([0.5 * y + 4.75, z + 1.55], -1),
    }
    side = torch.where((n[:, 1] > 0)[:, None, None], charts["left"], charts["right"])
    end = torch.where((n[:, 0] > 0)[:, None, None], charts["front"], charts["rear"])
    metres = torch.where((axis == 0)[:, None, None], end, charts["top"])
    return torch.where((axis == 1)[:, None, None], side, metres) / ATLAS
