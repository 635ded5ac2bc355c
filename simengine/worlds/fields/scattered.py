"""Where an equation holds that knows no box: scattered points of a file, or of an outline with holes."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch

from simengine.scene.base import SceneError
from simengine.scene.strict import Positive, Range

if TYPE_CHECKING:
    from simengine.constraint.cloud.points import PointSet

Degree = Annotated[int, Range(ge=2, le=8)]
_CLEARANCE = 0.6  # of the spacing that points within keep from the sides
_JITTER = 0.1  # of the spacing that points within are moved by: stencils like no rows
_NORMALS = ("nx", "ny", "nz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointsFile:
    """Points of a file.

    Attributes:
        file: A table with columns x and y (or x; or x, y, z), a length in brackets behind each, and `side`: the name
            of the side that a point lies on, empty within. Columns nx, ny of outward normals may stand beside.
        degree: Of the polynomials that derivatives are exact for: errors fall about as the spacing to this power.
    """

    type: Literal["file"] = "file"
    file: Path
    degree: Degree = 4

    @property
    def axes(self) -> int | None:
        """Unknown before the file is read."""
        return None

    def cloud(self) -> "PointSet":
        """The points.

        Raises:
            SceneError: The file tells none.
        """
        try:
            stamp = self.file.stat().st_mtime_ns if self.file.is_file() else 0
            return _of_file(self.file, stamp)
        except (OSError, ValueError) as error:
            raise SceneError(f"pde.points.file: {error}") from None


@functools.lru_cache(maxsize=4)
def _of_file(file: Path, stamp: int) -> "PointSet":
    import numpy as np

    from simengine.constraint.cloud.points import PointSet
    from simengine.io.tables import read_table
    from simengine.io.units import dimension, split_header, to_si

    table = {split_header(header): column for header, column in read_table(file).columns.items()}
    named = {name: (unit, column) for (name, unit), column in table.items()}
    axes = [axis for axis in "xyz" if axis in named]
    if not axes or axes != list("xyz"[: len(axes)]) or "side" not in named:
        raise ValueError(f"{file.name}: expected columns x [m], y [m] and side, got {', '.join(named) or 'none'}")
    places = []
    for axis in axes:
        unit, column = named[axis]
        if not unit or dimension(unit) != "[length]":
            raise ValueError(f"{file.name}: column {axis}: no length in brackets; write {axis} [m], or [mm]")
        if column.dtype.kind != "f" or not np.isfinite(column).all():
            raise ValueError(f"{file.name}: column {axis}: a cell is no number")
        factor, shift = to_si(unit)
        places.append(factor * column + shift)
    told = named["side"][1]
    # a column without any name is read as numbers that are missing
    names = np.full(len(told), "") if told.dtype.kind == "f" and np.isnan(told).all() else told.astype(str)
    sides = {name: names == name for name in sorted(set(names.tolist()) - {"", "nan"})}
    normals = None
    if all(name in named for name in _NORMALS[: len(axes)]):
        normals = np.nan_to_num(np.stack([named[name][1] for name in _NORMALS[: len(axes)]], 1))
    points = torch.from_numpy(np.stack(places, 1))
    return PointSet(points, sides={k: torch.from_numpy(v) for k, v in sides.items()}, normals=normals)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hole:
    """What is cut out.

    Attributes:
        name: Of its rim, as `boundary.at` names it.
        center: Where its middle lies [m].
        radius: Of its rim [m].
    """

    name: str = "hole"
    center: tuple[float, float]
    radius: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
    """Points within a polygon, without round holes, about equally far apart.

    Attributes:
        corners: Of the polygon, one after another around it [m].
        sides: Names of its edges, each from a corner to the next; one name for all of them.
        holes: What is cut out.
        spacing: Distance of the points [m].
        degree: Of the polynomials that derivatives are exact for: errors fall about as the spacing to this power.
    """

    type: Literal["outline"] = "outline"
    corners: tuple[tuple[float, float], ...]
    sides: tuple[str, ...] = ("wall",)
    holes: tuple[Hole, ...] = ()
    spacing: Positive
    degree: Degree = 4

    def __post_init__(self) -> None:
        if len(self.corners) < 3:
            raise ValueError(f"corners: expected 3 or more, as in [[0, 0], [1, 0], [0, 1]], got {len(self.corners)}")
        if len(self.sides) not in (1, len(self.corners)):
            raise ValueError(f"sides: expected 1 name or {len(self.corners)}, one for each edge, got {len(self.sides)}")
        for hole in self.holes:
            if float(hole.radius) < float(self.spacing):
                raise ValueError(f"holes: the radius of {hole.name} is below the spacing; take a smaller spacing")
        if self._area() == 0:
            raise ValueError("corners: they enclose nothing; give them one after another around the body")

    @property
    def axes(self) -> int | None:
        """A plane."""
        return 2

    def refined(self, factor: float) -> "Outline":
        """The same with `factor` times as many points along each axis."""
        return dataclasses.replace(self, spacing=float(self.spacing) / factor)

    def cloud(self) -> "PointSet":
        """The points.

        Raises:
            SceneError: A hole touches a side, or the spacing leaves nothing within.
        """
        try:
            return _of_outline(self)
        except ValueError as error:
            raise SceneError(f"pde.points: {error}") from None

    def _area(self) -> float:
        """Twice the area, positive where the corners go round against the clock."""
        pairs = zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True)
        return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)

    def edges(self) -> torch.Tensor:
        """Both ends of every edge, (edges, 2, 2) [m]."""
        corners = torch.tensor(self.corners, dtype=torch.float64)
        return torch.stack([corners, corners.roll(-1, 0)], 1)

    def _inward(self, points: torch.Tensor) -> torch.Tensor:
        """Distance to the nearest side, positive within, (n,) [m]."""
        start, along = self.edges()[:, 0], self.edges()[:, 1] - self.edges()[:, 0]
        to = points[:, None] - start
        share = ((to * along).sum(-1) / along.square().sum(-1)).clamp(0.0, 1.0)
        distance = (to - share[..., None] * along).norm(dim=-1).amin(1)
        # within, a ray to the right crosses an odd number of edges
        above = points[:, 1, None, None] < self.edges()[None, :, :, 1]
        crossing = above[..., 0] != above[..., 1]
        level = torch.where(along[:, 1] == 0, 1.0, along[:, 1])
        right = start[:, 0] + to[..., 1] / level * along[:, 0] > points[:, None, 0]
        found = torch.where((crossing & right).sum(1) % 2 == 1, distance, -distance)
        for hole in self.holes:
            middle = torch.tensor(hole.center, dtype=torch.float64)
            found = torch.minimum(found, (points - middle).norm(dim=1) - float(hole.radius))
        return found


@functools.lru_cache(maxsize=4)
def _of_outline(own: Outline) -> "PointSet":
    from simengine.constraint.cloud.points import PointSet

    h, points, normals, names = float(own.spacing), [], [], []
    turn = math.copysign(1.0, own._area())
    edge_names = own.sides * len(own.corners) if len(own.sides) == 1 else own.sides
    for name, (start, end) in zip(edge_names, own.edges(), strict=True):
        length = float((end - start).norm())
        count = max(2, round(length / h))
        share = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # corners belong to no side
        points.append(start + share[:, None] * (end - start))
        across = torch.stack([end[1] - start[1], start[0] - end[0]]) * turn / length
        normals.append(across.expand(count, 2))
        names += [name] * count
    for hole in own.holes:
        count = max(12, round(2 * math.pi * float(hole.radius) / h))  # those beyond the rim stay apart
        angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
        out = torch.stack([angle.cos(), angle.sin()], 1)
        rim = torch.tensor(hole.center, dtype=torch.float64) + float(hole.radius) * out
        apart = dataclasses.replace(own, holes=tuple(other for other in own.holes if other is not hole))._inward(rim)
        if float(apart.min()) < h:
            raise ValueError(f"holes: {hole.name} comes nearer to another side than the spacing of {h:g} m")
        points.append(rim)
        normals.append(-out)
        names += [hole.name] * count
    corners = torch.tensor(own.corners, dtype=torch.float64)
    low, high = corners.amin(0), corners.amax(0)
    rows = torch.arange(float(low[1]), float(high[1]), h * math.sqrt(0.75), dtype=torch.float64)
    columns = torch.arange(float(low[0]) - h, float(high[0]) + h, h, dtype=torch.float64)
    lattice = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
    lattice[1::2, :, 0] += h / 2
    flat = lattice.reshape(-1, 2)
    flat = flat + _JITTER * h * (2 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)).double() - 1)
    within = flat[own._inward(flat) > _CLEARANCE * h]
    if not len(within):
        raise ValueError(f"spacing: {h:g} m leaves no point within; take a smaller one")
    every = torch.cat([*points, within])
    sides = {name: torch.tensor([k for k, other in enumerate(names) if other == name]) for name in dict.fromkeys(names)}
    return PointSet(every, sides=sides, normals=torch.cat([*normals, torch.zeros_like(within)]))
