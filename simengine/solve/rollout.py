"""Rollouts of a state in time, and the choice of how their gradient is computed."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

State = TypeVar("State")  # a frozen dataclass of tensors


class SteppingSolver(Protocol[State]):
    """What a rollout needs of a solver."""

    def advance(self, state: State, num_steps: int, *, first_step: int = 0) -> State:
        """The state `num_steps` later; pure and differentiable."""
        ...


class AbstractAdjoint(abc.ABC):
    """How the gradient of a rollout is computed."""

    @abc.abstractmethod
    def advance(self, solver: SteppingSolver[State], state: State, num_steps: int, *, first_step: int) -> State:
        """`solver.advance` with this adjoint's memory."""


@dataclasses.dataclass(frozen=True)
class DirectAdjoint(AbstractAdjoint):
    """Keeps what every step needs for its backward: fastest, memory linear in the number of steps."""

    def advance(self, solver: SteppingSolver[State], state: State, num_steps: int, *, first_step: int) -> State:
        """All steps in one go."""
        return solver.advance(state, num_steps, first_step=first_step)


@dataclasses.dataclass(frozen=True)
class CheckpointAdjoint(AbstractAdjoint):
    """Keeps every k-th state and computes the steps between again in the backward pass.

    Memory is that of num_steps/k states and k steps, least at k = sqrt(num_steps); the cost is one more forward.

    Attributes:
        every: k; None for the square root of the number of steps.
    """

    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every={self.every}: expected at least 1, or None")

    def advance(self, solver: SteppingSolver[State], state: State, num_steps: int, *, first_step: int) -> State:
        """Steps in stretches of k."""
        every = self.every or max(1, math.isqrt(num_steps))
        kind: Any = type(state)
        for start in range(0, num_steps, every):
            count = min(every, num_steps - start)

            def stretch(*tensors: torch.Tensor, count: int = count, start: int = start) -> tuple[torch.Tensor, ...]:
                return _tensors(solver.advance(kind(*tensors), count, first_step=first_step + start))

            if torch.is_grad_enabled():
                state = kind(*checkpoint(stretch, *_tensors(state), use_reentrant=False, preserve_rng_state=False))
            else:
                state = kind(*stretch(*_tensors(state)))
        return state


@dataclasses.dataclass(frozen=True)
class Trajectory(Generic[State]):
    """States of a rollout.

    Attributes:
        steps: Number of the step of each saved state, the start (0) first.
        states: A state whose tensors have a leading axis of len(steps).
    """

    steps: tuple[int, ...]
    states: State

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> State:
        kind: Any = type(self.states)
        return kind(*(tensor[index] for tensor in _tensors(self.states)))

    def __iter__(self) -> Iterator[State]:
        return (self[k] for k in range(len(self)))


def rollout(
    solver: SteppingSolver[State],
    state: State,
    num_steps: int,
    *,
    save_every: int = 1,
    adjoint: AbstractAdjoint | None = None,
    on_save: Callable[[int, State], None] | None = None,
) -> Trajectory[State]:
    """Advance a state and save it at regular steps.

    Args:
        solver: Advances states.
        state: Start, a frozen dataclass of tensors; saved as step 0.
        num_steps: Steps in all, a multiple of `save_every`.
        save_every: Steps between saved states.
        adjoint: How a gradient is computed; None for `CheckpointAdjoint()` over the whole rollout.
        on_save: Called with the number of the step and the state at each save, to check, log or show it.

    Raises:
        ValueError: `num_steps` is no multiple of `save_every`.
    """
    if save_every < 1 or num_steps < 0 or num_steps % save_every:
        raise ValueError(f"num_steps={num_steps}: expected a non-negative multiple of save_every={save_every}")
    adjoint = adjoint or CheckpointAdjoint(every=max(1, min(save_every, math.isqrt(max(num_steps, 1)))))
    states = [state]
    for step in range(0, num_steps, save_every):
        state = adjoint.advance(solver, state, save_every, first_step=step)
        if on_save is not None:
            on_save(step + save_every, state)
        states.append(state)
    kind: Any = type(state)
    stacked = kind(*(torch.stack(column) for column in zip(*map(_tensors, states), strict=True)))
    return Trajectory(tuple(range(0, num_steps + 1, save_every)), stacked)


def _tensors(state: Any) -> tuple[torch.Tensor, ...]:
    return tuple(getattr(state, field.name) for field in dataclasses.fields(state))
