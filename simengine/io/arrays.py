"""Plain arrays and plain data."""

import json
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


def write_json(path: Path, data: Any) -> None:
    """Write plain data, indented."""
    path.write_text(json.dumps(plain(data), indent=2) + "\n", encoding="utf-8")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read a dict of arrays; pickled objects are refused.

    Raises:
        ValueError: The file is missing, damaged or holds objects.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error
