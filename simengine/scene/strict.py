"""Plain data to frozen dataclasses and back, strictly: every error names the key, the value and the remedy.

The types of the dataclass fields are the schema. Known are bool, int, float, str, Path, Literal, tuples, dicts with
string keys, optional fields, other dataclasses, unions of dataclasses told apart by a `Literal` field `type`, and
`Annotated[..., Range(...)]` for bounds and `Annotated[dict, Only(...)]` for the names of a table.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from simengine.scene.errors import SceneError
from simengine.shown import MOST, cut, shown

T = TypeVar("T")
Locate = Callable[[str], str]  # dotted key -> "file:line"


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number in a scene; exclusive where `gt` and `lt` are used."""

    gt: float = -math.inf
    ge: float = -math.inf
    lt: float = math.inf
    le: float = math.inf

    def check(self, value: float) -> str | None:
        """What is wrong with `value`, or None."""
        if value > self.gt and value >= self.ge and value < self.lt and value <= self.le:
            return None
        lower = f"above {self.gt:g}" if self.gt > -math.inf else f"at least {self.ge:g}" if self.ge > -math.inf else ""
        upper = f"below {self.lt:g}" if self.lt < math.inf else f"at most {self.le:g}" if self.le < math.inf else ""
        return f"expected a number {' and '.join(filter(None, (lower, upper)))}"


@dataclasses.dataclass(frozen=True)
class Unit:
    """The unit of a number in a scene, as in `Annotated[float, Unit("Pa")]`; SI, "1" for a pure number."""

    name: str


@dataclasses.dataclass(frozen=True)
class Only:
    """The names that a table of names may hold, as in `Annotated[dict[str, str], Only("time", "x")]`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A table of which one key names the class, as in `Annotated[Equation, OneOf("equation", classes)]`.

    Attributes:
        key: The key that names it; the class has a field of that name.
        classes: Returns name -> dataclass.
    """

    key: str
    classes: Callable[[], Mapping[str, type]]


LONGEST_NAME = 255  # bytes: what file systems hold
NAMED = 20  # words of a list in a message
Positive = Annotated[float, Range(gt=0)]
NonNegative = Annotated[float, Range(ge=0)]
Count = Annotated[int, Range(ge=1)]
Vector = tuple[float, float, float]


@cache
def hints(cls: type) -> dict[str, Any]:
    """The type hints of a class, annotations included."""
    return typing.get_type_hints(cls, include_extras=True)


def scene_fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that a scene file may set, by name."""
    return {field.name: field for field in dataclasses.fields(cls) if not field.metadata.get("internal")}


def without_effect(spec: Any, *names: str, where: str) -> None:
    """Refuse keys of a dataclass that differ from their defaults although nothing reads them.

    Args:
        spec: The dataclass.
        names: Of its fields, each with a default.
        where: What makes them idle, as in `cuts = "uniform"`.

    Raises:
        ValueError: One of them was set.
    """
    for name in names:
        field = scene_fields(type(spec))[name]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if getattr(spec, name) != default:
            raise ValueError(f"{name}: has no effect with {where}; leave it out")


def nearest(word: str, words: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `words`, else the list of them."""
    words = sorted(words)
    close = difflib.get_close_matches(word[:MOST], words, 1, 0.5)
    some = ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")
    return f"did you mean {close[0]!r}?" if close else f"known: {some}"


def from_plain(
    cls: type[T],
    data: Any,
    *,
    locate: Locate,
    directory: Path,
    key: str = "",
    names: Mapping[str, str] | None = None,
) -> T:
    """Make a dataclass of plain data.

    Args:
        cls: The dataclass.
        data: Nested dicts and lists, as `tomllib` gives them.
        locate: Tells where a dotted key stands, for messages.
        directory: Where relative paths start.
        key: Dotted key of `data` within the scene.
        names: Dotted keys of the fields, where they do not all stand in one table.

    Raises:
        SceneError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """

    def fail(where: str, message: str) -> SceneError:
        return SceneError(f"{locate(where)}: {where + ': ' if where else ''}{message}")

    def join(name: str | int, parent: str) -> str:
        return f"{parent}.{name}" if parent else (names or {}).get(str(name), str(name))

    def table(kind: type, value: Any, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise fail(where, f"expected a table, got {shown(value)}")
        fields = scene_fields(kind)
        for name in value:
            if name not in fields and name in (moved := getattr(kind, "moved", {})):
                raise fail(join(name, where), moved[name])
            if name not in fields:
                raise fail(join(cut(str(name), MOST), where), f"unknown key; {nearest(str(name), fields)}")
        arguments: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                arguments[name] = convert(hints(kind)[name], value[name], join(name, where))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise fail(where, f"key {name!r} is missing")
        if "directory" in {f.name for f in dataclasses.fields(kind) if f.metadata.get("internal")}:
            arguments["directory"] = directory
        try:
            return kind(**arguments)
        except ValueError as error:  # __post_init__ knows what no single field tells
            raise error if isinstance(error, SceneError) else fail(where, str(error)) from error

    def convert(hint: Any, value: Any, where: str) -> Any:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            if choice := next((mark for mark in args[1:] if isinstance(mark, OneOf)), None):
                return chosen(choice, value, where)
            result = convert(args[0], value, where)
            for bound in args[1:]:
                if isinstance(bound, Only) and (strange := next((n for n in result if n not in bound.names), None)):
                    raise fail(join(cut(strange, MOST), where), f"unknown name; {nearest(strange, bound.names)}")
                values = result if isinstance(result, tuple) else (result,)
                for entry in values:
                    if entry is not None and isinstance(bound, Range) and (message := bound.check(entry)):
                        raise fail(where, f"{message}, got {shown(entry)}")
            return result
        if origin in (typing.Union, types.UnionType):
            return union(args, value, where)
        if origin is Literal:
            if value not in args:
                known = [str(a) for a in args]
                raise fail(
                    where, f"expected one of {', '.join(known)}, got {shown(value)}; {nearest(shown(value), known)}"
                )
            return value
        if origin is tuple:
            if not isinstance(value, list | tuple):
                raise fail(where, f"expected a list, got {shown(value)}")
            if len(args) == 2 and args[1] is Ellipsis:
                return tuple(convert(args[0], item, join(i, where)) for i, item in enumerate(value))
            if len(value) != len(args):
                raise fail(where, f"expected {len(args)} values, got {len(value)}: {shown(value)}")
            return tuple(convert(a, item, join(i, where)) for i, (a, item) in enumerate(zip(args, value, strict=True)))
        if origin is dict:
            if not isinstance(value, Mapping):
                raise fail(where, f"expected a table, got {shown(value)}")
            return {name: convert(args[1], item, join(name, where)) for name, item in value.items()}
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return table(hint, value, where)
        return leaf(hint, value, where)

    def chosen(choice: OneOf, value: Any, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise fail(where, f"expected a table, got {shown(value)}")
        name, known = value.get(choice.key), choice.classes()
        if not isinstance(name, str) or name not in known:
            told = f"{choice.key} {shown(name)} is unknown" if choice.key in value else f"key {choice.key!r} is missing"
            raise fail(where, f"{told}; {nearest(shown(name), known)}")
        return table(known[name], value, where)

    def union(args: tuple[Any, ...], value: Any, where: str) -> Any:
        if value is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        if len(rest) == 1:
            return convert(rest[0], value, where)
        tables: dict[str, type] = {}
        untagged: list[type] = []
        for a in rest:
            if isinstance(a, type) and dataclasses.is_dataclass(a):
                if "type" in hints(a):
                    tables[typing.get_args(hints(a)["type"])[0]] = a
                else:
                    untagged.append(a)
        if tables and isinstance(value, Mapping) and ("type" in value or len(untagged) != 1):
            name = value.get("type")
            if not isinstance(name, str) or name not in tables:
                told = f"type {shown(name)} is unknown" if "type" in value else "key 'type' is missing"
                raise fail(where, f"{told}; {nearest(shown(name), tables)}")
            return table(tables[name], value, where)
        if len(untagged) == 1 and isinstance(value, Mapping):
            return table(untagged[0], value, where)
        plain = [a for a in rest if not dataclasses.is_dataclass(a)]
        refused: list[str] = []
        for hint in plain:
            try:
                return convert(hint, value, where)
            except SceneError as error:
                refused.append(str(error))
        if refused:
            raise SceneError(_either(refused))
        raise fail(where, f"expected a table with a key 'type' ({', '.join(tables)}), got {shown(value)}")

    def leaf(hint: Any, value: Any, where: str) -> Any:
        if hint is Any:
            return value
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise fail(where, f"expected a finite number, got {shown(value)}")
            return float(value)
        if hint is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if hint is bool and isinstance(value, bool):
            return value
        if hint is str and isinstance(value, str):
            return value
        if hint is Path and isinstance(value, str | Path):
            try:
                return resolve_path(value, directory)
            except SceneError as error:
                raise fail(where, str(error)) from None
        names = {float: "a number", int: "an integer", bool: "true or false", str: "a string", Path: "a path"}
        raise fail(where, f"expected {names.get(hint, hint)}, got {shown(value)}")

    return table(cls, data, key)


def resolve_path(text: str | Path, directory: Path) -> Path:
    """An absolute path: `asset:name` lies in simengine's own assets, anything relative beside the scene.

    Raises:
        SceneError: No file can have this name.
    """
    if any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME for part in Path(text).parts):
        raise SceneError(f"{shown(str(text))}: a name of more than {LONGEST_NAME} bytes is too long for a file")
    if "\0" in str(text):
        raise SceneError(f"{shown(str(text))}: no file has a name with a zero byte")
    if str(text).startswith("asset:"):
        return Path(str(files("simengine.assets"))) / str(text).removeprefix("asset:")
    try:
        return (directory / Path(text).expanduser()).resolve()
    except RuntimeError as error:  # a loop of links, or the home of nobody
        raise SceneError(f"{shown(str(text))}: {error}") from None


def to_plain(value: Any, *, path: Callable[[Path], str] = str) -> Any:
    """Nested dicts and lists of a scene, without fields that are None; `from_plain` reads them back.

    Args:
        value: The scene or a part of it.
        path: What is written for a path.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((name, getattr(value, name)) for name in scene_fields(type(value)))
        return {name: to_plain(item, path=path) for name, item in items if item is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(item, path=path) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item, path=path) for item in value]
    return path(value) if isinstance(value, Path) else value


def _either(refused: list[str]) -> str:
    """One message of several that each say what was expected in place of the same value; else the last."""
    found = [re.fullmatch(r"(.*?)expected (.*), got (.*)", message) for message in refused]
    told = [match.groups() for match in found if match is not None]
    if len(told) < len(refused) or len({(before, value) for before, _, value in told}) > 1:
        return refused[-1]
    expected = dict.fromkeys(what for _, what, _ in told)
    return f"{told[0][0]}expected {' or '.join(expected)}, got {told[0][2]}"
