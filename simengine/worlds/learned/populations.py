"""Worlds that are drawn anew for each example of a training: `[examples]` says of what, seen from where."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.scene.base import AbstractWorld, SceneError

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractPopulation(AbstractWorld):
    """A population: no single world stands in the scene, so there is nothing to solve."""

    def build(self, *, device: str | None = None) -> Any:
        """Nothing to build.

        Raises:
            SceneError: Always, with the verb that does something.
        """
        raise SceneError(f"a scene of kind {self.kind!r} is a population to train on; use `simengine train`")

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Nothing to run; see `build`."""
        self.build(device=device)
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolidsWorld(AbstractPopulation):
    """Boxes, balls or chains of cubes on a floor, in a room with three lamps."""

    kind: ClassVar[str] = "solids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesWorld(AbstractPopulation):
    """Flat samples of layered materials under the flash of the camera that pictures them."""

    kind: ClassVar[str] = "samples"
