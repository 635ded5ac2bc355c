"""Tables of results for pandas and xarray: parquet, and netCDF whose axes are what was varied."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simengine.extras import extra

FORMS = (".parquet", ".nc")


def write_frame(path: Path, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Write rows of results.

    Args:
        path: The .parquet file, a column for each name; or the .nc file, a variable over all keys for each name.
        rows: Name -> number, words, or None for nothing; the same keys in each.
        keys: Names that were varied, in all combinations.

    Raises:
        RuntimeError: What writes the format is not installed.
        ValueError: The suffix is another.
    """
    if path.suffix not in FORMS:
        raise ValueError(f"{path}: expected {' or '.join(FORMS)}; results.csv of the sweep is the table as text")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    if path.suffix == ".parquet":
        pandas = extra("pandas", of="tables", what=path.name)
        extra("pyarrow", of="tables", what=path.name)
        pandas.DataFrame(columns).to_parquet(path, engine="pyarrow")
        return
    xarray = extra("xarray", of="tables", what=path.name)
    extra("h5netcdf", of="tables", what=path.name)
    axes = {key: list(dict.fromkeys(columns[key])) for key in keys}
    place = {key: {value: k for k, value in enumerate(values)} for key, values in axes.items()}
    at = tuple(np.array([place[key][value] for value in columns[key]]) for key in keys)
    shape = tuple(len(values) for values in axes.values())
    variables = {}
    for name in names:
        if name not in axes:
            words = columns[name] and isinstance(columns[name][0], str)
            full = np.full(shape, "" if words else math.nan, dtype=object if words else np.float64)
            full[at] = columns[name]
            variables[name] = (tuple(keys), full.astype(str) if words else full)
    xarray.Dataset(variables, coords=axes).to_netcdf(path, engine="h5netcdf")


def _column(values: Sequence[Any]) -> list[Any]:
    """One type: floats with NaN for nothing, or words with "" for nothing."""
    if any(isinstance(v, str) for v in values):
        return ["" if v is None else str(v) for v in values]
    return [math.nan if v is None else float(v) for v in values]
