"""Points of a body from a file: a table of x, y, z, an .npz, or the vertices of a .ply, in units of the user's."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simengine.io.arrays import read_npz
from simengine.io.geometry.mesh_file import read_limited
from simengine.io.tables import read_table
from simengine.io.units import dimension, ending, split_header, to_si

SUFFIXES = (".csv", ".tsv", ".txt", ".npz", ".ply")
MOST = 20_000_000

_VERTICES = """
cloud = trimesh.load(source, process=False)
points = np.asarray(cloud.vertices, dtype=np.float64)
if len(points) > most:
    raise ValueError(f"it has {len(points)} points; at most {most} are read")
arrays.update(x=points)
"""

Columns = dict[str, NDArray[np.float64]]


def read_points(path: Path, unit: str = "m") -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Points (n, 3) [m] and, where the file has them, volumes (n,) [m^3].

    Args:
        path: A table with columns x, y, z and perhaps volume, their units in brackets as in `x [mm]`; an .npz of the
            same arrays, or of x (n, 3); a .ply, whose vertices are taken.
        unit: Of lengths that the file gives no unit [as in "mm"]; volumes are then in its cube.

    Raises:
        ValueError: The file is missing or of another format, a column is missing, or a value is no number; in one line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if dimension(unit) != "[length]":
        raise ValueError(f"unit: {unit!r} is no length; write it as in 'mm'")
    stat = path.stat()
    return _read(path, to_si(unit)[0], (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)
def _read(path: Path, factor: float, seen: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    suffix = path.suffix.lower()
    if suffix == ".ply":
        columns = _split(path, read_limited(path, _VERTICES, suffixes=(".ply",), most=MOST)[0], factor)
    elif suffix == ".npz":
        columns = _split(path, read_npz(path), factor)
    elif suffix in SUFFIXES:
        columns = _of_table(path, factor)
    else:
        raise ValueError(f"{path}: points come from a file that ends in {', '.join(SUFFIXES)}")
    if missing := [name for name in "xyz" if name not in columns]:
        raise ValueError(f"{path}: no column {missing[0]!r}; it needs x, y and z, and may have volume")
    x, volume = np.stack([columns[name] for name in "xyz"], 1), columns.get("volume")
    for name, values in (("x, y, z", x), ("volume", volume)):
        if values is not None and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise ValueError(f"{path}: {name} of point {row + 1} is no number")
    if not len(x):
        raise ValueError(f"{path}: it holds no points")
    if volume is not None and not (volume > 0).all():
        row = int(np.argmin(volume))
        raise ValueError(f"{path}: volume of point {row + 1} must be above 0, got {volume[row]:g} m^3")
    return x, volume


def _split(path: Path, arrays: Columns, factor: float) -> Columns:
    """x, y, z and volume in SI of arrays, x of which may be (n, 3)."""
    names: tuple[str, ...] = ("x", "y", "z", "volume")
    found: Columns = {name: np.asarray(arrays[name], dtype=np.float64) for name in names if name in arrays}
    if "x" in found and found["x"].ndim == 2 and found["x"].shape[1] == 3:
        found |= {name: found["x"][:, k] for k, name in reversed(list(enumerate("xyz")))}
    shapes = {name: value.shape for name, value in found.items()}
    if any(value.ndim != 1 for value in found.values()) or len({len(value) for value in found.values()}) > 1:
        raise ValueError(f"{path}: x must be of shape (n, 3), or x, y and z of shape (n,), volume (n,), got {shapes}")
    return {name: value * (factor**3 if name == "volume" else factor) for name, value in found.items()}


def _of_table(path: Path, factor: float) -> Columns:
    found: Columns = {}
    for header, cells in read_table(path).columns.items():
        name, unit = split_header(header)
        if not unit and (unit := ending(header)):
            name = name.removesuffix(f"_{unit}")
        if name not in ("x", "y", "z", "volume"):
            continue
        power = 3 if name == "volume" else 1
        if unit and dimension(unit) != ("[length] ** 3" if power == 3 else "[length]"):
            raise ValueError(f"{path}: {header!r} is in {unit}, which is no {'volume' if power == 3 else 'length'}")
        if cells.dtype.kind != "f":
            raise ValueError(f"{path}: {header!r} is no column of numbers")
        found[name] = cells * (to_si(unit)[0] if unit else factor**power)
    return found
