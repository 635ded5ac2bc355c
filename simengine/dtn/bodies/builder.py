"""Meshes put together from lofts, boxes and discs, with a material for each triangle."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch

from simengine.ops.light.ray_scene import RaySurface

Point = tuple[float, float, float]
Look = tuple[Point, float, float]  # albedo, roughness, reflectance
Pair = tuple[float, float]
Regions = Sequence[tuple[str, Pair, Sequence[int]]]  # material, between which x, columns
# what vehicles have in common: linear albedo, roughness, reflectance at normal incidence
VEHICLE: dict[str, Look] = {
    "glass": ((0.02, 0.025, 0.03), 0.06, 0.08),
    "tyre": ((0.03, 0.03, 0.03), 0.9, 0.0),
    "rim": ((0.45, 0.45, 0.47), 0.3, 0.25),
    "trim": ((0.025, 0.025, 0.028), 0.6, 0.03),
    "headlamp": ((0.42, 0.44, 0.46), 0.08, 0.3),
    "taillamp": ((0.45, 0.02, 0.02), 0.15, 0.06),
    "plate": ((0.75, 0.75, 0.7), 0.5, 0.02),
}


class MeshBuilder:
    """Collects triangles.

    Args:
        materials: By name: albedo, roughness, reflectance.
    """

    def __init__(self, materials: Mapping[str, Look]) -> None:
        self.materials: dict[str, Look] = dict(materials)
        self.triangles: list[tuple[Point, Point, Point]] = []
        self.names: list[str] = []

    def triangle(self, a: Point, b: Point, c: Point, name: str) -> None:
        """Add one."""
        self.triangles.append((a, b, c))
        self.names.append(name)

    def surface(self, *, painted: str | None, part: bool, crease: float) -> RaySurface:
        """What was put together, without texture coordinates.

        Args:
            painted: Name of the material that is the paint; None for none.
            part: Whether all of it belongs to the object.
            crease: Largest angle that is smoothed [rad].
        """
        names, triangles = list(self.materials), torch.tensor(self.triangles)
        albedo, roughness, reflectance = zip(*self.materials.values(), strict=True)
        return RaySurface(
            vertices=triangles.reshape(-1, 3),
            faces=torch.arange(3 * len(triangles)).reshape(-1, 3),
            material=torch.tensor([names.index(name) for name in self.names]),
            albedo=torch.tensor(albedo),
            roughness=torch.tensor(roughness),
            reflectance=torch.tensor(reflectance),
            painted=torch.tensor([name == painted for name in names]),
            part=torch.full((len(names),), part),
            corner_normals=smooth_normals(triangles, crease=crease) if crease else None,
        )

    def quad(self, a: Point, b: Point, c: Point, d: Point, name: str) -> None:
        """Add two triangles."""
        self.triangle(a, b, c, name)
        self.triangle(a, c, d, name)

    def loft(self, rings: Sequence[Sequence[Point]], name: str, *, parts: Regions = ()) -> None:
        """Join closed rings of equally many points, and close both ends by fans.

        Args:
            rings: Along x.
            name: Material.
            parts: Others, for quads with their middle between two x and of some columns.
        """
        for first, second in itertools.pairwise(rings):
            x = (first[0][0] + second[0][0]) / 2
            for k in range(len(first)):
                m = (k + 1) % len(first)
                other = [part for part, (low, high), columns in parts if low < x < high and k in columns]
                self.quad(first[k], first[m], second[m], second[k], other[0] if other else name)
        for ring in (rings[0], rings[-1]):
            for k in range(1, len(ring) - 1):
                self.triangle(ring[0], ring[k], ring[k + 1], name)

    def box(self, low: Point, high: Point, name: str) -> None:
        """Add a block along the axes."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.loft([[(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)] for x in (x0, x1)], name)

    def disc(self, x: float, y: tuple[float, float], z: float, radius: float, name: str, sides: int = 20) -> None:
        """A cylinder about an axis along y."""
        angles = [2 * math.pi * k / sides for k in range(sides)]
        self.loft([[(x + radius * math.cos(a), e, z + radius * math.sin(a)) for a in angles] for e in y], name)

    def revolve(self, x: float, z: float, profile: Sequence[tuple[float, float]], name: str, sides: int = 28) -> None:
        """A surface about an axis along y, from pairs of y and radius; open at both ends."""
        turns = [(math.cos(2 * math.pi * k / sides), math.sin(2 * math.pi * k / sides)) for k in range(sides)]
        for (y0, r0), (y1, r1) in itertools.pairwise(profile):
            for k, (c, s) in enumerate(turns):
                e, f = turns[(k + 1) % sides]
                corners = ((x + r0 * c, y0, z + r0 * s), (x + r0 * e, y0, z + r0 * f))
                self.quad(*corners, (x + r1 * e, y1, z + r1 * f), (x + r1 * c, y1, z + r1 * s), name)


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
