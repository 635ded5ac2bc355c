"""Plain arrays and plain data."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


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


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read a dict of arrays; pickled objects are refused.

    Raises:
        ValueError: The file is missing, of another kind, damaged or holds objects.
    """
    if path.suffix.lower() != ".npz" and path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not an .npz file; write the arrays there by numpy.savez")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error
