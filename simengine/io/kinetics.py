"""Files of combustion experiments as tables: ChemKED (YAML) and ReSpecTh's kinetics data (XML), a row for each point.

Columns have the names of the file with their unit, as in `ignition-delay [us]` and `laminar burning velocity [cm/s]`;
its stated uncertainty stands beside it, as in `ignition-delay uncertainty [us]`. What is common to all points stands in
every row. `composition` is a mixture in words, `H2: 0.1, O2: 0.1, Ar: 0.8`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from simengine.io.units import dimension, to_si

MIXTURE = "composition"
_PARTS = {"mole fraction": 1.0, "mole percent": 1e-2, "percent": 1e-2, "ppm": 1e-6, "ppb": 1e-9}
_UNITS = {"Torr": "torr", "unitless": "1"}  # spellings of these files that pint has otherwise

Row = dict[str, tuple[float, str] | str]  # name -> value and unit, or words


def read_chemked(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a ChemKED file (Weber & Niemeyer 2018, doi 10.1002/kin.21142).

    Raises:
        ValueError: It is none; the message names the point and the key.
    """
    import yaml

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable YAML file ({' '.join(str(error).split())[:120]})") from None
    points = data.get("datapoints") if isinstance(data, Mapping) else None
    if not isinstance(points, list) or not points:
        raise ValueError(f"{path}: no ChemKED file: it has no list `datapoints`")
    common = data.get("common-properties") or {}
    rows = []
    for number, point in enumerate(points):
        if not isinstance(point, Mapping) or not isinstance(common, Mapping):
            raise ValueError(f"{path}: datapoints {number}: expected a mapping of keys")
        row: Row = {}
        for key, told in {**common, **point}.items():
            try:
                row |= _chemked_cells(str(key), told)
            except ValueError as error:
                raise ValueError(f"{path}: datapoints {number}: {key}: {error}") from None
        rows.append(row)
    return _columns(path, rows)


def _chemked_cells(key: str, told: Any) -> Row:
    """The cells of one entry of a point; none of what is no number and no words (histories of a vessel)."""
    if key == MIXTURE:
        return {key: _chemked_mixture(told)}
    if isinstance(told, int | float) and not isinstance(told, bool):
        return {key: (float(told), "")}
    if isinstance(told, str):
        return {key: told}
    if isinstance(told, Mapping):
        return {f"{key} {name}": word for name, word in told.items() if isinstance(word, str)}
    if not isinstance(told, list) or not told or not isinstance(told[0], str | int | float):
        return {}
    value, unit = _quantity(told[0])
    row: Row = {key: (value, unit)}
    about = told[1] if len(told) > 1 and isinstance(told[1], Mapping) else {}
    sizes = [about[k] for k in ("uncertainty", "upper-uncertainty", "lower-uncertainty") if k in about]
    if sizes:
        relative = about.get("uncertainty-type") == "relative"
        known = [(abs(value) * _quantity(s)[0], unit) if relative else _quantity(s) for s in sizes]
        row[f"{key} uncertainty"] = max(known, key=lambda own: own[0])  # the wider of two sides
    return row


def _quantity(told: Any) -> tuple[float, str]:
    """`471.54 us` -> its number and unit."""
    number, _, unit = str(told).strip().partition(" ")
    return _number(number), unit.strip()


def _chemked_mixture(told: Any) -> str:
    species = told.get("species") if isinstance(told, Mapping) else None
    if not isinstance(species, list):
        raise ValueError("expected `kind` and a list `species`")
    amounts = {}
    for one in species:
        if not isinstance(one, Mapping) or "species-name" not in one or "amount" not in one:
            raise ValueError("expected `species-name` and `amount` of each species")
        amount = one["amount"]
        amounts[str(one["species-name"])] = _number(amount[0] if isinstance(amount, list) and amount else amount)
    return _mixture(amounts, {str(told.get("kind", "mole fraction"))})


def read_respecth(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a ReSpecTh Kinetics Data file: its common properties and the points of its first group.

    Raises:
        ValueError: It is none; the message names the property.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not a readable XML file ({' '.join(str(error).split())[:120]})") from None
    group = root.find("dataGroup")
    if group is None or not group.findall("dataPoint"):
        raise ValueError(f"{path}: no ReSpecTh file: it has no `dataGroup` with a `dataPoint`")
    shares: dict[str, float] = {}
    kinds: set[str] = set()
    shared: list[tuple[ElementTree.Element, str | None]] = []
    for prop in root.iterfind("commonProperties/property"):
        for part in prop.iter("component"):
            amount = part.find("amount")
            shares[_species(part)] = _value(path, MIXTURE, None if amount is None else amount.text)
            kinds.add("" if amount is None else amount.get("units", ""))
        if (value := prop.find("value")) is not None:
            shared.append((prop, value.text))
    words: Row = {
        f"ignition type {name}": word
        for kind in root.iterfind("ignitionType")
        for name, word in kind.attrib.items()
        if name in ("target", "type")
    }
    properties = {prop.get("id", ""): prop for prop in group.findall("property")}
    rows = []
    for point in group.findall("dataPoint"):
        cells = [
            (properties[cell.tag], cell.text) for cell in point if cell.tag in properties and (cell.text or "").strip()
        ]
        mixed = {_species(prop): _value(path, MIXTURE, text) for prop, text in cells if prop.get("name") == MIXTURE}
        row = words | _row(path, [*shared, *((prop, text) for prop, text in cells if prop.get("name") != MIXTURE)])
        if shares or mixed:
            own = kinds | {prop.get("units", "") for prop, _ in cells if prop.get("name") == MIXTURE}
            try:
                row[MIXTURE] = _mixture(shares | mixed, own)
            except ValueError as error:
                raise ValueError(f"{path}: {MIXTURE}: {error}") from None
        rows.append(row)
    return _columns(path, rows)


def _row(path: Path, cells: list[tuple[ElementTree.Element, str | None]]) -> Row:
    """The cells of a point; what refers to another property, as its uncertainty does, has that one's name and unit."""
    row: Row = {}
    for prop, text in sorted(cells, key=lambda cell: cell[0].get("reference") is not None):
        name, of, unit = prop.get("name", ""), prop.get("reference"), prop.get("units", "")
        value = _value(path, name, text)
        if of is None:
            row[name] = value, unit
        elif prop.get("kind") != "relative":
            row[f"{of} {name}"] = value, unit
        elif isinstance(whole := row.get(of), tuple):
            row[f"{of} {name}"] = abs(whole[0]) * value * _PARTS.get(unit, 1.0), whole[1]
    return row


def _species(part: ElementTree.Element) -> str:
    link = part.find("speciesLink")
    return "" if link is None else link.get("preferredKey") or link.get("chemName") or ""


def _value(path: Path, name: str, text: str | None) -> float:
    try:
        return _number(text)
    except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}") from None


def _number(told: Any) -> float:
    try:
        return float(told)
    except (TypeError, ValueError):
        raise ValueError(f"{str(told)[:40]!r} is no number") from None


def _mixture(amounts: Mapping[str, float], kinds: set[str]) -> str:
    """In words, as mole fractions.

    Raises:
        ValueError: Amounts are by mass, or of two kinds.
    """
    if len(kinds) != 1 or (kind := next(iter(kinds))) not in _PARTS:
        told = ", ".join(sorted(kinds))
        raise ValueError(f"amounts as {told!r} are not read; one of {', '.join(_PARTS)} for all of them")
    return ", ".join(f"{name}: {amount * _PARTS[kind]:.15g}" for name, amount in amounts.items())


def _columns(path: Path, rows: list[Row]) -> dict[str, NDArray[Any]]:
    """Rows side by side: numbers in the unit that the first of them has, NaN or "" where a row has none."""
    columns: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        cells = [row.get(name) for row in rows]
        if any(isinstance(cell, str) for cell in cells):
            columns[name] = np.array([cell if isinstance(cell, str) else "" for cell in cells])
            continue
        units = list(dict.fromkeys(cell[1] for cell in cells if cell is not None and not isinstance(cell, str)))
        try:
            values = [math.nan if cell is None else _in(cell[0], str(cell[1]), units[0]) for cell in cells]  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from None
        header = f"{name} [{_UNITS.get(units[0], units[0])}]" if units[0] else name
        columns[header] = np.array(values, dtype=np.float64)
    return columns


def _in(value: float, unit: str, wanted: str) -> float:
    if unit == wanted:
        return value
    if dimension(_UNITS.get(unit, unit)) != dimension(_UNITS.get(wanted, wanted)):
        raise ValueError(f"{unit!r} in one point and {wanted!r} in another")
    (factor, shift), (own, own_shift) = to_si(_UNITS.get(unit, unit)), to_si(_UNITS.get(wanted, wanted))
    return (value * factor + shift - own_shift) / own
