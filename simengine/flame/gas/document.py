"""Files in YAML as tables that know where they stand: every fault is told in one line, with file and line number."""

import dataclasses
import difflib
import importlib.util
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.units import UnitError, UnitSystem, number

MOST_VALUES = 10_000_000  # in a file whose anchors are written out; the largest published mechanisms have 2 million


class LinedTable(dict[Any, Any]):
    """A mapping of the file, and the line on which it begins."""

    line = 1


def short(value: object, most: int = 60) -> str:
    """A value for a message: never long, whatever the file holds."""
    if isinstance(value, (dict, list)):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def listed(names: Iterable[object], most: int = 20) -> str:
    """Names for a message, the first few of many."""
    known = [str(name)[:40] for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def find(source: str | Path, beside: Path | None = None) -> Path:
    """A file by its path, beside another file, or in Cantera's data folders where Cantera is installed."""
    path = Path(source)
    places = [path] if beside is None else [beside / path, path]
    cantera = importlib.util.find_spec("cantera")
    if cantera is not None and cantera.origin is not None and not path.is_absolute():
        data = Path(cantera.origin).parent / "data"
        places += [data / path, data / "example_data" / path]
    return next((place for place in places if place.is_file()), path)


def read_document(path: Path) -> LinedTable:
    """The table that a YAML file holds.

    Raises:
        MechanismError: The file cannot be read, is not valid YAML, holds no table, or is larger than any mechanism.
    """
    import yaml

    if path.exists() and not path.is_file():  # a folder, or a pipe that nobody writes to
        raise MechanismError(f"{path}: not a regular file")
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_loader())
        size = _size(data)
    except OSError as error:
        raise MechanismError(f"{path}: {error.strerror}; give a .yaml file or the name of a shipped one") from error
    except UnicodeDecodeError as error:
        raise MechanismError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except RecursionError as error:
        raise MechanismError(f"{path}: tables and lists are nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        told = re.sub(r"\s+", " ", str(error))
        chemkin = re.search(
            r"(?im)^\s*(ELEM|ELEMENTS|SPECIES|REACTIONS)\b\s*[^:\s]*", path.read_text("utf-8", "replace")
        )
        hint = "; a CHEMKIN file is converted by Cantera's ck2yaml" if chemkin or path.suffix == ".inp" else ""
        raise MechanismError(f"{path}: not valid YAML: {told[:200]}{hint}") from error
    if not isinstance(data, LinedTable):
        raise MechanismError(f"{path}: expected a table with `phases` and `species`{_chemkin(path)}")
    if size > MOST_VALUES:
        raise MechanismError(f"{path}: anchors and aliases make more than {MOST_VALUES} values of it; write them out")
    return data


def _chemkin(path: Path) -> str:
    """What to do with a file that reads like CHEMKIN's."""
    alike = re.search(r"(?im)^\s*(elem|elements|species|reactions)\b(?!\s*:)", path.read_text("utf-8", "replace"))
    return "; it reads like a CHEMKIN file, which Cantera's ck2yaml converts" if alike else ""


def _loader() -> Any:
    """YAML's safe loader that notes lines, without what YAML 1.1 makes of plain words.

    NO and N are species, not booleans; nothing is a date; `<<` is a key like any other, as in Cantera; no key twice.
    """
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    left_out = {f"tag:yaml.org,2002:{name}" for name in ("bool", "timestamp", "merge")}
    loader: Any = type("MechanismLoader", (base,), {"flatten_mapping": lambda self, node: None})
    loader.yaml_implicit_resolvers = {
        letter: [entry for entry in entries if entry[0] not in left_out]
        for letter, entries in base.yaml_implicit_resolvers.items()
    }
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))

    def table(self: Any, node: Any) -> Any:
        data = LinedTable()
        data.line = node.start_mark.line + 1
        yield data
        data.update(self.construct_mapping(node))
        if len(data) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is given twice in a table", node.start_mark)

    loader.add_constructor("tag:yaml.org,2002:map", table)
    return loader


def _size(data: Any) -> float:
    """How many values there are with every alias written out; each is counted once however often it is named."""
    sizes: dict[int, float] = {}

    def visit(value: Any) -> float:
        if not isinstance(value, (dict, list)):
            return 1.0
        if id(value) not in sizes:
            sizes[id(value)] = math.inf  # of a value that contains itself
            sizes[id(value)] = 1.0 + sum(visit(v) for v in (value.values() if isinstance(value, dict) else value))
        return sizes[id(value)]

    return visit(data)


_REQUIRED: Any = object()


@dataclasses.dataclass(frozen=True)
class Node:
    """A table of a file, what it describes, and the units that hold in it.

    Attributes:
        data: The table.
        file: Name of the file.
        what: What the table describes, for messages.
        units: Units of bare numbers.
    """

    data: LinedTable
    file: str
    what: str
    units: UnitSystem

    @classmethod
    def of(cls, data: object, *, file: str, what: str, units: UnitSystem, line: int = 1) -> "Node":
        """A table with units of its own, where it declares some.

        Raises:
            MechanismError: It is no table, or a unit is not known.
        """
        place = f"{file}:{data.line if isinstance(data, LinedTable) else line}: {what}"
        if not isinstance(data, LinedTable):
            raise MechanismError(f"{place}: expected a table, got {short(data)}")
        try:
            return cls(data, file, what, units.within(data["units"]) if "units" in data else units)
        except UnitError as error:
            raise MechanismError(f"{place}: {error}") from error

    def fail(self, message: str) -> MechanismError:
        """The error that says where and what."""
        return MechanismError(f"{self.file}:{self.data.line}: {self.what}: {message}")

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """A value as it stands in the file."""
        if key not in self.data and default is _REQUIRED:
            raise self.fail(f"key {key!r} is missing")
        return self.data.get(key, default)

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A name; a number is taken as its name."""
        value = self.get(key, default)
        if isinstance(value, (dict, list)) or value is None:
            raise self.fail(f"{key}: expected text, got {short(value)}")
        return str(value)

    def flag(self, key: str) -> bool:
        """True or false, false where the key is missing."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(f"{key}: expected true or false, got {short(value)}")
        return value

    def number(self, key: str, default: Any = _REQUIRED, *, least: float = -math.inf) -> float:
        """A finite number without a unit."""
        value = self.convert(key, default)
        if value < least:
            raise self.fail(f"{key}: expected {least:g} or more, got {value:g}")
        return value

    def convert(self, key: str, default: Any = _REQUIRED, unit: str | None = None) -> float:
        """A finite number in SI; bare ones are in `unit`, and only with one may the file name another."""
        value = self.get(key, default)
        try:
            return number(value) if unit is None else self.units.convert(value, unit)
        except UnitError as error:
            raise self.fail(f"{key}: {error}") from error

    def items(self, key: str, default: Any = _REQUIRED) -> list[Any]:
        """A list."""
        value = self.get(key, default)
        if not isinstance(value, list):
            raise self.fail(f"{key}: expected a list, got {short(value)}")
        return value

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers."""
        try:
            return [number(value) for value in self.items(key)]
        except UnitError as error:
            raise self.fail(f"{key}: {error}") from error

    def table(self, key: str, default: Any = _REQUIRED) -> "Node":
        """A table within this one."""
        value = self.get(key, default)
        data = LinedTable(value) if isinstance(value, dict) and not isinstance(value, LinedTable) else value
        if not isinstance(data, LinedTable):
            raise self.fail(f"{key}: expected a table, got {short(value)}")
        if not isinstance(value, LinedTable):
            data.line = self.data.line
        return Node.of(data, file=self.file, what=f"{self.what}: {key}", units=self.units)

    def rows(self, key: str, what: str, *, named: str) -> list["Node"]:
        """Tables of a list, each told by its key `named`; a first one of `units` alone holds for those that follow."""
        rows, units = self.items(key), self.units
        if rows and isinstance(rows[0], LinedTable) and set(rows[0]) == {"units"}:
            units = Node.of(rows[0], file=self.file, what=key, units=units).units
            rows = rows[1:]
        nodes = []
        for k, row in enumerate(rows):
            name = short(row.get(named, k + 1)) if isinstance(row, LinedTable) else k + 1
            nodes.append(Node.of(row, file=self.file, what=f"{what} {name}", units=units, line=self.data.line))
        return nodes

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys other than these."""
        for key in self.data:
            if key not in (known := tuple(known)) and key not in ("units", "note"):
                close = difflib.get_close_matches(str(key), known, 1, 0.3)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
                raise self.fail(f"key {short(key)} is not known; {hint}")

    def misspelt(self, known: Iterable[str]) -> None:
        """Refuse a key that is nearly one of these; others are remarks."""
        known = tuple(known)
        for key in self.data:
            if key not in known and (close := difflib.get_close_matches(str(key), known, 1, 0.85)):
                raise self.fail(f"key {short(key)} is not known; did you mean {close[0]!r}?")
