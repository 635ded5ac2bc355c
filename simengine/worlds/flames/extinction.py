"""Where a flame goes out: `extinction(KEY)`, the value of a condition at the turning point of the burning flames."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver
from simengine.flame.solver.turning import TurningPoint, extinction, extinction_near
from simengine.scene.address import numbers, replaced
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

_NAME = re.compile(r"extinction\((.+)\)")
Under = Callable[["FlameWorld"], "FlameWorld"]  # the world under the conditions of a row


def condition_of(name: str) -> str | None:
    """The condition of an answer `extinction(KEY)`; None of any other name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def key_of(world: "FlameWorld", condition: str) -> str:
    """The number of the world that a condition names; `strain` is short for `flame.strain`.

    Raises:
        SceneError: There is none, the flame cannot go out in this way, or it is not solved on a grid.
    """
    known = numbers(world)
    key = next((k for k in (f"flame.{condition}", condition) if k in known), None)
    if key is None:
        own = [k.removeprefix("flame.") for k in known if k.startswith("flame.")]
        raise SceneError(
            f"extinction({condition}): {condition!r} is no number of this flame; {nearest(condition, own)}"
        )
    if not world.build().folds or not isinstance(world.solver(), GridSolver):
        raise SceneError(f"extinction({condition}): only counterflow and diffusion flames on a [grid] are put out")
    return key


def end_of(
    world: "FlameWorld", under: Under, condition: str, burning: FlameSolution, before: TurningPoint | None
) -> TurningPoint:
    """The turning point, from that of a flame before where there is one, else along the path from a burning flame.

    Raises:
        SolveError: The path does not turn.
    """
    key, solver = key_of(world, condition), world.solver()
    assert isinstance(solver, GridSolver)

    def family(mu: torch.Tensor) -> AbstractFlame:
        return replaced(under(world), {key: mu}).reduced()

    found = None if before is None else extinction_near(before, family, solver)
    if found is not None:
        return found
    return extinction(burning, family, float(numbers(under(world))[key].value), solver)


def slope_of(
    world: "FlameWorld", under: Under, condition: str, end: TurningPoint, keys: Sequence[str], theta: torch.Tensor
) -> torch.Tensor:
    """Derivatives of the turning point in numbers of the world, (p,)."""
    key = key_of(world, condition)

    def family(mu: torch.Tensor, own: torch.Tensor) -> AbstractFlame:
        values = {name: value for name, value in zip(keys, own, strict=True) if name != key}
        return replaced(under(replaced(world, values)), {key: mu}).reduced()

    return end.derivative(family, theta)
