"""The page of every key of a scene, as Markdown: kinds of worlds, tables, instruments, what is sought."""

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from simengine.scene.base import AbstractWorld
from simengine.scene.kinds import classes, learned_classes
from simengine.scene.schema import DEFAULT_KIND, Key, bounds_of, in_words, keys_in, keys_of, tables_below, tables_in
from simengine.scene.sought import Inference, Unknown
from simengine.scene.strict import Only, Range

_PLAIN = {float: "number", int: "integer", bool: "true, false", str: "text", Path: "file", Any: "any"}
HEAD = """# Every key of a scene

Made by `simengine schema --keys`; `tests/scene/test_schema.py` keeps it in step. `simengine explain KEY SCENE` says the
same of one number, `simengine schema` writes it for editors. Keys without a default have to be given. Numbers are in SI
units; a range without words is any number.
"""


def keys_page() -> str:
    """The page."""
    worlds, instruments = classes("kind"), classes("type")
    learned = {table: learned_classes(table) for table in ("model", "objective")}
    told = {*worlds.values(), *instruments.values(), Unknown, Inference}
    told |= {cls for own in learned.values() for cls in own.values()}
    parts = [HEAD, "## Worlds\n"]
    for name, cls in worlds.items():
        kind = f'`kind = "{name}"`' + (", which may be left out" if name == DEFAULT_KIND else "")
        parts.append(_section(f"### {name}", cls, f"{kind}. "))
    parts.append("## Observations\n\nIn `[observations.NAME]`, or shared in `[instruments.NAME]`.\n")
    parts += [_section(f"### {name}", cls, f'`type = "{name}"`. ') for name, cls in instruments.items()]
    parts.append("## What is sought, and how\n")
    parts.append(_section('### `[unknowns."KEY"]`', Unknown, ""))
    parts.append(_section("### `[inference]`", Inference, ""))
    parts.append("## What is trained, and what is optimised\n\nBeside a world, in place of observations.\n")
    for first, own in learned.items():
        for name, cls in own.items():
            kinds = " or ".join(f"`{kind}`" for kind in cls.kinds)
            told_by = f'`[{first}] type = "{name}"`, with a world of kind {kinds}. '
            keys = [
                dataclasses.replace(key, name=f"{table}.{key.name}")
                for table in cls.tables
                for key in keys_in(cls, table)
            ]
            parts.append(_section(f"### {_title(cls)}", cls, told_by, keys=keys))
    parts.append("## Tables inside tables\n")
    below = set(tables_below(list(told))) - told
    parts += [_section(f"### {_title(cls)}", cls, "") for cls in sorted(below, key=_title)]
    return "\n".join(parts)


def page_of(cls: type, heading: str, before: str) -> str:
    """A page of one kind of world, or of one instrument: its keys, and those of every table below it.

    Args:
        cls: The class.
        heading: Of the page.
        before: Markdown between the heading and the keys.
    """
    below = [table for table in tables_below([cls]) if table is not cls]
    parts = [_section(f"# {heading}", cls, "", after=before)]
    parts += ["## Tables inside tables\n"] if below else []
    return "\n".join([*parts, *(_section(f"### {_title(table)}", table, "") for table in sorted(below, key=_title))])


def key_line(key: Key) -> str:
    """A key in a line as a scene has it, with its default, and after a # what it is, its unit and range."""
    default = "..." if key.default is None or key.required else _toml(key.default)
    bounds = in_words(bounds_of(key.hint) or Range())
    said = key.sentence if not key.unit or f"[{key.unit}]" in key.sentence else f"{key.sentence} [{key.unit}]"
    return f"{f'{key.name} = {default}':39} # {said}{f' ({bounds})' if bounds else ''}"


def _title(cls: type) -> str:
    """Module and class: names of classes are not unique."""
    return f"{cls.__module__.removeprefix('simengine.').removeprefix('worlds.')}.{cls.__name__}"


def _section(heading: str, cls: type, before: str, *, keys: Sequence[Key] | None = None, after: str = "") -> str:
    lines = [f"{heading}\n", f"{before}{(cls.__doc__ or '').strip().partition(chr(10))[0]}\n"]
    lines += [f"{after}\n"] if after else []
    keys = keys_of(cls) if keys is None else keys
    keys = [key for key in keys if key.name.rpartition(".")[2] != "type" or len(typing.get_args(key.hint)) > 1]
    if keys:
        lines += ["| key | what | unit | range | default | is |", "| --- | --- | --- | --- | --- | --- |"]
    for key in keys:
        bounds = in_words(bounds_of(key.hint) or Range())
        said = key.sentence.replace(f" [{key.unit}]", "")
        cells = (f"`{key.name}`", _what(key.hint), key.unit, bounds, _default(key), said)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(key: Key) -> str:
    if key.required:
        return ""
    if key.default is None:
        return "none"
    if isinstance(key.default, dict) and any(tables_in(key.hint)):
        return f'`{{ type = "{key.default["type"]}" }}`' if "type" in key.default else "`{}`"
    return f"`{_toml(key.default)}`"


def _what(hint: Any) -> str:
    """A type in words, tables as links."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        only = [name for mark in args[1:] if isinstance(mark, Only) for name in mark.names]
        told = _what(args[0])
        return told.replace("name =", "/".join(f"`{name}`" for name in only) + " =", 1) if only else told
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_what(part) for part in args if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"list of {_what(args[0])}"
        return f"{len(args)} of {_what(args[0])}" if len(set(map(str, args))) == 1 else _words(args)
    if origin is dict:
        return f"table: name = {_what(args[1])}"
    for table in tables_in(hint):
        if issubclass(table, AbstractWorld):
            return f"[scene of kind {table.kind}](#{table.kind})"
        said = [key.default for key in keys_of(table) if key.name == "type"]
        anchor = _title(table).lower().replace(".", "")
        return f"[{said[0] if said else table.__name__}](#{anchor})"
    return _PLAIN.get(hint, "any")


def _words(args: Sequence[Any]) -> str:
    return "list: " + ", ".join(_what(part) for part in args)


def _toml(value: Any) -> str:
    """Plain data in a line, about as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, dict):
        inside = ", ".join(f"{name} = {_toml(item)}" for name, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
