"""Shapes of bodies and the particles that fill them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from simengine.io.geometry.gltf import GltfTriangles, read_gltf
from simengine.io.geometry.mesh_file import read_mesh
from simengine.io.geometry.points import read_points
from simengine.scene.strict import Count, Positive, Range, Vector
from simengine.worlds.motion.start.discs import Sheet, read_sheet

Points = NDArray[np.float64]
MAX_PARTICLES = 20_000_000
INSIDE = 0.5  # winding number above which a point is within discs
SAMPLES = 30_000  # for the volume within discs: its error is half a per cent or so
CELLS = 40  # of the grid for the surface of discs, along its longest side


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxShape:
    """An axis-aligned box.

    Attributes:
        center: Centre [m].
        size: Edges [m].
        counts: Particles per axis, the outermost on the faces, each with an equal share of the volume; None to fill
            the box with a lattice like any other shape.
    """

    type: Literal["box"] = "box"
    center: Vector
    size: Annotated[Vector, Range(ge=0)]
    counts: tuple[Count, Count, Count] | None = None

    def __post_init__(self) -> None:
        if not (self.size[0] > 0 and self.size[1] > 0):
            raise ValueError(f"size: {list(self.size)} must be greater than 0 [m]; along z alone 0 is for plane strain")

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        half = np.array(self.size) / 2
        return np.array(self.center) - half, np.array(self.center) + half

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        lower, upper = self.bounds()
        return np.asarray(((x >= lower) & (x <= upper)).all(axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SphereShape:
    """A ball.

    Attributes:
        center: Centre [m].
        radius: Radius [m].
    """

    type: Literal["sphere"] = "sphere"
    center: Vector
    radius: Positive

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        return np.array(self.center) - self.radius, np.array(self.center) + self.radius

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        return np.linalg.norm(x - self.center, axis=1) <= self.radius


@dataclasses.dataclass(frozen=True, kw_only=True)
class CylinderShape:
    """An upright cylinder, its axis along y.

    Attributes:
        center: Centre [m].
        radius: Radius [m].
        height: Extent along y [m].
    """

    type: Literal["cylinder"] = "cylinder"
    center: Vector
    radius: Positive
    height: Positive

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        half = np.array([self.radius, self.height / 2, self.radius])
        return np.array(self.center) - half, np.array(self.center) + half

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        d = x - self.center
        return (np.hypot(d[:, 0], d[:, 2]) <= self.radius) & (np.abs(d[:, 1]) <= self.height / 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorusShape:
    """A ring in a horizontal plane, its axis along y.

    Attributes:
        center: Centre [m].
        major_radius: From the axis to the middle of the tube [m].
        minor_radius: Of the tube [m].
    """

    type: Literal["torus"] = "torus"
    center: Vector
    major_radius: Positive
    minor_radius: Positive

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        outer = self.major_radius + self.minor_radius
        half = np.array([outer, self.minor_radius, outer])
        return np.array(self.center) - half, np.array(self.center) + half

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        d = x - self.center
        return np.hypot(np.hypot(d[:, 0], d[:, 2]) - self.major_radius, d[:, 1]) <= self.minor_radius


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """A closed mesh from a file, scaled and moved.

    Attributes:
        file: OBJ, PLY, STL, glTF or OFF.
        center: Where the middle of its bounding box comes to lie [m].
        size: Longest edge of its bounding box [m].
        materials: Whether cameras see what the file (glTF) says of its materials: textures, normal maps, metal,
            roughness; else the body's colour.
    """

    type: Literal["mesh"] = "mesh"
    file: Path
    center: Vector
    size: Positive
    materials: bool = False

    def painted(self) -> GltfTriangles | None:
        """Triangles with their materials, vertices as of `triangles`; None where none are asked for."""
        return read_gltf(self.file) if self.materials else None

    def triangles(self) -> tuple[Points, NDArray[np.int64]]:
        """Placed vertices (v, 3) [m] and triangles (f, 3)."""
        painted = self.painted()
        vertices, faces = read_mesh(self.file) if painted is None else (painted.vertices, painted.faces)
        lower, upper = vertices.min(0), vertices.max(0)
        extent = float((upper - lower).max())
        if extent == 0:
            raise ValueError(f"{self.file}: all its vertices coincide")
        return (vertices - (lower + upper) / 2) * (self.size / extent) + np.array(self.center), faces

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        vertices, _ = self.triangles()
        return vertices.min(0), vertices.max(0)

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        import torch

        from simengine.ops.light.mesh import inside_mesh

        vertices, faces = self.triangles()
        inside = inside_mesh(torch.from_numpy(x), torch.from_numpy(vertices), torch.from_numpy(faces))
        return inside.numpy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfelsShape:
    """What the discs of a file of splats enclose: a body from photographs. A hole that no camera saw is closed.

    Attributes:
        file: A .ply of 2-D or 3-D Gaussians, such as `surfels.ply` of a fit.
        center: Where the middle of its bounding box comes to lie [m]; without it the body stands where the file has it.
        size: Longest edge of its bounding box [m]; without it the file's lengths are metres.
    """

    type: Literal["surfels"] = "surfels"
    file: Path
    center: Vector | None = None
    size: Positive | None = None

    def _placed(self) -> tuple[Sheet, float, Points]:
        """The discs as the file has them, and the factor and shift [m] to where the body is."""
        sheet = read_sheet(self.file)
        lower, upper = sheet.points.min(0), sheet.points.max(0)
        factor = 1.0 if self.size is None else self.size / float((upper - lower).max())
        middle = (lower + upper) / 2
        return sheet, factor, (factor * middle if self.center is None else np.array(self.center)) - factor * middle

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner of the discs' centres [m]."""
        sheet, factor, shift = self._placed()
        return factor * sheet.points.min(0) + shift, factor * sheet.points.max(0) + shift

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        sheet, factor, shift = self._placed()
        return np.asarray(sheet.winding((x - shift) / factor) > INSIDE)

    def volume(self) -> float:
        """What is inside, by a fixed sample of points within the bounds [m^3]."""
        lower, upper = self.bounds()
        x = lower + (upper - lower) * np.random.default_rng(0).random((SAMPLES, 3))
        return float(self.contains(x).mean() * np.prod(upper - lower))

    def triangles(self) -> tuple[Points, NDArray[np.int64]]:
        """Its surface, placed: vertices (v, 3) [m] and triangles (f, 3)."""
        import torch

        from simengine.render.particle_surface import level_surface

        sheet, factor, shift = self._placed()
        lower, upper = sheet.points.min(0), sheet.points.max(0)
        side = float((upper - lower).max()) / CELLS
        axes = [np.arange(a - 1.5 * side, b + 2.5 * side, side) for a, b in zip(lower, upper, strict=True)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        level = torch.from_numpy(INSIDE - sheet.winding(nodes.reshape(-1, 3)).reshape(nodes.shape[:3]))
        vertices, faces = level_surface(level, torch.from_numpy(nodes[0, 0, 0]), side)
        return factor * vertices.double().numpy() + shift, faces.numpy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointCloud:
    """Points from a file, each a particle, where the file has them.

    Attributes:
        file: A table of x, y, z (and volume), an .npz of them or of x (n, 3), or a .ply.
        unit: Of lengths that the file gives none, as in "mm".
        spacing: Of the points, whose cube is the volume of each where the file tells none [m].
    """

    type: Literal["points"] = "points"
    file: Path
    unit: str = "m"
    spacing: Positive | None = None

    def particles(self) -> tuple[Points, Points]:
        """Positions [m], (n, 3), and volumes [m^3], (n,).

        Raises:
            ValueError: The file is no such one, or its volumes cannot be.
        """
        from scipy.spatial import cKDTree

        x, volume = read_points(self.file, self.unit)
        if volume is None and self.spacing is None:
            raise ValueError(f"spacing: {self.file.name} tells no volumes, so say how far apart its points are, in m")
        if volume is not None and self.spacing is not None:
            raise ValueError(f"spacing: {self.file.name} tells the volumes itself; leave it out")
        if volume is None:
            volume = np.full(len(x), float(self.spacing or 0.0) ** 3)
        if len(x) > 1:
            apart = cKDTree(x).query(x, k=2)[0][:, 1] / np.cbrt(volume)
            if apart.min() < 0.05:
                raise ValueError(f"{self.file.name}: points {int(apart.argmin()) + 1} and another lie in one place")
            middle = float(np.median(apart))
            if not 0.25 < middle < 2.5:
                raise ValueError(
                    f"unit: the points of {self.file.name} lie {middle:.2g} times as far apart as their volumes are "
                    "wide; is it in another unit, or is spacing another?"
                )
        return x.copy(), volume.copy()

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner of the points [m]."""
        x, _ = read_points(self.file, self.unit)
        return x.min(0), x.max(0)

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """None: a cloud has no inside."""
        return np.zeros(len(x), dtype=bool)


@dataclasses.dataclass(frozen=True)
class Half:
    """The half x > 0 of the section z = 0 of a body that is the same all around the axis, as deep as a particle.

    Attributes:
        of: The body.
        depth: Width of its particles [m].
    """

    of: BoxShape | SphereShape | CylinderShape | TorusShape
    depth: float

    @property
    def type(self) -> str:
        """As the body."""
        return self.of.type

    def bounds(self) -> tuple[Points, Points]:
        """Lower and upper corner [m]."""
        lower, upper = self.of.bounds()
        out = np.array([0.0, 0.0, self.depth / 2])
        return np.maximum(lower, [0.0, -np.inf, 0.0]) * [1, 1, 0] - out, upper * [1, 1, 0] + out

    def contains(self, x: Points) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside."""
        return self.of.contains(x)


Shape = PointCloud | BoxShape | SphereShape | CylinderShape | TorusShape | MeshShape | SurfelsShape
Laid = Shape | Half


def fill(shape: Laid, spacing: float) -> tuple[Points, Points]:
    """Particles that fill a shape.

    Args:
        shape: The shape.
        spacing: Of the lattice [m].

    Returns:
        Positions [m], shape (n, 3), x slowest, and volumes [m^3], shape (n,).

    Raises:
        ValueError: There would be none, or too many.
    """
    if isinstance(shape, PointCloud):
        return shape.particles()
    lower, upper = shape.bounds()
    if isinstance(shape, BoxShape) and shape.counts is not None:
        axes = [
            np.linspace(a, b, k) if k > 1 else np.array([(a + b) / 2])
            for a, b, k in zip(lower, upper, shape.counts, strict=True)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return points, np.full(len(points), float(np.prod(shape.size)) / len(points))
    counts = np.maximum(np.round((upper - lower) / spacing).astype(int), 1)
    if np.prod(counts.astype(float)) > MAX_PARTICLES:
        raise ValueError(f"{np.prod(counts.astype(float)):.3g} lattice points in a {shape.type}; enlarge the spacing")
    start = (lower + upper) / 2 - (counts - 1) * spacing / 2
    axes = [s + spacing * np.arange(k) for s, k in zip(start, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[shape.contains(points)]
    if len(points) == 0:
        raise ValueError(f"no particle fits into a {shape.type} at a spacing of {spacing:g} m; refine the grid")
    if isinstance(shape, SurfelsShape):  # its faces do not lie between the points of a lattice
        return points, np.full(len(points), shape.volume() / len(points))
    return points, np.full(len(points), spacing**3)


def turned(x: Points, shape: Shape, turn: tuple[float, float, float]) -> Points:
    """Points (n, 3) [m] of a shape, turned about its middle by a rotation vector [rad]."""
    import torch

    from simengine.solve.rotation import rotation_matrix

    lower, upper = shape.bounds()
    middle = (lower + upper) / 2
    rotation = rotation_matrix(torch.tensor(turn, dtype=torch.float64)).numpy()
    return np.asarray((x - middle) @ rotation.T + middle)


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Particles made once, for a stage of a fit: where a shape moves or stretches they go with it.

    Attributes:
        positions: (n, 3) [m].
        volumes: (n,) [m^3].
        ids: Body of each, (n,).
        shapes: Of the bodies, as they were filled.
    """

    positions: Points
    volumes: Points
    ids: NDArray[np.int64]
    shapes: tuple[Laid, ...]

    def moved(self, shapes: tuple[Laid, ...]) -> tuple[Points, Points, NDArray[np.int64]]:
        """Positions, volumes and bodies for shapes of the same kinds, moved and stretched."""
        positions, volumes = self.positions.copy(), self.volumes.copy()
        for index, (old, new) in enumerate(zip(self.shapes, shapes, strict=True)):
            if old == new:
                continue
            (low, high), (new_low, new_high) = old.bounds(), new.bounds()
            stretch, own = (new_high - new_low) / (high - low), self.ids == index
            positions[own] = new_low + (positions[own] - low) * stretch
            volumes[own] *= float(np.prod(stretch))
        return positions, volumes, self.ids


def finer(shape: Shape, factor: float) -> Shape:
    """The shape with `factor` times the particles along each axis, where it counts them itself."""
    if isinstance(shape, BoxShape) and shape.counts is not None:
        a, b, c = (max(1, round(count * factor)) for count in shape.counts)
        return dataclasses.replace(shape, counts=(a, b, c))
    return shape
