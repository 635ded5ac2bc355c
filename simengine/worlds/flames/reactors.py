"""Reactors of a table: what the fresh gas of a row does where no flame is, in a closed vessel or a stirred one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.reactor import ClosedReactor, Ignition, Stirred, StirredReactor, ignite_all, stir
from simengine.flame.reactor.ignition import alike
from simengine.scene.address import replaced
from simengine.scene.strict import Positive, Range

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

RTOL = 1e-5  # of a step: delays err by 2e-8 to 3e-6, in 0.6 of the time that 1e-6 takes
DELAY = "ignition_delay"
WITHIN = "stirred_"
Vessel = Literal["closed", "stirred"]
Found = Ignition | Stirred


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reactor:
    """The vessels without a flame: a closed one in which a gas ignites, and a stirred one through which it flows.

    Attributes:
        hold: What stays as it is in the closed one: the volume, as behind a reflected shock, or the pressure.
        rise: Ignited is what is hotter than at first by so much; None for the steepest rise of the temperature [K].
        longest: Time that is waited for an ignition [s].
        residence: Mass in the stirred one, at constant pressure, over the mass flux [s].
    """

    hold: Literal["volume", "pressure"] = "volume"
    rise: Annotated[float, Range(gt=0, lt=3000)] | None = None
    longest: Positive = 10.0
    residence: Positive = 1e-3


def vessel_of(name: str) -> Vessel | None:
    """The vessel that a scalar of a table is read in; None for one of a flame."""
    return "closed" if name == DELAY else "stirred" if name.startswith(WITHIN) else None


def by_vessel(names: Sequence[str]) -> dict[Vessel, list[int]]:
    """Which of the scalars are read in each vessel."""
    found: dict[Vessel, list[int]] = {}
    for k, name in enumerate(names):
        if (vessel := vessel_of(name)) is not None:
            found.setdefault(vessel, []).append(k)
    return found


def holds_gas(flame: AbstractFlame) -> bool:
    """Whether there is one fresh gas, and its reactions are those of a real gas."""
    return isinstance(flame, AbstractDetailedFlame) and not isinstance(flame, DiffusionFlame)


def scalars_within(flame: AbstractFlame) -> dict[str, str]:
    """Every scalar of the vessels with the fresh gas of a flame in them, and its unit."""
    if not holds_gas(flame):
        return {}
    assert isinstance(flame, AbstractDetailedFlame)
    fractions = [f"{WITHIN}{part}_{name}" for part in ("X", "Y") for name in flame.gas.mechanism.species]
    return {DELAY: "s", f"{WITHIN}T": "K", **dict.fromkeys(fractions, "1")}


def react(vessel: Vessel, flame: AbstractFlame, spec: Reactor) -> Found:
    """What becomes of the fresh gas of a flame.

    Raises:
        SolveError: It does not ignite, or does not burn at this residence time.
    """
    if vessel == "stirred":
        return stir(_stirred(flame, spec))
    (found,) = ignitions([(flame, spec)])
    if isinstance(found, Exception):
        raise found
    return found


def ignitions(fresh: Sequence[tuple[AbstractFlame, Reactor]]) -> list[Ignition | Exception]:
    """What becomes of the fresh gas of each flame in its closed vessel; those of one gas are evaluated at once."""
    closed: dict[int, ClosedReactor] = {}
    found: dict[int, Ignition | Exception] = {}
    for k, (flame, spec) in enumerate(fresh):
        try:
            closed[k] = _closed(flame, spec)
        except ValueError as error:
            found[k] = error
    while left := [k for k in closed if k not in found]:
        first, spec = closed[left[0]], fresh[left[0]][1]
        group = [k for k in left if fresh[k][1] == spec and alike(first, closed[k])]
        lit = ignite_all([closed[k] for k in group], rise=spec.rise, longest=spec.longest, rtol=RTOL)
        found.update(zip(group, lit, strict=True))
    return [found[k] for k in range(len(fresh))]


def read(found: Found, flame: AbstractFlame, spec: Reactor, names: Sequence[str]) -> torch.Tensor:
    """Scalars of a vessel (names,), with gradients in numbers of a flame and vessel as it was found for."""
    if isinstance(found, Ignition):
        return found.of(_closed(flame, spec)).expand(len(names))
    T, Y = found.of(_stirred(flame, spec))
    gas: Gas = found.reactor.gas
    X, species, values = gas.mole_fractions(Y), gas.mechanism.species, []
    for name in names:
        part, _, one = name.removeprefix(WITHIN).partition("_")
        if not one:
            values.append(T)
        elif one in species:
            values.append((X if part == "X" else Y)[species.index(one)])
        else:  # no reaction makes it from what is fed
            values.append(torch.zeros_like(T))
    return torch.stack(values)


def slopes_within(
    world: "FlameWorld",
    fresh: "Callable[[FlameWorld], tuple[AbstractFlame, Reactor]]",
    found: Found,
    names: Sequence[str],
    keys: Sequence[str],
    theta: torch.Tensor,
) -> torch.Tensor:
    """Derivatives of scalars of a vessel in numbers of the world, (names, p), each by one pass backwards.

    Args:
        world: Whose numbers.
        fresh: The world -> the flame whose fresh gas it is, and the vessels.
        found: What became of it.
        names: The scalars.
        keys: Numbers of the world.
        theta: Their values.
    """
    with torch.enable_grad():
        leaf = theta.clone().requires_grad_()
        values = read(found, *fresh(replaced(world, dict(zip(keys, leaf, strict=True)))), names)
        if not values.requires_grad:
            return theta.new_zeros(len(names), len(theta))
        return torch.stack(
            [
                torch.autograd.grad(value, leaf, retain_graph=True, materialize_grads=True)[0]
                if value.requires_grad
                else torch.zeros_like(theta)
                for value in values
            ]
        )


def _fresh(flame: AbstractFlame) -> tuple[AbstractDetailedFlame, torch.Tensor, torch.Tensor]:
    """The flame, T and p of its fresh gas."""
    assert isinstance(flame, AbstractDetailedFlame)
    return flame, flame.T_in.reshape(-1)[0], flame.p.reshape(-1)[0]


def _closed(flame: AbstractFlame, spec: Reactor) -> ClosedReactor:
    own, T, p = _fresh(flame)
    return ClosedReactor(gas=own.gas, T=T, p=p, Y=own.Y_in[0], hold=spec.hold, rates=own.rates)


def _stirred(flame: AbstractFlame, spec: Reactor) -> StirredReactor:
    own, T, p = _fresh(flame)
    residence = torch.as_tensor(spec.residence, dtype=torch.float64)
    return StirredReactor(gas=own.gas, T_in=T, p=p, Y_in=own.Y_in[0], residence=residence, rates=own.rates)
