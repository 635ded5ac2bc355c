"""Columns of a Jacobian from derivatives that a run knows without being solved again."""

from collections.abc import Callable, Mapping, Sequence

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun

STEP = 1e-6  # of the difference through the instrument; the answers themselves are linear in it


class Shifted(AbstractRun):
    """A run whose answers are moved to first order."""

    def __init__(self, moved: Callable[[Ask], torch.Tensor]) -> None:
        self.moved = moved

    def sample(self, ask: Ask) -> torch.Tensor:
        """The answer, moved."""
        return self.moved(ask)


class AnswerDerivatives:
    """The answers of one run and their derivatives in some numbers of its world, each ask once.

    Args:
        run: The run.
        keys: The numbers.
    """

    def __init__(self, run: AbstractRun, keys: Sequence[str]) -> None:
        self.run: AbstractRun = run
        self.keys: list[str] = list(keys)
        self._known: list[tuple[Ask, torch.Tensor, torch.Tensor]] = []

    def of(self, ask: Ask) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The answer, and its derivatives (..., p); None where the run knows none."""
        for known, answer, derivative in self._known:
            if known is ask or _same(known, ask):
                return answer, derivative
        slopes = self.run.derivatives(ask, self.keys)
        if slopes is None:
            return None
        self._known.append((ask, self.run.sample(ask), slopes))
        return self._known[-1][1:]

    def moved(self, rates: Mapping[str, float], step: float) -> Shifted:
        """The run after `step` with these rates of the numbers."""
        direction = torch.tensor([rates.get(key, 0.0) for key in self.keys], dtype=torch.float64)

        def shift(ask: Ask) -> torch.Tensor:
            found = self.of(ask)
            assert found is not None
            answer, derivative = found
            return answer + step * (derivative @ direction)

        return Shifted(shift)


def _same(one: Ask, other: Ask) -> bool:
    if type(one) is not type(other):
        return False
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, Mapping):
            if value.keys() != theirs.keys() or not all(torch.equal(value[k], theirs[k]) for k in value):
                return False
        elif not (torch.equal(value, theirs) if isinstance(value, torch.Tensor) else value == theirs):
            return False
    return True
