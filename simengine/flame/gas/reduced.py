"""The part of a mechanism that a mixture can reach.

What no reaction can make from what is fed has no concentration anywhere, so leaving it out changes no rate and no flux:
the same gas, at fewer unknowns.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from simengine.flame.gas.mechanism import Mechanism
from simengine.ops.fields.pressure_rates import rows_of


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
    changed["pressures"], changed["chebyshev"] = rows_of(r.pressures, which), rows_of(r.chebyshev, which)
    changed["barriers"] = rows_of(r.barriers, which)
    changed["mixtures"] = None if r.mixtures is None else r.mixtures.part(which, species)
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
