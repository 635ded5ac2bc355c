"""Tables of numbers from CSV files, as instruments and spreadsheets write them."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from simengine.shown import cut, shown
from simengine.text import read_text


def read_table(path: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Columns of a CSV file with a header; commas, semicolons and tabs separate, a byte-order mark is read over.

    Args:
        path: The file.
        names: The columns that must be there; others are read where they hold numbers throughout.

    Returns:
        Name -> numbers, all finite, of equal length.

    Raises:
        ValueError: The file or a column is missing, or an entry is no finite number; names file, line and column.
    """
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    separator = max(",;\t", key=lines[0].count)
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(lines, delimiter=separator), 1) if any(row)]
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error
    header = [name.strip() for name in rows[0][1]] if rows else []
    missing = [name for name in names if name not in header]
    if missing:
        found = cut(", ".join(header), 80) or "none"
        raise ValueError(f"{path}: no column {missing[0]!r}; needed: {', '.join(names)}; found: {found}")
    if len(rows) < 2:
        raise ValueError(f"{path}: a header without rows")
    columns: dict[str, list[float]] = {name: [] for name in header}
    for number, row in rows[1:]:
        for position, name in enumerate(header):
            text = row[position].strip() if position < len(row) else ""
            value = _number(text, comma=separator != ",")
            if name in names and (value is None or not math.isfinite(value)):
                raise ValueError(f"{path}:{number}: {name}: expected a finite number, got {shown(text)}")
            if value is not None:
                columns[name].append(value)
    return {name: values for name, values in columns.items() if len(values) == len(rows) - 1}


def _number(text: str, *, comma: bool) -> float | None:
    """A number; 0,5 is one where commas do not separate."""
    try:
        return float(text.replace(",", ".") if comma else text)
    except ValueError:
        return None
