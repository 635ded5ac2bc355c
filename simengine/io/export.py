"""States and profiles of a run in the formats of other programs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simengine.io.geometry.glb import MovingBody, write_moving
from simengine.io.registry import write

SUFFIXES = (".csv", ".glb", ".h5", ".hdf5", ".npz", ".ply", ".pvd", ".vtp")
_AXES = ("x", "y", "z")
Arrays = Mapping[str, NDArray[np.generic]]


def is_motion(arrays: Arrays) -> bool:
    """Whether arrays are states of particles: places x (frames, n, 3)."""
    return "x" in arrays and arrays["x"].ndim == 3 and arrays["x"].shape[-1] == len(_AXES)


def export(arrays: Arrays, file: Path) -> list[Path]:
    """Write arrays in the format that a suffix names.

    States of particles become, as .csv, a row for each particle at each saved time; as .ply and .vtp a file for each
    time, numbered; as .pvd an index for ParaView, with such .vtp files in a folder beside it; as .glb points that move
    (glTF). Other arrays become columns.

    Args:
        arrays: By name, as a run wrote them; states with `time` (frames,) [s], `x`, `v`, `F`.
        file: What is written.

    Returns:
        The files written, the one that was asked for first.

    Raises:
        ValueError: The format cannot hold the arrays.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{file.name}: no format {suffix or 'without a suffix'!r}; known: {', '.join(SUFFIXES)}")
    if suffix in (".npz", ".h5", ".hdf5"):
        return [write(file, dict(arrays))]
    if is_motion(arrays) and suffix == ".glb":
        write_moving(file, [MovingBody(x=arrays["x"])], arrays.get("time", np.arange(len(arrays["x"]))))
        return [file]
    if is_motion(arrays):
        return [write(file, _rows(arrays))] if suffix == ".csv" else _series(arrays, file)
    if suffix != ".csv":
        raise ValueError(f"{file.name}: {suffix} holds moving particles, and this run has none; use .csv, .npz or .h5")
    return [write(file, _columns(arrays))]


def _fields(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """What stands beside the places, per frame and particle, and the volume ratio J."""
    count = arrays["x"].shape[:2]
    fields = {name: value for name, value in arrays.items() if name != "x" and value.shape[:2] == count}
    if "F" in fields and "J" not in fields:
        fields["J"] = np.linalg.det(fields["F"].astype(np.float64))
    return fields


def _rows(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    frames, n = arrays["x"].shape[:2]
    columns: dict[str, NDArray[np.generic]] = {"frame": np.repeat(np.arange(frames), n)}
    if "time" in arrays:
        columns["time [s]"] = np.repeat(arrays["time"], n)
    columns["particle"] = np.tile(np.arange(n), frames)
    columns |= {f"{axis} [m]": arrays["x"][..., k].ravel() for k, axis in enumerate(_AXES)}
    for name, value in _fields(arrays).items():
        flat = value.reshape(frames * n, -1)
        unit = " [m/s]" if name == "v" else " [1]" if name in ("F", "J") else ""
        for k in range(flat.shape[1]):
            part = "" if flat.shape[1] == 1 else f"_{_AXES[k]}" if flat.shape[1] == len(_AXES) else f"_{k}"
            columns[f"{name}{part}{unit}"] = flat[:, k]
    return columns


def _columns(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """Arrays of one length as they are, others flattened; several lengths do not go into one table."""
    columns = {name: value for name, value in arrays.items() if value.ndim == 1}
    lengths = {len(value) for value in columns.values()}
    if not columns or len(columns) < len(arrays) or len(lengths) > 1:
        told = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
        raise ValueError(f"csv: one table holds columns of one length, and the run has {told}; use .npz or .h5")
    return columns


def _series(arrays: Arrays, file: Path) -> list[Path]:
    suffix = ".vtp" if file.suffix.lower() == ".pvd" else file.suffix.lower()
    indexed = file.suffix.lower() == ".pvd"
    x, fields = arrays["x"], _fields(arrays)
    digits = max(4, len(str(len(x) - 1)))
    written = []
    for k in range(len(x)):
        name = f"{k:0{digits}d}{suffix}"
        target = file.with_suffix("") / name if indexed else file.with_name(f"{file.stem}-{name}")
        frame = {"x": x[k], **{field: value[k] for field, value in fields.items() if field != "F"}}
        written.append(write(target, frame))
    if not indexed:
        return written
    times = arrays.get("time", np.arange(len(x)))
    index = [(float(t), f"{file.stem}/{path.name}") for t, path in zip(times, written, strict=True)]
    return [write(file, index), *written]
