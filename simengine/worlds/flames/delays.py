"""Ignition delays of a table: `ignition_delay` of the fresh gas under the conditions of a row, where no flame is."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.reactor import ClosedReactor, Ignition, ignite
from simengine.scene.address import replaced
from simengine.scene.strict import Positive, Range

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

DELAY = "ignition_delay"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reactor:
    """The closed vessel in which a gas ignites.

    Attributes:
        hold: What stays as it is: the volume, as behind a reflected shock, or the pressure.
        rise: Ignited is what is hotter than at first by so much; None for the steepest rise of the temperature [K].
        longest: Time that is waited for an ignition [s].
    """

    hold: Literal["volume", "pressure"] = "volume"
    rise: Annotated[float, Range(gt=0, lt=3000)] | None = None
    longest: Positive = 10.0


def ignites(flame: AbstractFlame) -> bool:
    """Whether there is one fresh gas, and its reactions are those of a real gas."""
    return isinstance(flame, AbstractDetailedFlame) and not isinstance(flame, DiffusionFlame)


def vessel(flame: AbstractFlame, spec: Reactor) -> ClosedReactor:
    """The closed vessel with the fresh gas of a flame in it."""
    assert isinstance(flame, AbstractDetailedFlame)
    Y, T, p = flame.Y_in[0], flame.T_in.reshape(-1)[0], flame.p.reshape(-1)[0]
    return ClosedReactor(gas=flame.gas, T=T, p=p, Y=Y, hold=spec.hold, rates=flame.rates)


def ignition(flame: AbstractFlame, spec: Reactor) -> Ignition:
    """The ignition of the fresh gas of a flame.

    Raises:
        SolveError: It does not ignite.
    """
    return ignite(vessel(flame, spec), rise=spec.rise, longest=spec.longest)


def slope_of_delay(
    world: "FlameWorld",
    equations: "Callable[[FlameWorld], AbstractFlame]",
    found: Ignition,
    keys: Sequence[str],
    theta: torch.Tensor,
) -> torch.Tensor:
    """Derivatives of a delay in numbers of the world, (p,), by one pass backwards.

    Args:
        world: Whose numbers.
        equations: The world -> the flame whose fresh gas it is.
        found: Its ignition.
        keys: Numbers of the world.
        theta: Their values.
    """
    with torch.enable_grad():
        leaf = theta.clone().requires_grad_()
        flame = equations(replaced(world, dict(zip(keys, leaf, strict=True))))
        tau = found.of(vessel(flame, world.reactor))
        if not tau.requires_grad:
            return torch.zeros_like(theta)
        (slope,) = torch.autograd.grad(tau, leaf, allow_unused=True)
        return torch.zeros_like(theta) if slope is None else slope
