"""Addresses of the numbers of a frozen tree: `bodies.jelly.material.E` names one, whatever the kind of scene.

A part of a dotted key that picks from a list is a number, or the `name` of an element. A part that holds a dot is
quoted (`gas.reactions."H + O2 <=> O + OH".factor`). What a number means - bounds, unit, a sentence - is read off the
class that declares it: `Annotated[float, Range(...), Unit(...)]`, and the `Attributes:` of its docstring.
"""

import dataclasses
import fnmatch
import inspect
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from simengine.scene.base import SceneError
from simengine.scene.strict import Range, Unit, hints, nearest, scene_fields
from simengine.shown import shown

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Values = Mapping[str, "float | torch.Tensor"]

UNBOUNDED = Range()
OF_THE_VALUE = "unit of the value"  # what a table or a noise says that stands for a number of any unit
_PART = re.compile(r'"([^"]*)"|([^.]+)')
_UNIT = re.compile(r"\[([^\]\[,]+)\]")  # a list in brackets, as in [least, most], is no unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number of a scene, with what `simengine explain` prints.

    Attributes:
        value: As it stands, SI units; a float, or a tensor in a solve with gradients.
        range: Its bounds.
        unit: As in "Pa"; "" where the class does not say.
        sentence: What it is.
        default: Of the class that declares it; None where it has to be given.
    """

    value: Any
    range: Range = UNBOUNDED
    unit: str = ""
    sentence: str = ""
    default: float | None = None


def bounds(tree: Any, key: str) -> tuple[float, float]:
    """Between what the number at a key of `numbers(tree)` must lie; infinite where nothing is said or there."""
    number = numbers(tree).get(key)
    if number is None:
        return -math.inf, math.inf
    return max(number.range.gt, number.range.ge), min(number.range.lt, number.range.le)


def parts_of(key: str) -> list[str]:
    """The parts of a dotted key, quotes taken off."""
    return [str(quoted or plain) for quoted, plain in _PART.findall(key)]


def joined(parts: typing.Iterable[str]) -> str:
    """A dotted key of parts; those that hold a dot are quoted."""
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def is_number(value: Any) -> bool:
    """Whether a value can be an unknown: a float or a tensor, no integer and no truth value."""
    return isinstance(value, float) or (hasattr(value, "requires_grad") and hasattr(value, "dtype"))


@cache
def _sentences(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say under `Attributes:`, by attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, section = text.partition("Attributes:\n")
        name = ""
        for line in section.splitlines():
            if entry := re.match(r" {4}(\w+): (.*)", line):
                name = entry[1]
                found[name] = entry[2]
            elif line.startswith("        ") and name:
                found[name] += " " + line.strip()
            elif line.strip():
                break
    return found


@cache
def declared(cls: type, name: str) -> Number:
    """What a class says of one of its numbers; `value` is NaN."""
    bounds, unit, stack = Range(), "", [hints(cls).get(name)]
    while stack:
        hint = stack.pop()
        if typing.get_origin(hint) is Annotated:
            base, *marks = typing.get_args(hint)
            for mark in marks:
                bounds = mark if isinstance(mark, Range) else bounds
                unit = mark.name if isinstance(mark, Unit) else unit
            stack.append(base)
        elif typing.get_origin(hint) in (typing.Union, types.UnionType, tuple, dict):
            stack.extend(typing.get_args(hint))
    sentence = _sentences(cls).get(name, "")
    if not unit and (stated := _UNIT.findall(sentence)):
        unit = stated[0]
    field = scene_fields(cls).get(name)
    default = field.default if field is not None and isinstance(field.default, float) else None
    return Number(value=float("nan"), range=bounds, unit=unit, sentence=sentence, default=default)


def numbers(tree: Any) -> dict[str, Number]:
    """Every number below a frozen tree, by dotted key, elements of lists by their index."""
    return {joined(path): number for path, number in _walk(tree, ())}


def _walk(node: Any, path: tuple[str, ...], about: Number | None = None) -> Iterator[tuple[tuple[str, ...], Number]]:
    if is_number(node):
        yield path, dataclasses.replace(about or Number(value=node), value=node)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for name in scene_fields(type(node)):
            own = declared(type(node), name)
            if own.unit == OF_THE_VALUE and about is not None and about.unit:  # a table in place of a number
                own = dataclasses.replace(own, unit=about.unit)
            yield from _walk(getattr(node, name), (*path, name), own)
    elif isinstance(node, tuple | list):
        for index, item in enumerate(node):
            yield from _walk(item, (*path, str(index)), about)
    elif isinstance(node, Mapping):
        for name, item in node.items():
            yield from _walk(item, (*path, str(name)), about)


def resolve(tree: Any, key: str) -> list[str]:
    """The keys of `numbers(tree)` that a key names: one, the entries of a vector, or with stars any number.

    Raises:
        SceneError: Nothing is there; the message names the nearest key.
    """
    found = [joined(path) for path in _match(tree, parts_of(key), ())]
    if not found:
        known = _with_names(tree)
        last = parts_of(key)[-1]
        alike = [name for name in known if parts_of(name)[-1] == last]
        raise SceneError(f"{key}: no number of that name; {nearest(key, alike or known)}")
    return found


def _match(node: Any, parts: list[str], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not parts:
        for below, _ in _walk(node, path):
            if dataclasses.is_dataclass(node):
                entries = getattr(node, "entries", "")  # a table that stands for a vector, as one over knots does
                if entries:
                    yield from _match(getattr(node, entries), [], (*path, entries))
                return  # another table is no number: name one of its keys
            yield below
        return
    part, rest = parts[0], parts[1:]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        for name in scene_fields(type(node)):
            if fnmatch.fnmatchcase(name, part) if "*" in part else name == part:
                yield from _match(getattr(node, name), rest, (*path, name))
    elif isinstance(node, Mapping):
        for name, item in node.items():
            if part == "*" or str(name) == part:
                yield from _match(item, rest, (*path, str(name)))
    elif isinstance(node, tuple | list):
        for index, item in enumerate(node):
            if part in ("*", str(index)) or part == getattr(item, "name", None):
                yield from _match(item, rest, (*path, str(index)))


def _with_names(tree: Any) -> list[str]:
    """Keys with the names of elements in place of their indices, for messages."""
    return [named(tree, key) for key in numbers(tree)]


def named(tree: Any, key: str) -> str:
    """A key with the name of each element in place of its index, as people write it."""
    node: Any = tree
    out: list[str] = []
    for part in parts_of(key):
        if isinstance(node, tuple | list):
            node = node[int(part)]
            own = getattr(node, "name", None)
            out.append(own if isinstance(own, str) and own else part)
        else:
            node = node[part] if isinstance(node, Mapping) else getattr(node, part)
            out.append(part)
    return joined(out)


def value_at(tree: Any, key: str) -> Any:
    """What stands at a key (indices, not names)."""
    node = tree
    for part in parts_of(key):
        if isinstance(node, tuple | list):
            node = node[int(part)]
        else:
            node = node[part] if isinstance(node, Mapping) else getattr(node, part)
    return node


def replaced(tree: T, values: Values) -> T:
    """The tree with these numbers in place of its own, keys as `numbers` gives them.

    Floats are checked as from a file; tensors pass, and then no check of their class sees them.

    Raises:
        SceneError: A float is out of range, a class refuses it, or a list or table has no such element.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = parts_of(key)
        node = nested
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return typing.cast("T", _put(tree, nested, ()))


def _put(node: Any, changes: Mapping[str, Any], path: tuple[str, ...], about: Number | None = None) -> Any:
    if not isinstance(changes, Mapping):
        if isinstance(changes, float) and about is not None and (message := about.range.check(changes)):
            raise SceneError(f"{joined(path)}: {message}, got {changes!r}")
        return changes
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        new = {
            name: _put(getattr(node, name), change, (*path, name), declared(type(node), name))
            for name, change in changes.items()
        }
        if any(_holds_tensor(value) for value in new.values()):
            copy = object.__new__(type(node))
            for field in dataclasses.fields(node):
                object.__setattr__(copy, field.name, new.get(field.name, getattr(node, field.name)))
            return copy
        try:
            return dataclasses.replace(node, **new)
        except ValueError as error:
            raise error if isinstance(error, SceneError) else SceneError(f"{joined(path)}: {error}") from error
    if isinstance(node, Mapping):
        _there(changes, map(str, node), path)
        return {
            name: _put(v, changes[name], (*path, name), about) if name in changes else v for name, v in node.items()
        }
    if isinstance(node, tuple | list):
        _there(changes, map(str, range(len(node))), path)
        return tuple(
            _put(item, changes[str(i)], (*path, str(i)), about) if str(i) in changes else item
            for i, item in enumerate(node)
        )
    raise SceneError(f"{joined(path)}: {shown(node)} holds no numbers")


def _there(changes: Mapping[str, Any], known: typing.Iterable[str], path: tuple[str, ...]) -> None:
    """Refuses a change of what is not there, which would do nothing: an element's name where its index belongs."""
    for name in changes.keys() - set(known):
        raise SceneError(f"{joined((*path, name))}: nothing is there; `resolve` finds the keys behind a name")


def _holds_tensor(value: Any) -> bool:
    return any(not isinstance(number.value, float) for _, number in _walk(value, ()))


def tensors_in(tree: Any) -> "dict[str, torch.Tensor]":
    """The numbers of a tree that are tensors, by key."""
    return {key: number.value for key, number in numbers(tree).items() if not isinstance(number.value, float)}


def floats_in(tree: T) -> T:
    """The tree with floats in place of its tensors, the mean of a field."""
    held = tensors_in(tree)
    return replaced(tree, {key: float(value.detach().mean()) for key, value in held.items()}) if held else tree
