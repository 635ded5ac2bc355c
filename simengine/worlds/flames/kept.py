"""The flames of a table on disk as they are found: minutes of work, which outlast the process."""

from pathlib import Path
from typing import TYPE_CHECKING

from simengine.flame.solver.solution import FlameSolution
from simengine.io import checkpoint
from simengine.worlds.flames.answers import FlameRun, resumed
from simengine.worlds.flames.conditions import Row

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld


class KeptFlames:
    """A checkpoint of the flames of rows, by their conditions; a row without a flame is not in it and stays open.

    Args:
        world: Whose flames they are.
        folder: Where the checkpoint lies; made with the first flame.

    Attributes:
        before: The flames that an earlier process left there, or None.

    Raises:
        ValueError: What lies there is damaged.
    """

    def __init__(self, world: "FlameWorld", folder: Path) -> None:
        self.before: FlameRun | None = None
        self._world, self._folder = world, folder
        self._flames: dict[Row, FlameSolution] = {}
        if checkpoint.exists(folder):
            self.before = resumed(world, checkpoint.load(folder)[0])
            self._flames |= self.before.flames

    def keep(self, row: Row, found: FlameSolution) -> None:
        """Write a flame that is not there yet; all flames lie in one file, some 0.1 MB each."""
        if row not in self._flames:
            self._flames[row] = found
            state = FlameRun(self._world, self._flames, {}).state_dict()
            checkpoint.save(self._folder, state, {"flames": len(self._flames)}, tag=len(self._flames))
