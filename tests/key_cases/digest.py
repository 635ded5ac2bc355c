"""Everything that a result holds: as a hash, and as numbers by where they stand."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.io.run_directory import RunDirectory
from simengine.scene.grammar import Scene
from simengine.scene.kinds import KINDS, learned_classes
from simengine.scene.strict import OneOf, hints, scene_fields

TIMES = {"seconds", "particle_steps_per_second", "seconds_per_step", "time"}


def _schema() -> dict[type, set[str]]:
    """The keys of every table that a scene file can hold, by class."""
    found: dict[type, set[str]] = {}

    def walk(hint: Any) -> None:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if hint not in found:
                found[hint] = {n for n in scene_fields(hint) if n != "type"}
                for name in scene_fields(hint):
                    walk(hints(hint)[name])
            return
        for argument in typing.get_args(hint):
            walk(argument)
        for mark in getattr(hint, "__metadata__", ()):
            for cls in mark.classes().values() if isinstance(mark, OneOf) else ():
                walk(cls)

    for table in ("model", "objective"):
        for cls in learned_classes(table).values():
            walk(cls)
    for target in KINDS.values():
        module, name = target.split(":")
        walk(getattr(importlib.import_module(module), name))
    return found


SCHEMA = _schema()
SPECS = tuple(SCHEMA)


class Digest(str):
    """A hash of everything that values hold, and the numbers among it by where they stand."""

    held: dict[str, np.ndarray]


def digest(*values: Any) -> Digest:
    """Everything that values hold, specs left out."""
    total, held = hashlib.sha256(), dict[str, np.ndarray]()
    seen: dict[int, Any] = {}  # by address, and kept: that of something gone would be given to another

    def walk(value: Any, place: str) -> None:
        if isinstance(value, (*SPECS, RunDirectory, Scene)):
            return
        if isinstance(value, torch.Generator):
            value = value.get_state()
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = (value.to_dense() if value.layout != torch.strided else value).numpy()
        if isinstance(value, np.ndarray) and value.dtype != object:
            total.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
            held[place] = value
        elif value is None or isinstance(value, bool | int | float | complex | str | bytes | Path):
            total.update(repr(value).encode())
            if isinstance(value, bool | int | float):
                held[place] = np.asarray(value)
        elif id(value) in seen:
            total.update(b"again")
        else:
            seen[id(value)] = value
            total.update(type(value).__qualname__.encode())
            if isinstance(value, Mapping):
                for key, item in value.items():
                    if key not in TIMES:
                        total.update(str(key).encode())
                        walk(item, f"{place}.{key}")
            elif isinstance(value, list | tuple | set | frozenset):
                for position, item in enumerate(value):
                    walk(item, f"{place}.{position}")
            elif isinstance(value, functools.partial):
                walk([value.func, value.args, value.keywords], place)
            elif isinstance(value, types.FunctionType):
                walk([value.__qualname__, value.__defaults__, value.__kwdefaults__], place)
                for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                    with contextlib.suppress(ValueError):  # not set yet
                        walk(cell.cell_contents, f"{place}.{name}")
            elif isinstance(value, types.MethodType):
                walk(value.__self__, place)
            elif type(value).__module__.startswith(("simengine", "torch.optim", "torch.nn")):
                walk(vars(value) if hasattr(value, "__dict__") else [], place)

    for position, value in enumerate(values):
        walk(value, str(position))
    found = Digest(total.hexdigest())
    found.held = held
    return found
