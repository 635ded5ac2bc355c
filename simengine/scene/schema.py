"""What a scene file may hold, read off the dataclasses: rows of keys, and a JSON schema for editors."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from simengine.scene.address import declared
from simengine.scene.kinds import classes, learned_classes, named_class
from simengine.scene.learning import places
from simengine.scene.sought import Inference, Unknown
from simengine.scene.strict import OneOf, Only, Range, hints, scene_fields, to_plain

DRAFT = "http://json-schema.org/draft-07/schema#"
DEFAULT_KIND = "mpm"
_BY_NAME = ("camera", "light")  # keys of an instrument that may name an entry of [cameras] or [lights]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a table.

    Attributes:
        name: As a scene writes it.
        hint: Its type.
        unit: Of its numbers; "" for what holds none.
        sentence: What it is.
        required: Whether it has to be given.
        default: Plain data; None where there is none.
    """

    name: str
    hint: Any
    unit: str
    sentence: str
    required: bool
    default: Any = None


def keys_of(cls: type) -> list[Key]:
    """The keys that a table of a class may hold, `type` included."""
    found = []
    for name, field in scene_fields(cls).items():
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        missing, hint, about = default is dataclasses.MISSING, hints(cls)[name], declared(cls, name)
        found.append(
            Key(
                name=name,
                hint=hint,
                unit=about.unit if holds(hint, float) else "",
                sentence=about.sentence,
                required=missing,
                default=None if missing else to_plain(default, path=_short),
            )
        )
    return found


def keys_in(cls: type, table: str) -> list[Key]:
    """The keys that one of the tables of a learner or an objective may hold, as the scene writes them."""
    where = places(cls)
    return [
        dataclasses.replace(key, name=where[key.name].partition(".")[2])
        for key in keys_of(cls)
        if where[key.name].startswith(f"{table}.")
    ]


def _short(path: Path) -> str:
    return path.name


def holds(hint: Any, kind: type) -> bool:
    """Whether values of a type hold a number, a path, ... of their own, not one inside a table."""
    return hint is kind or any(holds(part, kind) for part in typing.get_args(hint))


def tables_in(hint: Any) -> Iterator[type]:
    """The dataclasses that stand in a type."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    else:
        for part in typing.get_args(hint):
            yield from tables_in(part)


def tables_below(roots: Sequence[type]) -> list[type]:
    """Every table that may stand in some tables, these first, each once."""
    found: dict[type, None] = {}

    def walk(cls: type) -> None:
        if cls not in found:
            found[cls] = None
            for key in keys_of(cls):
                for below in tables_in(key.hint):
                    walk(below)

    for root in roots:
        walk(root)
    return list(found)


def bounds_of(hint: Any) -> Range | None:
    """The bounds of the numbers of a type; None where nothing is said."""
    if typing.get_origin(hint) is Annotated:
        for mark in typing.get_args(hint)[1:]:
            if isinstance(mark, Range):
                return mark
    for part in typing.get_args(hint):
        if (found := bounds_of(part)) is not None:
            return found
    return None


def in_words(bounds: Range) -> str:
    """Bounds as text: "above 0 and to 1"; "" where there are none."""
    lower = f"above {bounds.gt:g}" if bounds.gt > -math.inf else f"from {bounds.ge:g}" if bounds.ge > -math.inf else ""
    upper = f"below {bounds.lt:g}" if bounds.lt < math.inf else f"to {bounds.le:g}" if bounds.le < math.inf else ""
    return " and ".join(filter(None, (lower, upper)))


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The JSON schema (draft 7) of scene files.

    Args:
        kind: Of one kind of world; None for all of them, told apart by `kind`.

    Raises:
        SceneError: There is no such kind.
    """
    writer = _Writer()
    if kind is not None:
        head, body = {"title": f"simengine scene of kind {kind}"}, writer.scene(kind)
    else:  # by conditions and not by `oneOf`, so that a message names the key that is wrong
        kinds = list(classes("kind"))
        head, body = {"title": "simengine scene"}, {"type": "object", "properties": {"kind": {"enum": kinds}}}
        body["allOf"] = [{"if": _told(name), "then": writer.scene(name)} for name in kinds]
    return {"$schema": DRAFT, **head, **body, "definitions": dict(sorted(writer.definitions.items()))}


def _told(kind: str) -> dict[str, Any]:
    """Whether a scene is of a kind."""
    required = {} if kind == DEFAULT_KIND else {"required": ["kind"]}
    return {"properties": {"kind": {"const": kind}}, **required}


class _Writer:
    """Makes schemas of types; tables are defined once and referred to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def scene(self, kind: str) -> dict[str, Any]:
        """A scene file of one kind: the keys of its world beside the shared tables."""
        cls = named_class("kind", kind)
        world = self.table(cls)
        required = list(world.get("required", ())) + ([] if kind == DEFAULT_KIND else ["kind"])
        named = {"type": "object", "additionalProperties": {"type": "object"}}
        own = {"kind": {"const": kind, "description": _first_line(cls)}, **world["properties"]}
        part = self.refer(cls, partial=True)
        observation = self.observation(part)
        shared = {
            "observations": {
                "description": "What was measured, by name.",
                "anyOf": [
                    {"type": "object", "additionalProperties": observation},
                    {"type": "array", "items": observation},
                ],
            },
            "instruments": {"description": "Instruments that several observations share, by name.", **named},
            "cameras": {"description": "Cameras that several observations share, by name.", **named},
            "lights": {"description": "Lights that several observations share, by name.", **named},
            "runs": {
                "description": "Runs: partial scenes that are laid over the world, by name.",
                "anyOf": [
                    {"type": "object", "additionalProperties": part},
                    {"type": "array", "items": {"type": "object"}},
                ],
            },
            "unknowns": {
                "description": "What is sought, by dotted key.",
                "type": "object",
                "additionalProperties": self.refer(Unknown),
            },
            "inference": self.refer(Inference),
            "reference": {
                "description": "Published or hidden values, by key; only reports read them.",
                "type": "object",
            },
        }
        learned, conditions = self.learned(kind, own | {"inference": shared["inference"]})
        scene = {**world, "properties": {**own, **shared, **learned}}
        scene |= {"allOf": conditions} if conditions else {}
        return {**scene, "required": required} if required else scene

    def learned(self, kind: str, plain: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The tables of what is trained or optimised with worlds of a kind, and what they hold by `type`.

        Args:
            kind: Of the world.
            plain: Properties that mean something else where nothing is trained or optimised.
        """
        properties: dict[str, Any] = {}
        conditions: list[dict[str, Any]] = []
        for first in ("model", "objective"):
            fitting = {name: cls for name, cls in learned_classes(first).items() if kind in cls.kinds}
            if not fitting:
                continue
            told = {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(fitting)}}}
            properties[first] = {"description": f"What is {'trained' if first == 'model' else 'made small'}.", **told}
            tables = next(iter(fitting.values())).tables
            properties |= {table: {"type": "object"} for table in tables if table != first}
            for name, cls in fitting.items():
                asked = {"required": [first], "properties": {first: {"properties": {"type": {"const": name}}}}}
                parts = {table: self.keys(keys_in(cls, table)) for table in tables}
                conditions.append({"if": asked, "then": {"properties": parts}})
            other = {table: plain[table] for table in tables if table in plain}
            if other:
                conditions.append({"if": {"not": {"required": [first]}}, "then": {"properties": other}})
        return properties, conditions

    def observation(self, part: dict[str, Any]) -> dict[str, Any]:
        """An observation: an instrument of its own, or one that is shared, with what this one has beside it."""
        if "observation" not in self.definitions:
            whole = []
            for name, cls in classes("type").items():
                made = self.table(cls)
                properties = {**made["properties"], "type": {"const": name}, "name": {"type": "string"}}
                properties["run"] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
                for key in _BY_NAME:
                    if key in properties:
                        properties[key] = {"anyOf": [{"type": "string"}, properties[key]]}
                required = [*made.get("required", ()), "type"]
                whole.append({**made, "properties": properties, "required": required})
            shared = {"type": "object", "required": ["instrument"]}
            self.definitions["observation"] = {"anyOf": [*whole, shared]}
        return {"$ref": "#/definitions/observation"}

    def refer(self, cls: type, *, partial: bool = False) -> dict[str, Any]:
        """A reference to the definition of a table, which is made if there is none."""
        name = f"{cls.__module__.removeprefix('simengine.')}.{cls.__name__}" + (".part" if partial else "")
        if name not in self.definitions:
            self.definitions[name] = {}  # a table may hold itself
            self.definitions[name] = self.table(cls, partial=partial)
        return {"$ref": f"#/definitions/{name}"}

    def table(self, cls: type, *, partial: bool = False) -> dict[str, Any]:
        """A dataclass."""
        made = self.keys(keys_of(cls), partial=partial)
        return {"type": made.pop("type"), "description": _first_line(cls), **made}

    def keys(self, keys: Sequence[Key], *, partial: bool = False) -> dict[str, Any]:
        """A table of some keys."""
        properties = {key.name: self.key(key, partial=partial) for key in keys}
        made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [key.name for key in keys if key.required]
        return {**made, "required": required} if required and not partial else made

    def key(self, key: Key, *, partial: bool = False) -> dict[str, Any]:
        """A key of a table, with what an editor shows of it."""
        made = self.type(key.hint, partial=partial)
        told: dict[str, Any] = {"description": key.sentence} if key.sentence else {}
        if key.default is not None and key.default not in ([], {}):
            told["default"] = key.default
        if "$ref" in made and told:
            return {**told, "allOf": [made]}  # what stands beside a reference is ignored
        return {**made, **told}

    def type(self, hint: Any, *, partial: bool = False) -> dict[str, Any]:
        """A type."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            for mark in args[1:]:
                if isinstance(mark, OneOf):  # the loader knows the keys of each
                    return {"type": "object", "properties": {mark.key: {"enum": sorted(mark.classes())}}}
            made = self.type(args[0], partial=partial)
            for mark in args[1:]:
                made = _bounded(made, mark) if isinstance(mark, Range) else made
                if isinstance(mark, Only):
                    each = made["additionalProperties"]
                    made = {**made, "properties": dict.fromkeys(mark.names, each), "additionalProperties": False}
            return made
        if origin in (typing.Union, types.UnionType):
            rest = [part for part in args if part is not type(None)]
            parts = [self.type(part, partial=partial) for part in rest]
            told_apart = sum("type" in hints(table) for part in rest for table in tables_in(part)) > 1
            if told_apart and not partial:  # each has to say its type
                parts = [{"allOf": [part, {"required": ["type"]}]} if "$ref" in part else part for part in parts]
            return parts[0] if len(parts) == 1 else {"anyOf": parts}
        if origin is Literal:
            return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
        if origin is tuple:
            return self.list(args, partial=partial)
        if origin is dict:
            return {"type": "object", "additionalProperties": self.type(args[1], partial=partial)}
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.refer(hint, partial=partial)
        plain = {float: "number", int: "integer", bool: "boolean", str: "string", Path: "string"}
        return {"type": plain[hint]} if hint in plain else {}

    def list(self, args: tuple[Any, ...], *, partial: bool) -> dict[str, Any]:
        """A tuple; in a partial scene its elements may be picked by name or number."""
        if len(args) == 2 and args[1] is Ellipsis:
            items = self.type(args[0], partial=partial)
            made: dict[str, Any] = {"type": "array", "items": items}
        else:
            items = {"anyOf": [self.type(part, partial=partial) for part in args]}
            size = len(args)
            made = {
                "type": "array",
                "items": [self.type(part, partial=partial) for part in args],
                "minItems": size,
                "maxItems": size,
            }
        return {"anyOf": [made, {"type": "object", "additionalProperties": items}]} if partial else made


def _bounded(made: dict[str, Any], bounds: Range) -> dict[str, Any]:
    """A schema whose numbers, or the numbers of its list, have bounds."""
    if "anyOf" in made:
        return {**made, "anyOf": [_bounded(part, bounds) for part in made["anyOf"]]}
    if made.get("type") == "array":
        items = made["items"]
        inner = [_bounded(item, bounds) for item in items] if isinstance(items, list) else _bounded(items, bounds)
        return {**made, "items": inner}
    if made.get("type") not in ("number", "integer"):
        return made
    limits = {
        "exclusiveMinimum": bounds.gt,
        "minimum": bounds.ge,
        "exclusiveMaximum": bounds.lt,
        "maximum": bounds.le,
    }
    return {**made, **{name: value for name, value in limits.items() if math.isfinite(value)}}


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
