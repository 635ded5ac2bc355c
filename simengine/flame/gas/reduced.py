"""The part of a mechanism that a mixture can reach.

What no reaction can make from what is fed has no concentration anywhere, so leaving it out changes no rate and no flux:
the same gas, at fewer unknowns.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import torch

from simengine.flame.gas.mechanism import Mechanism

Table = TypeVar("Table")


def reachable(mechanism: Mechanism, fed: Iterable[str]) -> tuple[int, ...]:
    """Numbers of the species that reactions can make from those fed, and of these, rising.

    Args:
        mechanism: The species and reactions.
        fed: Names of the species of all streams.

    Raises:
        MechanismError: One of them is not in the mechanism.
    """
    r = mechanism.reactions
    needed, made = (side > 0 for side in (r.reactants, r.products))
    present = torch.zeros(len(mechanism.species), dtype=torch.bool)
    present[[mechanism.index(name) for name in fed]] = True
    while True:
        forward = ~(needed & ~present).any(1)
        backward = ~(made & ~present).any(1) & r.reversible
        grown = present | (made & forward[:, None]).any(0) | (needed & backward[:, None]).any(0)
        if torch.equal(grown, present):
            return tuple(present.nonzero()[:, 0].tolist())
        present = grown


def part_of(mechanism: Mechanism, kept: tuple[int, ...]) -> tuple[Mechanism, torch.Tensor]:
    """The mechanism of some of its species, and the numbers of the reactions among them.

    Args:
        mechanism: The whole.
        kept: Numbers of species, rising.
    """
    species = torch.tensor(kept)
    gone = torch.ones(len(mechanism.species), dtype=torch.bool)
    gone[species] = False
    r = mechanism.reactions
    which = (~((r.reactants > 0) | (r.products > 0))[:, gone].any(1)).nonzero()[:, 0]
    changed: dict[str, Any] = {"equations": tuple(r.equations[k] for k in which.tolist())}
    for field in dataclasses.fields(r):
        value = getattr(r, field.name)
        if isinstance(value, torch.Tensor):
            changed[field.name] = value[which]
    for name in ("reactants", "products", "orders", "efficiencies"):
        changed[name] = changed[name][:, species]
    changed["pressures"], changed["chebyshev"] = _rows(r.pressures, which), _rows(r.chebyshev, which)
    part = dataclasses.replace(
        mechanism,
        species=tuple(mechanism.species[k] for k in kept),
        composition=mechanism.composition[species],
        W=mechanism.W[species],
        nasa=mechanism.nasa[species],
        breaks=mechanism.breaks[species],
        transport=tuple(mechanism.transport[k] for k in kept),
        reactions=dataclasses.replace(r, **changed),
    )
    return part, which


def _rows(table: Table | None, which: torch.Tensor) -> Table | None:
    """Rows of a table over pressure that belong to the reactions that are left; None where none is."""
    if table is None:
        return None
    number = {old: new for new, old in enumerate(which.tolist())}
    own: list[int] = table.which.tolist()  # type: ignore[attr-defined]
    rows = [k for k, reaction in enumerate(own) if reaction in number]
    if not rows:
        return None
    fields = {f.name: getattr(table, f.name)[rows] for f in dataclasses.fields(table)}  # type: ignore[arg-type]
    fields["which"] = torch.tensor([number[own[k]] for k in rows])
    return dataclasses.replace(table, **fields)  # type: ignore[type-var]
