"""A car composed of lofted and extruded parts, about a thousand triangles, with texture coordinates."""

import itertools
import math
from collections.abc import Sequence

import torch

from simengine.ops.light.raycast import RaySurface

ATLAS = 6.4  # [m] that the unit square of texture coordinates spans
#         name: albedo, roughness, reflectance
MATERIALS = {
    "paint": ((0.5, 0.5, 0.5), 0.35, 0.04),
    "glass": ((0.02, 0.025, 0.03), 0.08, 0.06),
    "tyre": ((0.03, 0.03, 0.03), 0.9, 0.0),
    "rim": ((0.55, 0.55, 0.57), 0.3, 0.2),
    "trim": ((0.04, 0.04, 0.045), 0.6, 0.02),
    "headlamp": ((0.8, 0.8, 0.78), 0.15, 0.05),
    "taillamp": ((0.5, 0.03, 0.03), 0.2, 0.05),
    "plate": ((0.75, 0.75, 0.7), 0.5, 0.02),
}
# stations of the body: x, bottom z, belt z, half width [m]; x forward, y left, z up
BODY = (
    (-2.20, 0.42, 0.80, 0.72),
    (-2.12, 0.30, 0.94, 0.82),
    (-1.80, 0.24, 1.00, 0.87),
    (-1.30, 0.20, 1.00, 0.90),
    (-0.50, 0.19, 0.98, 0.90),
    (0.40, 0.19, 0.96, 0.90),
    (1.00, 0.20, 0.94, 0.89),
    (1.50, 0.22, 0.86, 0.87),
    (1.95, 0.24, 0.76, 0.82),
    (2.15, 0.30, 0.66, 0.75),
    (2.22, 0.38, 0.56, 0.68),
)

Point = tuple[float, float, float]


class _Builder:
    def __init__(self) -> None:
        self.triangles: list[tuple[Point, Point, Point]] = []
        self.material: list[int] = []

    def triangle(self, a: Point, b: Point, c: Point, name: str) -> None:
        self.triangles.append((a, b, c))
        self.material.append(list(MATERIALS).index(name))

    def quad(self, a: Point, b: Point, c: Point, d: Point, name: str) -> None:
        self.triangle(a, b, c, name)
        self.triangle(a, c, d, name)

    def loft(self, rings: Sequence[Sequence[Point]], name: str) -> None:
        """Join closed rings of equally many points, and close both ends by fans."""
        for first, second in itertools.pairwise(rings):
            for k in range(len(first)):
                m = (k + 1) % len(first)
                self.quad(first[k], first[m], second[m], second[k], name)
        for ring in (rings[0], rings[-1]):
            for k in range(1, len(ring) - 1):
                self.triangle(ring[0], ring[k], ring[k + 1], name)

    def box(self, low: Point, high: Point, name: str) -> None:
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.loft([[(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)] for x in (x0, x1)], name)

    def disc(self, x: float, y: tuple[float, float], z: float, radius: float, name: str, sides: int = 20) -> None:
        """A cylinder about an axis along y."""
        angles = [2 * math.pi * k / sides for k in range(sides)]
        self.loft([[(x + radius * math.cos(a), e, z + radius * math.sin(a)) for a in angles] for e in y], name)

    def pane(self, corners: Sequence[Point], s: tuple[float, float], t: tuple[float, float], outward: Point) -> None:
        """Glass on the part [s] x [t] of a quad, 6 mm proud of it."""
        a, b, c, d = corners

        def at(u: float, v: float) -> Point:
            weights = ((1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v)
            x, y, z = (sum(w * p[k] for w, p in zip(weights, (a, b, c, d), strict=True)) for k in range(3))
            return (x + 0.006 * outward[0], y + 0.006 * outward[1], z + 0.006 * outward[2])

        self.quad(at(s[0], t[0]), at(s[1], t[0]), at(s[1], t[1]), at(s[0], t[1]), "glass")


def car() -> RaySurface:
    """A saloon car of 4.4 x 1.8 x 1.45 m on the ground z = 0, its nose to +x; material 0 is the paint."""
    b = _Builder()
    b.loft([_section(*station) for station in BODY], "paint")
    _cabin(b)
    for x in (1.36, -1.32):
        for side in (-1.0, 1.0):
            b.disc(x, (side * 0.60, side * 0.905), 0.40, 0.40, "trim")
            b.disc(x, (side * 0.66, side * 0.925), 0.32, 0.32, "tyre")
            b.disc(x, (side * 0.68, side * 0.935), 0.32, 0.20, "rim", sides=10)
    for side in (-1.0, 1.0):
        low, high = sorted((side * 0.42, side * 0.70))
        b.box((2.02, low, 0.58), (2.20, high, 0.70), "headlamp")
        b.box((-2.215, low, 0.72), (-2.05, high, 0.86), "taillamp")
        low, high = sorted((side * 0.86, side * 1.02))
        b.box((0.62, low, 0.96), (0.76, high, 1.07), "paint")  # mirrors
    b.box((2.10, -0.36, 0.42), (2.235, 0.36, 0.55), "trim")  # grille
    b.box((-2.215, -0.26, 0.56), (-2.18, 0.26, 0.67), "plate")
    b.box((-1.9, -0.80, 0.16), (1.95, 0.80, 0.24), "trim")  # underbody
    triangles = torch.tensor(b.triangles)
    albedo, roughness, reflectance = zip(*MATERIALS.values(), strict=True)
    return RaySurface(
        vertices=triangles.reshape(-1, 3),
        faces=torch.arange(3 * len(triangles)).reshape(-1, 3),
        material=torch.tensor(b.material),
        albedo=torch.tensor(albedo),
        roughness=torch.tensor(roughness),
        reflectance=torch.tensor(reflectance),
        painted=torch.tensor([name == "paint" for name in MATERIALS]),
        part=torch.ones(len(MATERIALS), dtype=torch.bool),
        corner_uv=chart_uv(triangles),
        corner_normals=smooth_normals(triangles, crease=math.radians(32.0)),
    )


def _section(x: float, bottom: float, belt: float, half: float) -> list[Point]:
    """A closed cross-section of the body, rounded at sill and shoulder."""
    right = [
        (0.86 * half, bottom),
        (0.97 * half, bottom + 0.12 * (belt - bottom)),
        (half, bottom + 0.55 * (belt - bottom)),
        (0.975 * half, bottom + 0.86 * (belt - bottom)),
        (0.90 * half, bottom + 0.97 * (belt - bottom)),
        (0.45 * half, belt + 0.015),
    ]
    return [(x, y, z) for y, z in right] + [(x, -y, z) for y, z in reversed(right)]


def _cabin(b: _Builder) -> None:
    base, roof, bottom, top = 0.82, 0.60, 0.93, 1.44
    foot = ((0.95, bottom), (-1.65, bottom))
    head = ((0.20, top), (-1.05, top))
    sides: dict[float, tuple[Point, Point, Point, Point]] = {}
    for side in (-1.0, 1.0):
        sides[side] = (
            (foot[1][0], side * base, bottom),
            (foot[0][0], side * base, bottom),
            (head[0][0], side * roof, top),
            (head[1][0], side * roof, top),
        )
        b.quad(*sides[side], "paint")
        outward = (0.0, side * 0.92, 0.40)
        b.pane(sides[side], (0.13, 0.47), (0.20, 0.86), outward)
        b.pane(sides[side], (0.52, 0.90), (0.20, 0.86), outward)
    left, right = sides[1.0], sides[-1.0]
    screen = (right[1], left[1], left[2], right[2])
    rear = (left[0], right[0], right[3], left[3])
    for quad, outward in ((screen, (0.56, 0.0, 0.83)), (rear, (-0.65, 0.0, 0.76))):
        b.quad(*quad, "paint")
        b.pane(quad, (0.07, 0.93), (0.14, 0.92), outward)
    crown = 1.47  # the roof's middle
    for x0, x1 in ((head[0][0], -0.425), (-0.425, head[1][0])):
        z0, z1 = (top if x in (head[0][0], head[1][0]) else crown for x in (x0, x1))
        m0, m1 = z0 + 0.02, z1 + 0.02
        for side in (-1.0, 1.0):
            b.quad((x0, side * roof, top), (x0, 0.0, m0), (x1, 0.0, m1), (x1, side * roof, top), "paint")


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


def smooth_normals(triangles: torch.Tensor, *, crease: float) -> torch.Tensor:
    """Unit normals at the corners: area-weighted over the triangles there whose normals differ by less than `crease`.

    Args:
        triangles: Corners [m], shape (f, 3, 3); those closer than 0.1 mm count as one.
        crease: Largest angle that is smoothed [rad].
    """
    a, b, c = triangles.unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    unit = torch.nn.functional.normalize(area, dim=-1)
    _, corner = (triangles.reshape(-1, 3) * 1e4).round().long().unique(dim=0, return_inverse=True)
    face = torch.arange(len(triangles)).repeat_interleave(3)
    order = corner.argsort(stable=True)
    normals = unit.repeat_interleave(3, 0)
    for group in order.split(corner.bincount().tolist()):
        own, vectors = unit[face[group]], area[face[group]]
        cosine = own @ own.T
        # which side of a triangle is out does not matter: neighbours are turned to the one they are added to
        weight = (cosine.abs() > math.cos(crease)) * cosine.sign()
        normals[group] = torch.nn.functional.normalize(weight.to(vectors.dtype) @ vectors, dim=-1)
    return normals.reshape(-1, 3, 3)


def surroundings(seed: int, *, number: int = 6, away_from: float = 0.0) -> RaySurface:
    """Bodies 8 to 25 m around the origin, to be seen beside the object and mistaken for it.

    Every other one is a crate of random size and colour; those between are of the size of a car, with a dark band where
    it has its windows.

    Args:
        seed: Of places, sizes and colours.
        number: Of boxes.
        away_from: Azimuth of the camera [rad]; the 90 degrees about it stay free.
    """
    generator = torch.Generator().manual_seed(seed)
    b = _Builder()
    material: list[int] = []
    for k in range(number):
        angle, r, sx, sy, sz = torch.rand(5, generator=generator).tolist()
        distance = 8.0 + 17.0 * r * r
        azimuth = away_from + math.pi * (0.25 + 1.5 * angle)
        x, y = distance * math.cos(azimuth), distance * math.sin(azimuth)
        if k % 2 == 0:
            half, top = (0.4 + 1.6 * sx, 0.4 + 1.6 * sy), 0.6 + 3.4 * sz * sz
            b.box((x - half[0], y - half[1], 0.0), (x + half[0], y + half[1], top), "paint")
        else:
            half = (2.2, 0.9) if sx < 0.5 else (0.9, 2.2)
            low, high = 0.2 + 0.15 * sz, 1.2 + 0.5 * sy
            b.box((x - half[0], y - half[1], low), (x + half[0], y + half[1], high), "paint")
        material += [k] * (len(b.triangles) - len(material))
        if k % 2 == 1:
            inset = (0.99 * half[0] - 0.1, 0.99 * half[1] - 0.1)
            for side in (-1.0, 1.0):  # a band on each long side, 1 cm proud
                if half[0] > half[1]:
                    edge = sorted((y + side * half[1], y + side * (half[1] + 0.01)))
                    b.box((x - inset[0], edge[0], 0.85), (x + inset[0], edge[1], high - 0.12), "glass")
                else:
                    edge = sorted((x + side * half[0], x + side * (half[0] + 0.01)))
                    b.box((edge[0], y - inset[1], 0.85), (edge[1], y + inset[1], high - 0.12), "glass")
            material += [number] * (len(b.triangles) - len(material))
    triangles = torch.tensor(b.triangles)
    colours = 0.05 + 0.75 * torch.rand(number, 3, generator=generator) * torch.rand(number, 1, generator=generator)
    glass = torch.tensor([MATERIALS["glass"][0]])
    return RaySurface(
        vertices=triangles.reshape(-1, 3),
        faces=torch.arange(3 * len(triangles)).reshape(-1, 3),
        material=torch.tensor(material),
        albedo=torch.cat([colours, glass]),
        roughness=torch.full((number + 1,), 0.5),
        reflectance=torch.full((number + 1,), 0.03),
        painted=torch.zeros(number + 1, dtype=torch.bool),
        part=torch.zeros(number + 1, dtype=torch.bool),
    )
