"""Where a flame goes out, or streams light: `extinction(KEY)`, `ignition(KEY)`, the condition at the turning point."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.solver.lighting import ignition
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver
from simengine.flame.solver.turning import TurningPoint, extinction, turning_near
from simengine.scene.address import numbers, replaced
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

_NAME = re.compile(r"(extinction|ignition)\((.+)\)")
Under = Callable[["FlameWorld"], "FlameWorld"]  # the world under the conditions of a row


def is_end(name: str) -> bool:
    """Whether an answer is `extinction(KEY)` or `ignition(KEY)`."""
    return _NAME.fullmatch(name) is not None


def burns_not(name: str) -> bool:
    """Whether an answer is of streams that mix without burning, and needs no flame."""
    return is_end(name) and name.startswith("ignition")


def key_of(world: "FlameWorld", name: str) -> str:
    """The number of the world that moves in `extinction(strain)`: `strain` is short for `flame.strain`.

    Raises:
        SceneError: There is none, the flame cannot go out or light in this way, or it is not solved on a grid.
    """
    found = _NAME.fullmatch(name)
    assert found is not None
    condition = found[2]
    known = numbers(world)
    key = next((k for k in (f"flame.{condition}", condition) if k in known), None)
    if key is None:
        own = [k.removeprefix("flame.") for k in known if k.startswith("flame.")]
        raise SceneError(f"{name}: {condition!r} is no number of this flame; {nearest(condition, own)}")
    flame, on_grid = world.build(), isinstance(world.solver(), GridSolver)
    if burns_not(name) and not (isinstance(flame, CounterflowFlame) and on_grid):
        raise SceneError(f"{name}: only the two streams of counterflow and diffusion flames on a [grid] ignite")
    if not flame.folds or not on_grid:
        raise SceneError(f"{name}: only counterflow and diffusion flames on a [grid] are put out")
    return key


def end_of(
    world: "FlameWorld", under: Under, name: str, burning: FlameSolution | None, before: TurningPoint | None
) -> TurningPoint:
    """The turning point, from that of a world before where there is one, else along a path.

    Args:
        world: Whose streams.
        under: The world under the conditions of a row.
        name: `extinction(KEY)` or `ignition(KEY)`.
        burning: The flame that goes out; None where nothing burns yet.
        before: The turning point of a world of about the same numbers.

    Raises:
        SolveError: The path does not turn.
    """
    key, solver = key_of(world, name), world.solver()
    assert isinstance(solver, GridSolver)

    def family(mu: torch.Tensor) -> AbstractFlame:
        return replaced(under(world), {key: mu}).reduced()

    found = None if before is None else turning_near(before, family, solver)
    if found is not None:
        return found
    value = float(numbers(under(world))[key].value)
    if burns_not(name):
        return ignition(family, value, solver)
    assert burning is not None
    return extinction(burning, family, value, solver)


def slope_of(
    world: "FlameWorld", under: Under, name: str, end: TurningPoint, keys: Sequence[str], theta: torch.Tensor
) -> torch.Tensor:
    """Derivatives of the turning point in numbers of the world, (p,)."""
    key = key_of(world, name)

    def family(mu: torch.Tensor, own: torch.Tensor) -> AbstractFlame:
        values = {name: value for name, value in zip(keys, own, strict=True) if name != key}
        return replaced(under(replaced(world, values)), {key: mu}).reduced()

    return end.derivative(family, theta)
