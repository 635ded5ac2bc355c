"""Files of tracked points, whatever wrote them, as one array of positions."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from simengine.io.arrays import read_npz
from simengine.io.geometry.mesh_file import read_limited
from simengine.io.tables import RawTable, file_hash, read_table
from simengine.io.units import to_si
from simengine.observe.columns import find_header, take
from simengine.observe.written import column_as_read, write_csv
from simengine.scene.strict import nearest
from simengine.shown import shown

MOST = 1 << 28  # numbers in a .c3d file
_AXES = ("x", "y", "z")
ROLES = ("time", "name", *_AXES, "u", "v", "pattern")  # that a scene names the columns of


@dataclasses.dataclass(frozen=True)
class TrackedMotion:
    """Tracked points.

    Attributes:
        times: (f,) [s], growing.
        positions: (f, k, axes) [m]; NaN where a point was not seen.
        names: Of the points.
        axes: Of x, y, z (u, v for pixels), those that were measured.
        sha256: Of the file.
    """

    times: torch.Tensor
    positions: torch.Tensor
    names: tuple[str, ...]
    axes: tuple[str, ...]
    sha256: str


def read_motion(
    path: Path, *, columns: Mapping[str, str], unit: str = "", names: tuple[str, ...] = ()
) -> TrackedMotion:
    """Read tracked points.

    Args:
        path: A csv (time, name, x, y, z; or with `pattern` a column for each point and axis; or one point), a .c3d or
            .trc file of motion capture, or an .npz with x (f, k, 3) [m] and time (f,) [s].
        columns: time, name, x, y, z, pattern -> header.
        unit: Of positions where the file does not say; "" for metres.
        names: Points that count; all where none is named.

    Raises:
        ValueError: The file is no such file; one line that names it, the column and the remedy.
    """
    if not path.is_file():  # of a folder the reader of .c3d would never come back
        raise ValueError(f"{path.name}: no such file, or a folder")
    suffix = path.suffix.lower()
    readers = {".c3d": _c3d, ".trc": _trc, ".npz": _npz}
    if suffix in readers:
        if columns:
            raise ValueError(f"{path.name}: a {suffix} says itself what its columns are; leave `columns` out")
        motion = readers[suffix](path, unit)
    else:
        motion = _csv(path, dict(columns), unit)
    if bool((late := motion.times.diff() <= 0).any()):
        row = int(late.nonzero()[0]) + 1
        many = "; columns.name tells of which of several points a row is" if suffix not in readers else ""
        moment = f"that of row {row} ({motion.times[row]:g} s) does not"
        raise ValueError(f"{path.name}: times must grow from frame to frame, {moment}{many}")
    if names:
        known = [name for name in names if name in motion.names]
        picked = [motion.names.index(name) for name in known]
        motion = dataclasses.replace(motion, positions=motion.positions[:, picked], names=tuple(known))
    return motion


def read_tracks(path: Path) -> TrackedMotion:
    """All points of a file of motion capture; see `read_motion`."""
    return read_motion(path, columns={})


def _npz(path: Path, unit: str) -> TrackedMotion:
    data = read_npz(path)
    for name, dim in (("x", 3), ("time", 1)):
        if name not in data or data[name].ndim != dim:
            raise ValueError(f"{path.name}: expected x (frames, points, 3) and time (frames,); it holds {sorted(data)}")
        if data[name].dtype.kind not in "fiu":
            raise ValueError(f"{path.name}: {name} holds {data[name].dtype}, no numbers")
    x = torch.from_numpy(data["x"].astype(np.float64)) * to_si(unit)[0]
    time = torch.from_numpy(data["time"].astype(np.float64))
    if len(x) != len(time) or x.shape[2] != 3:
        raise ValueError(f"{path.name}: x {tuple(x.shape)} does not go with time {tuple(time.shape)}")
    names = tuple(str(n) for n in data["names"].ravel()) if "names" in data else tuple(map(str, range(x.shape[1])))
    if len(names) != x.shape[1]:
        raise ValueError(f"{path.name}: {len(names)} names for {x.shape[1]} points")
    return TrackedMotion(time, x, names, _AXES, file_hash(path))


# In a child: a spoilt header makes the library ask for all the memory there is, or never come back
_C3D = """
file = ezc3d.c3d(source)
try:
    point = file["parameters"]["POINT"]
    answer["labels"] = [str(label).strip() for label in point["LABELS"]["value"]]
    answer["unit"] = str((list(point["UNITS"]["value"]) or ["mm"])[0]).strip() if "UNITS" in point else "mm"
    answer["rate"] = float(point["RATE"]["value"][0])
except (KeyError, IndexError, TypeError) as error:
    raise ValueError(f"it has no parameter {error} of POINT") from None
points = np.asarray(file["data"]["points"], dtype=np.float64)[:3]
if points.size > most:
    raise ValueError(f"it holds {points.size} numbers; at most {most} are read")
arrays["points"] = points
"""


def _c3d(path: Path, unit: str) -> TrackedMotion:
    with path.open("rb") as stream:
        head = stream.read(512)
    if len(head) < 512 or head[1] != 0x50:  # byte 2 of every such file
        raise ValueError(f"{path.name}: not a .c3d file, or cut short")
    if min((head[16] + 256 * head[17] - 1), (head[17] + 256 * head[16] - 1)) * 512 >= path.stat().st_size:
        raise ValueError(f"{path.name}: cut short before its first frame")
    arrays, answer = read_limited(path, _C3D, suffixes=(".c3d",), most=MOST, library="ezc3d")
    labels, rate = tuple(answer["labels"]), float(answer["rate"])
    factor = to_si(unit or answer["unit"])[0]
    data = arrays["points"].copy()  # (3, points, frames); those of the reader are kept for the next call
    missing = ~np.isfinite(data).all(0) | (data == 0).all(0)
    data[:, missing] = np.nan
    if not 0 < rate < np.inf:
        raise ValueError(f"{path.name}: its frame rate is {rate:g}")
    times = torch.arange(data.shape[2], dtype=torch.float64) / rate
    positions = torch.from_numpy(data.transpose(2, 1, 0).copy()) * factor
    return TrackedMotion(times, positions[:, : len(labels)], labels[: positions.shape[1]], _AXES, file_hash(path))


def _trc(path: Path, unit: str) -> TrackedMotion:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if len(lines) < 6 or not lines[0].startswith("PathFileType"):
        raise ValueError(f"{path.name}: not a .trc file (its first line begins with PathFileType)")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))

    def number(cell: str, row: int) -> float:
        try:
            return float(cell) if cell.strip() else np.nan
        except ValueError:
            raise ValueError(f"{path.name}: frame {row}: {shown(cell)} is no number") from None

    labels = tuple(name for name in (cell.strip() for cell in lines[3].split("\t")[2:]) if name)
    rows = [line.split("\t") for line in lines[5:] if line.strip()]
    if not rows or not labels:
        raise ValueError(f"{path.name}: it holds {len(labels)} markers in {len(rows)} frames")
    times, frames = [], []
    for index, row in enumerate(rows):
        cells = [number(cell, index) for cell in row[1 : 2 + 3 * len(labels)]]
        cells += [np.nan] * (1 + 3 * len(labels) - len(cells))
        if not np.isfinite(cells[0]):
            raise ValueError(f"{path.name}: frame {index} has no time")
        times.append(cells[0])
        frames.append(np.reshape(cells[1:], (len(labels), 3)))
    positions = torch.from_numpy(np.array(frames)) * to_si(unit or header.get("Units", "mm").strip())[0]
    return TrackedMotion(torch.tensor(times, dtype=torch.float64), positions, labels, _AXES, file_hash(path))


def _csv(path: Path, columns: dict[str, str], unit: str) -> TrackedMotion:
    raw = read_table(path)
    pattern = columns.pop("pattern", "")
    time, _ = take(raw, columns.pop("time", "time"), key="columns.time")
    factor = to_si(unit)[0]
    if pattern:
        return _wide(path, raw, time, pattern, factor)
    axes = [axis for axis in (*_AXES, "u", "v") if axis in columns]
    if not axes:
        axes = next((own for own in ([a for a in names if _has(raw, a)] for names in (_AXES, ("u", "v"))) if own), [])
    if not axes:
        raise ValueError(
            f'{path.name}: name the columns of the positions, as in columns = {{ x = "X [mm]" }}; '
            f"{nearest('x', raw.columns)}"
        )
    cells = torch.stack([take(raw, columns.get(axis, axis), key=f"columns.{axis}")[0] for axis in axes], 1) * factor
    name_column = columns.get("name", "name")
    if not _has(raw, name_column):
        if "name" in columns:
            find_header(raw, name_column)  # raises, naming the nearest
        return TrackedMotion(time, cells[:, None], (path.stem,), tuple(axes), raw.sha256)
    labels = [_label(cell) for cell in raw.columns[find_header(raw, name_column)[0]]]
    names = tuple(dict.fromkeys(labels))
    moments, frame = torch.unique(time, return_inverse=True)
    positions = torch.full((len(moments), len(names), len(axes)), torch.nan, dtype=torch.float64)
    index = torch.tensor([names.index(label) for label in labels])
    positions[frame, index] = cells
    return TrackedMotion(moments, positions, names, tuple(axes), raw.sha256)


def _wide(path: Path, raw: RawTable, time: torch.Tensor, pattern: str, factor: float) -> TrackedMotion:
    text = re.escape(pattern).replace(r"\{name\}", "(?P<name>.+?)").replace(r"\{axis\}", "(?P<axis>[xyzuv])")
    found: dict[str, dict[str, str]] = {}
    for header in raw.columns:
        if hit := re.fullmatch(text, header):
            found.setdefault(hit["name"], {})[hit["axis"]] = header
    if not found:
        raise ValueError(f"{path.name}: no column is like {pattern!r}; {nearest(pattern, raw.columns)}")
    axes = tuple(axis for axis in (*_AXES, "u", "v") if all(axis in own for own in found.values()))
    table = [
        torch.stack([take(raw, own[axis], key="columns.pattern")[0] for axis in axes], 1) for own in found.values()
    ]
    return TrackedMotion(time, torch.stack(table, 1) * factor, tuple(found), axes, raw.sha256)


def read_places(path: Path) -> Mapping[str, tuple[float, float, float]]:
    """Where marks sit, by name [m].

    Args:
        path: A table with the columns name, x, y, z, their units in brackets where they are not metres.

    Raises:
        ValueError: The file is no such table.
    """
    if not path.is_file():
        raise ValueError(f"{path.name}: no such file, or a folder")
    return _places(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _places(path: Path, stamp: int) -> Mapping[str, tuple[float, float, float]]:
    del stamp  # of the file, so that a changed one is read anew
    raw = read_table(path)
    names = [_label(cell) for cell in raw.columns[find_header(raw, "name")[0]]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path.name}: the mark {twice[0]!r} stands in it twice")
    cells = torch.stack([take(raw, axis, key=f"columns.{axis}")[0] for axis in _AXES], 1)
    if bool(cells.isnan().any()):
        name = names[int(cells.isnan().any(1).nonzero()[0])]
        raise ValueError(f"{path.name}: the place of {name!r} has a gap; leave its row out")
    return {name: (x, y, z) for name, (x, y, z) in zip(names, cells.tolist(), strict=True)}


def write_places(path: Path, names: Sequence[str], places: torch.Tensor) -> None:
    """What `read_places` reads, of places (k, 3) [m]."""
    rows = [",".join((name, *(f"{k:.9g}" for k in place))) for name, place in zip(names, places.tolist(), strict=True)]
    path.write_text("\n".join(["name,x,y,z", *rows, ""]), encoding="utf-8")


def write_motion(path: Path, motion: TrackedMotion, *, columns: Mapping[str, str], unit: str = "") -> None:
    """What `read_motion` reads with the same columns and unit: a csv, or an .npz.

    Args:
        path: Of the file.
        motion: Tracked points.
        columns: As for `read_motion`.
        unit: As for `read_motion`.

    Raises:
        ValueError: A file of that kind is read and not written.
    """
    suffix = path.suffix.lower()
    if suffix in (".c3d", ".trc"):
        raise ValueError(f"{path.name}: a {suffix} is read and not written; name a .csv or .npz")
    positions = motion.positions / to_si(unit)[0]
    if suffix == ".npz":
        if motion.axes != _AXES:
            raise ValueError(f"{path.name}: an .npz holds x, y and z, not {', '.join(motion.axes)}; name a .csv")
        np.savez(path, x=positions.numpy(), time=motion.times.numpy(), names=np.array(motion.names))
        return
    frames, count = positions.shape[:2]
    time = columns.get("time", "time")
    if pattern := columns.get("pattern", ""):
        table = column_as_read(time, motion.times)
        for k, name in enumerate(motion.names):
            for j, axis in enumerate(motion.axes):
                header = pattern.replace("{name}", name).replace("{axis}", axis)
                table |= column_as_read(header, positions[:, k, j])
    else:
        table = column_as_read(time, motion.times[:, None].expand(frames, count).reshape(-1))
        table[columns.get("name", "name")] = list(motion.names) * frames
        for j, axis in enumerate(motion.axes):
            table |= column_as_read(columns.get(axis, axis), positions[:, :, j].reshape(-1))
    write_csv(path, table)


def _has(raw: RawTable, name: str) -> bool:
    try:
        find_header(raw, name)
    except ValueError:
        return False
    return True


def _label(cell: object) -> str:
    """A name; numbers that are whole are written without a point."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
