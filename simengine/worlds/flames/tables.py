"""Tables of measurements as people save them: columns by name, units in the header, one line told where it fails."""

import csv
import difflib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from simengine.flame.gas.document import listed, short
from simengine.flame.gas.units import UnitError, factor
from simengine.scene.base import SceneError

MOST_BYTES = 100_000_000


def read_table(
    file: Path,
    required: Sequence[str],
    optional: Sequence[str] | None = None,
    *,
    units: Mapping[str, str] | None = None,
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Columns of a CSV file with a header; separated by comma, semicolon or tab, with `#` before remarks.

    A header may name a unit, as in `flame_speed [cm/s]`; decimal commas are read where semicolons or tabs separate.

    Args:
        file: The file.
        required: Columns it must have.
        optional: Columns it may have; others are refused. None: others are ignored.
        units: SI units of columns whose unit a header may name, by column.

    Returns:
        The columns found [SI], and which of them had their unit in the header.

    Raises:
        SceneError: The file cannot be read, a column is missing, not known or given twice, or a value is not
            a finite number.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise SceneError(f"fit.data: {file}: larger than {MOST_BYTES / 1e6:g} MB; is it a table of measurements?")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SceneError(f"fit.data: {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SceneError(f"fit.data: {file}: not UTF-8 text; save it as CSV UTF-8") from error
    lines = [
        (n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise SceneError(f"fit.data: {file}: empty; expected a header and rows of numbers")
    separator = max(",;\t", key=lines[0][1].count)
    try:
        rows = [next(csv.reader(io.StringIO(line), delimiter=separator)) for _, line in lines]
    except csv.Error as error:
        raise SceneError(f"fit.data: {file}: {error}") from error
    names, factors, told = _header(file, lines[0][0], rows[0], required, optional, units or {})
    columns: dict[str, list[float]] = {name: [] for name in names if name}
    for (line, _), row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(names):
            raise SceneError(f"fit.data: {file}:{line}: {len(row)} values for {len(names)} columns")
        for name, unit, cell in zip(names, factors, row, strict=True):
            if name in columns:
                columns[name].append(unit * _number(file, line, name, cell, comma=separator != ","))
    if not rows[1:]:
        raise SceneError(f"fit.data: {file}: a header without rows")
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}, told


def _header(
    file: Path,
    line: int,
    cells: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str] | None,
    units: Mapping[str, str],
) -> tuple[list[str], list[float], set[str]]:
    """The name of each column, empty for those left out; what one of its unit is in SI; and which told their unit."""
    known = [*required, *(optional or ())]
    names, factors, told = list[str](), list[float](), set[str]()
    for cell in cells:
        match = re.fullmatch(r"\s*([^\[\(]*?)\s*(?:[\[\(]\s*([^\]\)]*?)\s*[\]\)])?\s*", cell)
        name, unit = (match[1], match[2]) if match is not None else (cell.strip(), None)
        if name not in known and optional is not None:
            close = difflib.get_close_matches(name, known, 1, 0.5)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"known: {', '.join(known)}; remove it or begin its line with #"
            )
            raise SceneError(f"fit.data: {file}:{line}: column {short(name)} is not known; {hint}")
        if name in names and name in known:
            raise SceneError(f"fit.data: {file}:{line}: column {name!r} is given twice")
        value = 1.0
        if unit and name in units:
            try:
                value = factor(unit)
                same = _dimension(unit) == _dimension(units[name])
            except UnitError as error:
                raise SceneError(f"fit.data: {file}:{line}: column {name!r}: {error}") from error
            if not same:
                raise SceneError(f"fit.data: {file}:{line}: column {name!r} is in {units[name]}, not {unit[:40]}")
            told.add(name)
        names.append(name if name in known else "")
        factors.append(value)
    for name in required:
        if name not in names:
            raise SceneError(f"fit.data: {file}:{line}: expected columns {', '.join(required)}, found {listed(cells)}")
    return names, factors, told


_LENGTHS, _TIMES = ("m", "cm", "mm", "um", "km"), ("s", "ms", "us", "min", "hr")
_PRESSURES = ("Pa", "kPa", "MPa", "bar", "atm", "torr", "Torr")


def _dimension(unit: str) -> str:
    """A unit with its names replaced by what they measure."""
    kinds = {**dict.fromkeys(_LENGTHS, "L"), **dict.fromkeys(_TIMES, "t"), **dict.fromkeys(_PRESSURES, "p")}
    return "".join(kinds.get(part, part) for part in re.split(r"([*/^])", unit.replace(" ", "")))


def _number(file: Path, line: int, name: str, cell: str, *, comma: bool) -> float:
    text = cell.strip().replace(",", ".") if comma else cell.strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SceneError(f"fit.data: {file}:{line}: {name}: expected columns of numbers, got {short(cell)}")
    return value


FASTEST = 15.0  # m/s; only preheated hydrogen with oxygen burns faster


def read_speeds(file: Path) -> dict[str, torch.Tensor]:
    """Flame speeds and their conditions, (n,) each: phi, flame_speed [m/s]; T_in [K], p [Pa], sigma [m/s] where given.

    Raises:
        SceneError: As `read_table`; a value is not positive, or speeds are not in m/s and the header does not say so.
    """
    units = {"flame_speed": "m/s", "sigma": "m/s", "T_in": "K", "p": "Pa"}
    data, told = read_table(file, ("phi", "flame_speed"), ("T_in", "p", "sigma"), units=units)
    for name, values in data.items():
        if not bool((values > 0).all()):
            raise SceneError(f"fit.data: {file}: {name}: expected positive numbers, got {float(values.min()):g}")
    speeds = data["flame_speed"]
    if "flame_speed" not in told and float(speeds.max()) > FASTEST:
        raise SceneError(
            f"fit.data: {file}: flame_speed: {float(speeds.max()):g} m/s is faster than laminar flames burn; write the "
            "unit in the header, as in 'flame_speed [cm/s]' (or '[m/s]' if that is meant)"
        )
    if ("sigma" in told) != ("flame_speed" in told) and "sigma" in data:
        raise SceneError(
            f"fit.data: {file}: flame_speed and sigma: write the unit of both in the header, or of neither"
        )
    for name, least, most, remedy in (("T_in", 150.0, 1500.0, "K"), ("p", 500.0, 5e7, "Pa, or write 'p [atm]'")):
        if name in data and not bool(((data[name] >= least) & (data[name] <= most)).all()):
            raise SceneError(
                f"fit.data: {file}: {name}: expected values between {least:g} and {most:g} in {remedy}, got "
                f"{float(data[name].min()):g} to {float(data[name].max()):g}"
            )
    return data
