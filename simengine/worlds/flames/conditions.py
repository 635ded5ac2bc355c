"""The conditions of experiments: the rows of a table, and the world under each of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.scene.address import numbers, replaced
from simengine.scene.asks import Ask, Table
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest
from simengine.worlds.flames.ends import is_end

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

Row = tuple[tuple[str, float], ...]  # conditions of an experiment; () for the world as it stands


def rows_of(ask: Ask) -> list[Row]:
    """The conditions of an ask, in its order."""
    if not isinstance(ask, Table):
        return [()]
    names = sorted(ask.conditions)
    columns = [ask.conditions[name].tolist() for name in names]
    return [tuple(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def ends_of(ask: Ask) -> tuple[str, ...]:
    """The turning points that an ask wants, by name."""
    return tuple(name for name in ask.names if is_end(name)) if isinstance(ask, Table) else ()


def under(world: "FlameWorld", row: Row) -> "FlameWorld":
    """The world under the conditions of an experiment; `T_in` is short for `flame.T_in`, `residence` for the reactor's.

    Raises:
        SceneError: A condition is no number of the world, or out of its range.
    """
    if not row:
        return world
    plain: dict[str, float] = {}
    mixtures: dict[str, dict[str, float]] = {}
    known = numbers(world)
    for name, value in row:
        first, _, species = name.removeprefix("flame.").partition(".")
        if first in ("composition", "fuel", "oxidiser", "agent") and species:
            mixtures.setdefault(first, {})[species] = value
            continue
        key = next((k for k in (f"flame.{name}", f"reactor.{name}", name) if k in known), None)
        if key is None:
            own = [k.removeprefix("flame.") for k in known if k.startswith("flame.")]
            raise SceneError(f"conditions: {name!r} is no number of this flame; {nearest(name, own)}")
        plain[key] = value
    if mixtures:
        if any(not hasattr(world.flame, name) for name in mixtures):
            raise SceneError("conditions: is no number of this flame, which has no species; choose flame.type = 'free'")
        assert world.gas is not None  # of a flame with species
        known_species = world.gas.gas.mechanism.species
        told: dict[str, Any] = {k: {spelt(s, known_species): n for s, n in m.items() if n} for k, m in mixtures.items()}
        spec = dataclasses.replace(world.flame, **told)
        copy = object.__new__(type(world))  # the rest of the world may hold tensors
        for field in dataclasses.fields(world):
            object.__setattr__(copy, field.name, spec if field.name == "flame" else getattr(world, field.name))
        world = copy
    return replaced(world, plain) if plain else world


def spelt(species: str, known: Sequence[str]) -> str:
    """A species as the mechanism spells it, `AR` for `Ar`, where that is one of it in other letters; else as it is."""
    alike = [name for name in known if name.lower() == species.lower()]
    return species if species in known or len(alike) != 1 else alike[0]


def packed(row: Row) -> dict[str, torch.Tensor]:
    """Conditions as tensors, for a checkpoint."""
    values = torch.tensor([value for _, value in row], dtype=torch.float64)
    return {"names": as_bytes("\n".join(name for name, _ in row)), "values": values}


def unpacked(state: Mapping[str, torch.Tensor]) -> Row:
    """The conditions that `packed` was given."""
    return tuple(zip(text(state["names"]).splitlines(), state["values"].tolist(), strict=True))


def as_bytes(words: str) -> torch.Tensor:
    """Words as a tensor of bytes."""
    return torch.tensor(list(words.encode()), dtype=torch.uint8)


def text(state: torch.Tensor) -> str:
    """The words of a tensor of bytes."""
    return bytes(state.tolist()).decode()
