"""Columns as CSV, arrays as HDF5: what other programs read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simengine.io.arrays import to_numpy


def write_csv(path: Path, data: Mapping[str, Any]) -> None:
    """Write columns (n,) of numbers under a header; every digit that tells two floats apart.

    Raises:
        ValueError: There is no column, or they are not of one length.
    """
    columns = {name: to_numpy(value) for name, value in data.items()}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        told = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise ValueError(f"csv: expected columns of one length, got {told or 'none'}")
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' if set(name) & set(',"\n') else name for name in columns]
    texts = [np.array([_number(v) for v in column.tolist()]) for column in columns.values()]
    lines = [",".join(quoted), *(",".join(row) for row in zip(*texts, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(value: Any) -> str:
    return repr(value) if isinstance(value, int | float) else str(value)


def write_hdf5(path: Path, data: Mapping[str, Any]) -> None:
    """Write arrays by name, compressed; a mapping becomes a group, text and numbers attributes."""
    import h5py

    def fill(group: Any, entries: Mapping[str, Any]) -> None:
        for name, value in entries.items():
            if isinstance(value, Mapping):
                fill(group.create_group(name), value)
            elif isinstance(value, str | int | float | bool):
                group.attrs[name] = value
            else:
                array = to_numpy(value)
                group.create_dataset(name, data=array, compression="gzip" if array.ndim else None)

    with h5py.File(path, "w") as file:
        fill(file, data)
