"""Tables as `simengine observe` writes them: under the headers and in the units by which the scene reads them again."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from simengine.io.tables import RawTable
from simengine.io.units import split_header, to_si
from simengine.observe.columns import ColumnSpec, column_of, find_header


def cells_of(values: torch.Tensor) -> list[str]:
    """Numbers (n,) as text; a gap where one is NaN."""
    return ["" if math.isnan(value) else f"{value:.9g}" for value in values.tolist()]


def column_as_read(
    spec: ColumnSpec, values: torch.Tensor, sigma: torch.Tensor | None = None, *, raw: RawTable | None = None
) -> dict[str, list[str]]:
    """Header -> cells, from which `columns.take` takes these values.

    Args:
        spec: How the scene names the column; without a star.
        values: SI, (n,).
        sigma: Their standard deviations (n,), SI, which go into the column that the spec names for them.
        raw: The file whose header and unit the column takes; None for those of the spec.
    """
    entry = column_of(spec)
    header, unit = (entry.column, split_header(entry.column)[1]) if raw is None else find_header(raw, entry.column)
    told = entry.unit if entry.unit is not None else unit
    factor, shift = to_si(told) if isinstance(told, str) else (told, 0.0)
    columns = {header: cells_of((values - entry.offset - shift) / (factor * entry.gain))}
    if isinstance(entry.sigma, str) and sigma is not None:
        own, unit = (entry.sigma, split_header(entry.sigma)[1]) if raw is None else find_header(raw, entry.sigma)
        columns[own] = cells_of(sigma / ((to_si(unit)[0] if unit else factor) * abs(entry.gain)))
    return columns


def rows_as_they_stand(raw: RawTable, keep: torch.Tensor) -> dict[str, list[str]]:
    """Header -> cells of the rows that are kept, bool (rows,), of a file."""
    columns = {}
    for header, cells in raw.columns.items():
        kept = cells[keep.numpy()]
        columns[header] = [str(c) for c in kept] if kept.dtype.kind in "UO" else cells_of(torch.from_numpy(kept * 1.0))
    return columns


def write_csv(file: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """A csv of columns of text of one length."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
