"""Many steps of a solver, and how their gradient is had: the gradient method is an argument, never the solver's."""

import abc
import dataclasses
import math
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from simengine.notebook import described, dots, heading


class AbstractAdjoint(abc.ABC):
    """How the gradient of a rollout is computed."""

    @abc.abstractmethod
    def stretch(self, num_steps: int) -> int:
        """Steps of which every intermediate state is held at a time."""


@dataclasses.dataclass(frozen=True)
class DirectAdjoint(AbstractAdjoint):
    """Hold every step: the fastest, with memory in proportion to the number of steps."""

    def stretch(self, num_steps: int) -> int:
        """All steps."""
        return max(num_steps, 1)


@dataclasses.dataclass(frozen=True)
class CheckpointAdjoint(AbstractAdjoint):
    """Hold one state in `every` and run the steps between twice: memory as num_steps / every + every.

    Attributes:
        every: Steps between held states; None for the square root of their number, the least memory.
    """

    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")

    def stretch(self, num_steps: int) -> int:
        """`every`, or the square root of the number of steps."""
        return self.every or max(1, math.isqrt(max(num_steps - 1, 0)) + 1)


class AbstractSolver(abc.ABC):
    """What can be rolled out: a pure step from a frozen dataclass of tensors to the next."""

    @abc.abstractmethod
    def step(self, state: Any, number: int = 0) -> Any:
        """The state after step `number`."""

    def run(self, state: Any, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint) -> Any | None:
        """The stacked states after the given numbers of steps in one go, or None where the solver has no such way."""
        return None


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """States along a rollout.

    Attributes:
        steps: Numbers of the saved steps, the first one the start.
        states: The saved states in one, each tensor with a leading dimension of `len(steps)`.
    """

    steps: tuple[int, ...]
    states: Any

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self.states)]
        told = ", ".join(f"{name} {described(getattr(self.states, name))}" for name in names[:3])
        kind = type(self.states).__name__
        return f"Trajectory({len(self)} of {kind}, steps {self.steps[0]} to {self.steps[-1]}, {told})"

    def _repr_html_(self) -> str:
        x = getattr(self.states, "x", None)
        if not isinstance(x, torch.Tensor) or x.ndim != 3 or x.shape[-1] < 2:
            return heading(repr(self))
        chosen = sorted({0, len(self) // 2, len(self) - 1})
        views = [(x[k, :, 0], x[k, :, 1]) for k in chosen]
        return heading(repr(self)) + dots(views, [f"step {self.steps[k]}" for k in chosen])

    def __getitem__(self, index: int) -> Any:
        """The saved state `index`; negative ones count from the end."""
        fields = dataclasses.fields(self.states)
        return type(self.states)(*(getattr(self.states, field.name)[index] for field in fields))


def saved_steps(num_steps: int, save_every: int) -> tuple[int, ...]:
    """Every `save_every`-th step from 0, and the last."""
    steps = list(range(0, num_steps + 1, save_every))
    return tuple(steps if steps[-1] == num_steps else [*steps, num_steps])


def rollout(
    solver: AbstractSolver,
    state: Any,
    num_steps: int,
    *,
    save_every: int = 1,
    adjoint: AbstractAdjoint | None = None,
    first_step: int = 0,
) -> Trajectory:
    """Run `num_steps` steps; differentiable in the state and in the solver's parameters.

    Args:
        solver: What steps.
        state: The start, a frozen dataclass of tensors.
        num_steps: Number of steps.
        save_every: Save every so many steps, the start and the last step always.
        adjoint: How the gradient is had; None for `DirectAdjoint()`. Without a gradient to compute it costs nothing.
        first_step: Number of the first step, where a rollout goes on from another.

    Raises:
        ValueError: `num_steps` is negative or `save_every` not positive.
        SimulationError: A state became invalid; the message names field, step and particle.
    """
    if num_steps < 0 or save_every < 1:
        raise ValueError(f"num_steps must be >= 0 and save_every >= 1, got {num_steps} and {save_every}")
    adjoint = adjoint or DirectAdjoint()
    saved = saved_steps(num_steps, save_every)
    numbers = tuple(first_step + k for k in saved)
    states = solver.run(state, first_step, saved, adjoint)
    if states is None:
        states = by_steps(solver, state, first_step, saved, adjoint)
    return Trajectory(numbers, states)


def by_steps(solver: AbstractSolver, state: Any, first: int, saved: tuple[int, ...], adjoint: AbstractAdjoint) -> Any:
    """The stacked states after the steps `saved`, each by `solver.step`, with the numbers from `first` on."""
    kind = type(state)
    names = [field.name for field in dataclasses.fields(state)]
    tensors = tuple(getattr(state, name) for name in names)
    num_steps = saved[-1]
    wanted = frozenset(saved)
    length = adjoint.stretch(num_steps) if torch.is_grad_enabled() else max(num_steps, 1)
    kept = [tensors]

    def segment(start: int, stop: int, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All saved states after `start` up to `stop`, flat, then the last state."""
        now, out = kind(*inputs), []
        for k in range(start, stop):
            now = solver.step(now, first + k)
            if k + 1 in wanted:
                out += [getattr(now, name) for name in names]
        return (*out, *(getattr(now, name) for name in names))

    for start in range(0, num_steps, length):
        stop = min(start + length, num_steps)
        if length < num_steps:
            flat = checkpoint(segment, start, stop, *tensors, use_reentrant=False, preserve_rng_state=False)
        else:
            flat = segment(start, stop, *tensors)
        tensors = flat[-len(names) :]
        kept += [tuple(flat[k : k + len(names)]) for k in range(0, len(flat) - len(names), len(names))]
    return kind(*(torch.stack([row[column] for row in kept]) for column in range(len(names))))
