"""Solves of the worlds of a problem, kept by their numbers to the bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from simengine.scene.address import replaced
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError

Key = tuple[str, tuple[tuple[str, str], ...]]  # run, and its numbers by name to the bit
KEPT = 8  # runs kept for each world, beside those of the columns


def key_of(run: str, numbers: Mapping[str, float]) -> Key:
    """By what a run is kept."""
    return run, tuple(sorted((name, value.hex()) for name, value in numbers.items()))


class Runs:
    """Runs of worlds at any of their numbers.

    Args:
        worlds: Run -> its world as the scene has it.
        asks: Run -> what its observations ask of it, for the discretisation.

    Attributes:
        solves: How often a world was solved.
        kept: The last runs, oldest first: the next solve starts near the last one.
        folder: Where worlds keep what they have found of a run that is solved once; None where runs are many.
    """

    def __init__(self, worlds: Mapping[str, AbstractWorld], asks: Mapping[str, Sequence[Ask]]) -> None:
        self.worlds: dict[str, AbstractWorld] = dict(worlds)
        self.solves: int = 0
        self.kept: dict[Key, AbstractRun] = {}
        self.folder: Path | None = None
        self._asks = asks
        self._ahead: dict[Key, AbstractRun] = {}
        self._prepared: dict[str, AbstractWorld] = {}

    def prepared(self, run: str) -> AbstractWorld:
        """The world of a run, its discretisation frozen."""
        if run not in self._prepared:
            self._prepared[run] = self.worlds[run].prepare(self._asks[run])
        return self._prepared[run]

    def place(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Put fields that were found into the worlds, for predictions."""
        self._prepared = {run: replaced(self.prepared(run), fields) for run in self.worlds}
        self.kept.clear()

    def world(self, run: str, numbers: Mapping[str, float]) -> AbstractWorld:
        """The prepared world with these numbers."""
        return replaced(self.prepared(run), numbers) if numbers else self.prepared(run)

    def at(self, run: str, numbers: Mapping[str, float], asks: Sequence[Ask]) -> AbstractRun:
        """The run with these numbers; a kept one where it holds the asks.

        Raises:
            Refused: The world has no run with these numbers.
        """
        key = key_of(run, numbers)
        kept = self.kept.get(key) or self._ahead.get(key)
        if kept is not None and all(kept.holds(ask) for ask in asks):
            return kept
        try:
            world = self.world(run, numbers)
        except SceneError as error:
            raise Refused(str(error)) from None
        near = next((other for (name, *_), other in reversed(self.kept.items()) if name == run), None)
        with torch.no_grad():
            if self.folder is None:
                solved = world.solve(asks, near=near)
            else:
                solved = world.solve_kept(asks, self.folder / run, near=near)
        self.solves += 1
        self.kept.pop(key, None)
        self.kept[key] = solved
        while len(self.kept) > KEPT * max(len(self.worlds), 1):
            self.kept.pop(next(iter(self.kept)))
        return solved

    def solve_ahead(self, run: str, points: Sequence[Mapping[str, float]], asks: Sequence[Ask]) -> None:
        """Solve at several points at once, where the world can; what it refuses is left to be solved singly."""
        together = self.worlds[run].together
        if together < 2:
            return
        fresh = {key: p for p in points if (key := key_of(run, p)) not in self.kept and key not in self._ahead}
        queue = list(fresh.items())
        while queue:
            part, queue = queue[:together], queue[together:]
            try:
                with torch.no_grad():
                    found = self.prepared(run).solve_many([self.world(run, numbers) for _, numbers in part], asks)
            except (Refused, SceneError):
                return
            self.solves += len(part)
            self._ahead.update(zip((key for key, _ in part), found, strict=True))

    def forget_ahead(self) -> None:
        """Let go of what `solve_ahead` found."""
        self._ahead.clear()
