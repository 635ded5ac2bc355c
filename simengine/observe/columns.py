"""Columns of a file, in SI units: how a scene names them, and what a header tells."""

import dataclasses
import fnmatch
import math
import re

import numpy as np
import torch

from simengine.io.tables import RawTable
from simengine.io.units import ending, split_header, to_si
from simengine.scene.strict import Positive, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a file.

    Attributes:
        column: Its header, with or without a unit in brackets.
        unit: Of its numbers: text as in "cm/s", or a number, which is the unit in SI [unit of the value].
        sigma: Column of its standard deviations, in the same unit, rows where it is 0 are left out; or a number, SI
            [unit of the value].
        gain: Multiplies the column before anything else [1].
        offset: Added after the unit, SI [unit of the value].
    """

    column: str
    unit: str | Positive | None = None
    sigma: str | Positive | None = None
    gain: float = 1.0
    offset: float = 0.0


ColumnSpec = str | Column


def column_of(spec: ColumnSpec) -> Column:
    """A column from its header alone, `"load [N]"`, or as it is."""
    return Column(column=spec) if isinstance(spec, str) else spec


def find_header(raw: RawTable, wanted: str, *, key: str = "") -> tuple[str, str]:
    """Header in the file and unit of a column named as in a scene.

    Args:
        raw: The table.
        wanted: The column.
        key: Where it stands in the scene, for the message.

    Raises:
        ValueError: No header is like it.
    """
    if wanted in raw.columns:
        return wanted, split_header(wanted)[1]
    name, unit = split_header(wanted)
    for header in raw.columns:
        base, own = split_header(header)
        if name in (header, base):
            return header, unit or own
    place = f"{key}: " if key else ""
    raise ValueError(f"{place}{raw.file.name} has no column {name!r}; {nearest(name, raw.columns)}")


def matching_headers(raw: RawTable, wanted: str) -> list[str]:
    """The columns that a name with a star picks, as specs with the unit of the name; else the name alone."""
    name, unit = split_header(wanted)
    if "*" not in name:
        return [wanted]
    found = [header for header in raw.columns if fnmatch.fnmatchcase(split_header(header)[0], name)]
    if not found:
        raise ValueError(f"{raw.file.name} has no column like {name!r}; {nearest(name, raw.columns)}")
    return [f"{split_header(h)[0]} [{unit}]" if unit else h for h in found]


def take(raw: RawTable, spec: ColumnSpec, *, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (n,) and standard deviations (n,) of a column in SI units; NaN where there is none.

    Args:
        raw: The table.
        spec: The column.
        key: Where it stands in the scene, for messages.

    Raises:
        ValueError: There is no such column, it holds words, or its header ends with a unit that nobody declared.
    """
    entry = column_of(spec)
    header, unit = find_header(raw, entry.column, key=key)
    told = entry.unit if entry.unit is not None else unit
    if isinstance(told, str):
        if not told and (hidden := ending(header)) and to_si(hidden) != (1.0, 0.0):
            raise ValueError(
                f'{key}: {header!r} looks like {hidden}; write "{header} [{hidden}]" (or "[1]" if it is not)'
            )
        factor, shift = _si(told, raw, header, key)
    else:
        factor, shift = told, 0.0
    values = numbers_of(raw, header, key=key) * entry.gain * factor + shift + entry.offset
    sigma = torch.full_like(values, torch.nan)
    if isinstance(entry.sigma, str):
        own_header, own_unit = find_header(raw, entry.sigma, key=f"{key}.sigma")
        own_factor = _si(own_unit, raw, own_header, f"{key}.sigma")[0] if own_unit else factor
        sigma = (numbers_of(raw, own_header, key=f"{key}.sigma") * entry.gain * own_factor).abs()
        if not bool((sigma > 0).any()):
            raise ValueError(f"{key}.sigma: {own_header!r} holds no value above 0")
        # a spread of 0 is a definition (the stress at rest), no measurement: a gap
        values, sigma = (torch.where(sigma == 0, torch.nan, own) for own in (values, sigma))
    elif entry.sigma is not None:
        sigma = torch.full_like(values, entry.sigma)
    return values, sigma


def _si(unit: str, raw: RawTable, header: str, key: str) -> tuple[float, float]:
    try:
        return to_si(unit)
    except ValueError as error:
        raise ValueError(f"{key}: {raw.file.name}: column {header!r}: {error}") from None


def told_unit(raw: RawTable, spec: ColumnSpec) -> str:
    """The unit that the scene or the header tells; "" where neither does."""
    entry = column_of(spec)
    if entry.unit is not None:
        return str(entry.unit)
    return find_header(raw, entry.column)[1]


_AMOUNT = re.compile(r"\s*([^\s:=,;]+)\s*(?:[:=]\s*([0-9.eE+-]+)\s*(%?))?\s*")


def mixture_of(text: str) -> dict[str, float]:
    """A mixture as people write it: `CH4: 9.5%, O2: 19%, N2: 71.5 %`, `H2=2, CO=1`, or one species alone.

    Raises:
        ValueError: It is none.
    """
    found: dict[str, float] = {}
    parts = [part for part in re.split(r"[,;]", text.strip().strip("{}")) if part.strip()]
    for part in parts:
        entry = _AMOUNT.fullmatch(part)
        if entry is None or (entry[2] is None and len(parts) > 1):
            raise ValueError(f"{text[:60]!r} is no mixture; write it as in 'CH4: 9.5%, O2: 19%, N2: 71.5%'")
        try:
            amount = 1.0 if entry[2] is None else float(entry[2])
        except ValueError:
            amount = math.nan
        if not amount >= 0 or entry[1] in found:
            raise ValueError(f"{text[:60]!r}: {entry[1]} needs one amount, 0 or above")
        found[entry[1]] = amount
    if not sum(found.values()) > 0:
        raise ValueError(f"{text[:60]!r} is no mixture; write it as in 'CH4: 9.5%, O2: 19%, N2: 71.5%'")
    return found


def _is_number(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (ValueError, TypeError):  # words, times
        return False
    return True


def numbers_of(raw: RawTable, header: str, *, key: str) -> torch.Tensor:
    """A column as float64, (n,).

    Raises:
        ValueError: It holds words or an infinity; the message names the first and its row.
    """
    cells = raw.columns[header]
    if cells.dtype.kind == "c":
        raise ValueError(f"{key}: {raw.file.name}: column {header!r} holds complex numbers")
    if cells.dtype.kind not in "fiub":
        wrong = [row for row, cell in enumerate(cells) if not _is_number(cell)]
        if wrong:  # one word among decimal commas is why they were not read
            row = next((row for row in wrong if not _is_number(str(cells[row]).replace(",", "."))), wrong[0])
            raise ValueError(f"{key}: {raw.file.name}: column {header!r}, row {row}: {str(cells[row])!r} is no number")
    values = np.asarray(cells, dtype=np.float64)
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise ValueError(
            f"{key}: {raw.file.name}: column {header!r}, row {row} is infinite; leave the cell empty for a gap"
        )
    return torch.from_numpy(values.copy())
