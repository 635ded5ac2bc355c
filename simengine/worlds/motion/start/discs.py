"""What a cloud of surfels encloses: which side of each disc is out, and how often the discs go around a point.

Files of splats do not say which side of a disc is out, and hold discs that nobody sees. Both are told by looking: from
many sides, a disc that no other hides is seen, by the side that is out. Discs that were sought lie scattered, most of
them behind the surface that they picture together: each is moved to where pictures of all have it. The inside is where
the generalised winding number of the discs is above a half (Jacobson et al. 2013; for points Barill et al. 2018), which
closes what no camera saw, such as the place that a body stands on, by the surface that the rim of the hole spans.
"""

import dataclasses
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simengine.io.geometry.splats import read_splats

FAINT = 0.2  # discs of less opacity are no surface
SIDES = 96  # from which the discs are looked at
PIXEL = 2.5  # side of the pixels of these looks, in spacings of the discs: so wide that little is seen through gaps
BEHIND = 1.5  # spacings: discs this far behind the nearest one of a pixel are seen beside it
FEWEST = 3  # looks; discs that fewer see are hidden
PICTURES, PIXELS = 24, 256  # in which the surface of all discs is looked for; pixels along a side at most
FAR, THIN = 10.0, 0.2  # of these pictures: distance, in radii of the body; least width of a disc in them [pixel]
FACING = 0.5  # cosine of the angle to a look, from which on a picture tells where the surface is along a normal
NEIGHBOURS = 12  # whose circle says how large a share of the surface a disc has
MOST = 3000  # discs of a winding number; more are joined
ROUNDED = 0.35  # of the root of a disc's share: nearer than this a disc is no point
CHUNK = 2**22  # pairs of points and discs at once
Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Discs that have an outer side.

    Attributes:
        points: Their places [m], (n, 3).
        areas: Shares of the surface along the outward normals [m^2], (n, 3).
    """

    points: Array
    areas: Array

    def winding(self, x: Array) -> Array:
        """How often the surface goes around points x (q, 3) [m], (q,): about 1 inside, 0 outside, 1/2 on it."""
        middle = self.points.mean(0)
        given = self.points - middle, x - middle, self.areas
        points, places, areas = (values.astype(np.float32) for values in given)
        own = (points**2).sum(1) + ROUNDED**2 * np.linalg.norm(areas, axis=1)
        through = (points * areas).sum(1)
        found = np.empty(len(x))
        step = max(CHUNK // len(points), 1)
        for k in range(0, len(x), step):
            at = places[k : k + step]
            distance = np.sqrt((at**2).sum(1)[:, None] + own - 2 * at @ points.T)
            found[k : k + step] = ((through - at @ areas.T) / (distance * distance * distance)).sum(1) / (4 * np.pi)
        return found


def read_sheet(path: Path) -> Sheet:
    """The discs of a file of splats, oriented; read once for as long as the file stays as it is.

    Args:
        path: A .ply of 2-D or 3-D Gaussians; of the latter the shortest axis is the normal.

    Raises:
        ValueError: The file holds no splats, or too few that are seen.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    stat = path.stat()
    return _read(path, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=4)
def _read(path: Path, seen: tuple[int, int]) -> Sheet:
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    arrays = read_splats(path)
    kept = 1 / (1 + np.exp(-arrays["opacities"].astype(float))) > FAINT
    points = arrays["positions"][kept].astype(float)
    if len(points) <= 4 * NEIGHBOURS:
        raise ValueError(f"{path.name}: {len(points)} discs that are not faint are no surface")
    scales, turns = arrays["scales"][kept], Rotation.from_quat(arrays["rotations"][kept].astype(float)[:, [1, 2, 3, 0]])
    axis = scales.argmin(1) if scales.shape[1] == 3 else np.full(len(points), 2)
    order = (axis[:, None] + [1, 2, 3]) % 3  # the normal last
    frames = np.take_along_axis(turns.as_matrix(), order[:, None, :], 2)
    widths, normals = np.exp(np.take_along_axis(scales, order[:, :2], 1).astype(float)), frames[:, :, 2]
    tree = cKDTree(points)
    spacing = float(np.median(tree.query(points, k=NEIGHBOURS + 1)[0][:, -1])) * np.sqrt(np.pi / NEIGHBOURS)
    votes, looks = _votes(points, normals, spacing)
    outer = looks >= FEWEST
    if outer.sum() <= 4 * NEIGHBOURS:
        raise ValueError(f"{path.name}: {int(outer.sum())} discs that can be seen are no surface")
    normals = normals * np.sign(votes)[:, None]
    turned = Rotation.from_matrix(frames).as_quat()[:, [3, 0, 1, 2]]
    opacity = 1 / (1 + np.exp(-arrays["opacities"][kept].astype(float)))
    points = points + _gap(points, normals, spacing, turned, widths, opacity)[:, None] * normals
    points, normals = points[outer], normals[outer]
    reach = cKDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, -1]
    share, covered = np.pi * reach**2 / NEIGHBOURS, 2 * np.pi * widths[outer].prod(1)
    alone = np.maximum(covered, 2 * np.median(share))  # what a disc far from others stands for at most
    return _joined(points, normals * np.minimum(share, alone)[:, None])


def _votes(points: Array, normals: Array, spacing: float) -> tuple[Array, NDArray[np.int64]]:
    """By which side discs are seen from all around, above 0 by the normal's, and how many looks see each; (n,)."""
    votes, looks = np.zeros(len(points)), np.zeros(len(points), dtype=np.int64)
    for direction in _directions(SIDES):
        across = np.linalg.svd(direction[None])[2][1:]
        place = np.floor(points @ across.T / (PIXEL * spacing)).astype(np.int64)
        place -= place.min(0)
        index = place[:, 0] * (place[:, 1].max() + 1) + place[:, 1]
        depth = points @ direction
        nearest = np.full(index.max() + 1, -np.inf)
        np.maximum.at(nearest, index, depth)
        facing, seen = normals @ direction, depth > nearest[index] - BEHIND * spacing
        votes += seen * facing * np.abs(facing)
        looks += seen
    return votes, looks


def _gap(points: Array, normals: Array, spacing: float, turns: Array, widths: Array, opacity: Array) -> Array:
    """How far along their outward normals the surface that discs picture together is before each of them [m], (n,).

    The surface is where half of the light is left; the mean is over the pictures that a disc faces and is near it in.
    """
    import torch

    from simengine.render.camera import PinholeCamera
    from simengine.render.surfels import Surfels, render_surfels

    places, turned, wide, dense = (torch.from_numpy(v) for v in (points, turns, widths, opacity))
    none = torch.zeros(len(points), 1, dtype=torch.float64)
    discs = Surfels(positions=places, rotations=turned, scales=wide, opacities=dense, colours=none)
    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    side = min(math.ceil(4 * radius / spacing), PIXELS)
    sums, weights = np.zeros(len(points)), np.zeros(len(points))
    for direction in _directions(PICTURES):
        camera = PinholeCamera.look_at(
            tuple(middle + FAR * radius * direction),
            tuple(middle),
            up=tuple(np.eye(3)[np.abs(direction).argmin()]),
            fov_y=2 * math.asin(1 / FAR),
            width=side,
            height=side,
            dtype=torch.float64,
        )
        found = render_surfels(discs, camera, normals=False, least_width=THIN).median_depth
        assert found is not None
        right, down, depth = camera.to_camera(places).numpy().T
        fx, fy, cx, cy = camera.intrinsics.tolist()
        column, row = ((f * x / depth + c).astype(np.int64) for f, x, c in ((fx, right, cx), (fy, down, cy)))
        surface = found[..., 0].numpy()[row.clip(0, side - 1), column.clip(0, side - 1)]
        facing, before = normals @ direction, depth - surface
        weight = facing * ((facing > FACING) & (surface > 0) & (np.abs(before) < BEHIND * spacing))
        sums, weights = sums + weight * facing * before, weights + weight
    return np.asarray(sums / np.maximum(weights, 1e-9))


def _directions(count: int) -> Array:
    """Unit vectors that are spread evenly, (count, 3)."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], 1)


def _joined(points: Array, areas: Array) -> Sheet:
    """Discs, or the sums of those in one cell where there are many."""
    cells = 64
    while len(points) > MOST:
        side = np.ptp(points, axis=0).max() / cells
        place = np.floor((points - points.min(0)) / side).astype(np.int64)
        _, inverse = np.unique(place, axis=0, return_inverse=True)
        row = inverse.ravel()
        count, weight = int(row.max()) + 1, np.linalg.norm(areas, axis=1)
        share = weight / np.bincount(row, weight, count)[row]
        points, areas = _summed(share[:, None] * points, row, count), _summed(areas, row, count)
        cells -= 8
    return Sheet(points, areas)


def _summed(values: Array, row: NDArray[np.intp], count: int) -> Array:
    """Sums of values (n, 3) over those of one row, (count, 3)."""
    sums = np.zeros((count, 3))
    np.add.at(sums, row, values)
    return sums
