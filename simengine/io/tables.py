"""Tables of numbers: csv with any separator, npz, HDF5, ChemKED, ReSpecTh; columns by header, as they stand there."""

import csv
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.units import to_si

MAX_BYTES = 512 << 20
_COMMENT = "#"
_GAPS = ("", "nan", "na", "n/a", "none", "null", "-", "--")


@dataclass(frozen=True)
class RawTable:
    """A table as it stands in a file.

    Attributes:
        file: Where it was read.
        columns: Header -> cells; strings where a column is no column of numbers, else float64 with NaN for a gap.
        sha256: Of the file.
    """

    file: Path
    columns: dict[str, NDArray[Any]]
    sha256: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_table(path: str | Path) -> RawTable:
    """Read a table of columns.

    Args:
        path: A csv, tsv or txt file with a line of headers (comma, semicolon, tab or blanks; a byte-order mark, UTF-16,
            lines that begin with `#`, titles above and units below the headers and a decimal comma beside semicolons
            are understood), an .npz of arrays of one length, an HDF5 file of such datasets, or experiments of
            combustion as ChemKED (.yaml) and ReSpecTh (.xml) keep them.

    Raises:
        ValueError: The file is missing, too large, or no table; the message names the line.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        from simengine.io.arrays import read_npz

        columns = _of_one_length(path, read_npz(path))
    elif suffix in (".h5", ".hdf5"):
        columns = _of_one_length(path, read_hdf5(path))
    elif suffix in (".csv", ".tsv", ".txt", ".dat"):
        columns = _read_text(path)
    elif suffix in (".yaml", ".yml", ".xml"):
        from simengine.io.kinetics import read_chemked, read_respecth

        columns = read_respecth(path) if suffix == ".xml" else read_chemked(path)
    else:
        raise ValueError(f"{path}: a table is a .csv, .tsv, .txt, .npz or .h5 file, ChemKED's .yaml or ReSpecTh's .xml")
    return RawTable(path, columns, file_hash(path))


def _of_one_length(path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    flat = {name: np.asarray(array) for name, array in arrays.items() if np.asarray(array).ndim == 1}
    lengths = {len(array) for array in flat.values()}
    if len(lengths) != 1:
        raise ValueError(f"{path}: expected arrays of one length, (n,); got lengths {sorted(lengths)}")
    return {name: array.astype(np.float64) if array.dtype.kind in "fiub" else array for name, array in flat.items()}


def read_hdf5(path: Path, *, most: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """Every dataset of numbers by its path in the file, except those of more than `most` bytes.

    Raises:
        ValueError: The file is damaged, or h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path.name}: to read HDF5, pip install h5py") from None

    found: dict[str, NDArray[Any]] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub" and item.nbytes <= most:
            found[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(take)
    except Exception as error:  # the library raises what its C code does
        raise ValueError(f"{path}: not a readable HDF5 file ({' '.join(str(error).split())[:120]})") from None
    return found


def _read_text(path: Path) -> dict[str, NDArray[Any]]:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line.lstrip()[0] != _COMMENT]
    if len(lines) < 2:
        raise ValueError(f"{path}: expected a line of headers and at least one row")
    separator = _separator([line for _, line in lines])
    try:
        rows = [(n, _cells(line, separator)) for n, line in lines]
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from None
    filled = [sum(bool(cell.strip()) for cell in cells) for _, cells in rows]
    title = next((k for k, count in enumerate(filled) if count > 1), 0)  # lines of one cell above the headers
    rows = _with_units(_below_titles(rows[title:]))
    headers = [cell.strip() for cell in rows[0][1]]
    if len(set(headers)) != len(headers):
        twice = next(h for h in headers if headers.count(h) > 1)
        raise ValueError(f"{path}:{rows[0][0]}: two columns are named {twice!r}")
    if all(_number(cell, decimal_comma=False) is not None for cell in headers):
        raise ValueError(
            f"{path}:{rows[0][0]}: expected a line of column headers, got numbers; write the headers above"
        )
    for number, cells in rows[1:]:
        if len(cells) != len(headers):
            raise ValueError(f"{path}:{number}: {len(cells)} cells under {len(headers)} headers")
    body = list(zip(*(cells for _, cells in rows[1:]), strict=True))
    return {header: _column(cells, decimal_comma=separator == ";") for header, cells in zip(headers, body, strict=True)}


def _separator(lines: Sequence[str]) -> str:
    """The first that stands in most of the lines: titles above the headers may hold any."""
    for candidate in ("\t", ";", ","):
        if 2 * sum(candidate in line for line in lines) > len(lines):
            return candidate
    return " "


def _below_titles(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows from the headers on: titles of as many cells stand above the last line of words before the numbers."""
    first = next((k for k, (_, cells) in enumerate(rows) if any(map(_is_number, cells))), 0)
    for k in (first - 2, first - 1):  # with a line of units below the headers, and without
        if k < 0:
            continue
        names = [cell.strip() for cell in rows[k][1]]
        whole = len(set(names)) == len(names) == len(rows[first][1]) and not any(n.lower() in _GAPS for n in names)
        if whole and (k == first - 1 or _with_units(rows[k:]) != rows[k:]):
            return rows[k:]
    return rows


def _with_units(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows with a line of units below the headers, as testing machines write it, put into the headers."""
    if len(rows) < 3 or len(rows[0][1]) != len(rows[1][1]):
        return rows
    units = [cell.strip().strip("[]()").strip() for cell in rows[1][1]]
    below = dict(enumerate(rows[2][1]))
    if not any(units) or not all(
        unit in ("", "-") or (_is_unit(unit) and _number(below.get(k, "x"), decimal_comma=True) is not None)
        for k, unit in enumerate(units)
    ):
        return rows
    headers = [f"{name.strip()} [{unit}]" if unit else name for name, unit in zip(rows[0][1], units, strict=True)]
    return [(rows[0][0], headers), *rows[2:]]


def _is_number(cell: str) -> bool:
    value = _number(cell, decimal_comma=True)
    return value is not None and not math.isnan(value)


def _is_unit(text: str) -> bool:
    if _number(text, decimal_comma=True) is not None:
        return False
    try:
        to_si(text)
    except ValueError:
        return False
    return True


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True))


def _column(cells: Sequence[str], *, decimal_comma: bool) -> NDArray[Any]:
    values = [_number(cell, decimal_comma=decimal_comma) for cell in cells]
    if any(value is None for value in values):
        return np.array([cell.strip() for cell in cells])
    return np.array(values, dtype=np.float64)


def _number(cell: str, *, decimal_comma: bool) -> float | None:
    text = cell.strip()
    if text.lower() in _GAPS:
        return math.nan
    if decimal_comma and re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None
