"""`write(path, data)` and `read(path)`: the format follows from the suffix."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Writer = Callable[..., None]
Reader = Callable[..., Any]


class MissingWriterError(RuntimeError):
    """A codec or a library that a format needs is not installed; the message says what installs it."""


# suffix -> "module:function"; imported on first use, since the libraries behind them are heavy
_writers: dict[str, str | Writer] = {
    ".png": "simengine.io.image:write_png",
    ".exr": "simengine.io.exr:write_exr",
    ".gif": "simengine.io.video:write_gif",
    ".mp4": "simengine.io.video:write_mp4",
    ".npz": "simengine.io.arrays:write_npz",
    ".json": "simengine.io.arrays:write_json",
    ".csv": "simengine.io.tabular:write_csv",
    **dict.fromkeys((".h5", ".hdf5"), "simengine.io.tabular:write_hdf5"),
    ".ply": "simengine.io.geometry.particles:write_ply",
    ".vtp": "simengine.io.geometry.particles:write_vtp",
    ".pvd": "simengine.io.geometry.particles:write_pvd",
}
_readers: dict[str, str | Reader] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy"), "simengine.io.pictures:read_picture"),
    ".exr": "simengine.io.exr:read_exr",
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"), "simengine.io.pictures:read_video"),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".h5", ".hdf5"), "simengine.io.tables:read_table"),
    ".npz": "simengine.io.arrays:read_npz",
    **dict.fromkeys((".ply", ".obj", ".stl", ".off", ".glb", ".gltf"), "simengine.io.geometry.mesh_file:read_mesh"),
    **dict.fromkeys((".c3d", ".trc"), "simengine.observe.motion_files:read_tracks"),
}


def register_format(suffix: str, writer: Writer) -> None:
    """Make `write` use `writer`, called with path, data and options, for files whose name ends in `suffix`."""
    if not suffix.startswith("."):
        raise ValueError(f"suffix={suffix!r}: expected a leading dot, as in '.png'")
    _writers[suffix.lower()] = writer


def write(path: str | Path, data: Any, **options: Any) -> Path:
    """Write `data` in the format that the suffix of `path` names, completely or not at all.

    Args:
        path: File to write; missing folders are made.
        data: What the format takes: an image (h, w, 3) linear RGB, frames, a dict of arrays, points with fields.
        options: Passed to the writer of the format.

    Raises:
        ValueError: No writer is known for the suffix, or the data do not fit it.
    """
    path = Path(path)
    writer = _writers.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"{path.name}: no writer for suffix {path.suffix!r}; known: {', '.join(sorted(_writers))}")
    if isinstance(writer, str):
        module, function = writer.split(":")
        writer = _writers[path.suffix.lower()] = getattr(importlib.import_module(module), function)
    path.parent.mkdir(parents=True, exist_ok=True)
    # never half of a file: write beside it, then rename
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        writer(partial, data, **options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: str | Path, **options: Any) -> Any:
    """Read a file by its suffix.

    Pictures are linear light (h, w, c), videos that and the times of their frames, tables a `RawTable`, meshes vertices
    and triangles, motion capture a `Motion`, an .exr its channels and an .npz its arrays by name.

    Args:
        path: The file.
        options: Passed to the reader of the format.

    Raises:
        ValueError: No reader is known for the suffix, or the file is missing, damaged or too large.
    """
    path = Path(path)
    reader = _readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path.name}: no reader for suffix {path.suffix!r}; known: {', '.join(sorted(_readers))}")
    if not path.is_file():  # of a pipe that nobody writes to a reader would never come back
        raise ValueError(f"{path}: not a regular file" if path.exists() else f"{path}: no such file")
    if isinstance(reader, str):
        module, function = reader.split(":")
        reader = _readers[path.suffix.lower()] = getattr(importlib.import_module(module), function)
    return reader(path, **options)
