"""Plain arrays and plain data."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simengine.shown import cut, shown

ANY_RATIO = 1 << 30  # bytes that the arrays of an archive may take however well they are compressed
MAX_RATIO = 200  # beyond: of what they take to the size of the file; states of a run take some 1.1 times


def to_numpy(value: Any) -> np.ndarray:
    """A numpy array from a tensor or anything array-like."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def write_npz(path: Path, data: Mapping[str, Any]) -> None:
    """Write a dict of arrays, compressed."""
    arrays: dict[str, Any] = {name: to_numpy(value) for name, value in data.items()}
    np.savez_compressed(path, **arrays)


def plain(value: Any) -> Any:
    """`value` with tensors, arrays, paths and numpy scalars turned into what JSON and TOML know."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def finite(value: Any) -> Any:
    """Plain data with null in place of every number that JSON has no word for.

    Where there is one, a mapping gets a key `not_finite` with what stood there, by dotted key: `infinite`, `-infinite`
    or `not a number`.
    """
    odd: dict[str, str] = {}

    def convert(item: Any, key: str) -> Any:
        if isinstance(item, dict):
            return {name: convert(entry, f"{key}.{name}" if key else name) for name, entry in item.items()}
        if isinstance(item, list):
            return [convert(entry, f"{key}.{k}" if key else str(k)) for k, entry in enumerate(item)]
        if isinstance(item, float) and not math.isfinite(item):
            odd[key] = "not a number" if math.isnan(item) else "infinite" if item > 0 else "-infinite"
            return None
        return item

    converted = convert(value, "")
    return {**converted, "not_finite": odd} if odd and isinstance(converted, dict) else converted


def write_json(path: Path, data: Any) -> None:
    """Write plain data, indented; what is not finite as `finite` does."""
    path.write_text(json.dumps(finite(plain(data)), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a table of plain data.

    Raises:
        ValueError: The file is missing, damaged or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON ({cut(str(error))})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a table, got {shown(data)}")
    return data


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read a dict of arrays; pickled objects and archives that would fill the memory are refused.

    Raises:
        ValueError: The file is missing, damaged, or holds objects or too much.
    """
    if path.exists() and not path.is_file():  # a folder, or a pipe that nobody writes to
        raise ValueError(f"{path}: not a regular file")
    if path.suffix.lower() != ".npz" and path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not an .npz file; write the arrays there by numpy.savez")
    try:
        _refuse_bomb(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # archives, deflated data, headers that are parsed as Python: all of their errors
        raise ValueError(f"{path}: not a readable .npz file ({cut(str(error))})") from error


def _refuse_bomb(path: Path) -> None:
    """Raise where the arrays of an archive would take far more memory than the file, or than the archive holds."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        content, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if content > ANY_RATIO and content > MAX_RATIO * size:
            raise ValueError(f"its arrays take {content} bytes, {content // max(size, 1)} times the file")
        for entry in entries:
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise ValueError(f"{entry.filename}: shape {shown(shape)} of {dtype} is more than it holds")
