"""Columns of a Jacobian from derivatives that a run knows without being solved again."""

from collections.abc import Callable, Mapping, Sequence

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun

STEP = 1e-6  # of the difference through the instrument; the answers themselves are linear in it


class Shifted(AbstractRun):
    """A run whose answers are moved to first order."""

    def __init__(self, run: AbstractRun, moved: Callable[[Ask], torch.Tensor]) -> None:
        self.run: AbstractRun = run
        self.moved = moved

    def sample(self, ask: Ask) -> torch.Tensor:
        """The answer, moved."""
        return self.run.sample(ask) + self.moved(ask)


class Derivatives:
    """Derivatives of the answers of one run in some numbers of its world, each ask once.

    Args:
        run: The run.
        keys: The numbers.
    """

    def __init__(self, run: AbstractRun, keys: Sequence[str]) -> None:
        self.run: AbstractRun = run
        self.keys: list[str] = list(keys)
        self._known: list[tuple[Ask, torch.Tensor]] = []

    def of(self, ask: Ask) -> torch.Tensor | None:
        """(..., p); None where the run knows none."""
        for known, derivative in self._known:
            if known is ask or _same(known, ask):
                return derivative
        found = self.run.derivatives(ask, self.keys)
        if found is not None:
            self._known.append((ask, found))
        return found

    def moved(self, rates: Mapping[str, float], step: float) -> Shifted:
        """The run after `step` with these rates of the numbers."""
        direction = torch.tensor([rates.get(key, 0.0) for key in self.keys], dtype=torch.float64)

        def shift(ask: Ask) -> torch.Tensor:
            found = self.of(ask)
            assert found is not None
            return step * (found @ direction)

        return Shifted(self.run, shift)


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
