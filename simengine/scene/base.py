"""The base of every scene: plain, frozen data that knows how to become a model, a run and an inverse problem."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory


class SceneError(ValueError):
    """A scene cannot be read or built. The one-line message names file, line, key, value and remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractScene(abc.ABC):
    """A scene of one kind. Sub-classes are frozen dataclasses of plain data (numbers, strings, tuples, dataclasses).

    Attributes:
        kind: The value of the key `kind` in a scene file.
        devices: Kinds of torch device that scenes of this kind run on, the fallback first.
        fit_devices: Those that a fit of such a scene runs on.
        seed: Seed of everything random in this scene.
        directory: Where relative paths in the scene start; set by the loader.
        functions: Of the Python script that the scene comes from, by name; set by the loader.
    """

    kind: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu",)
    seed: int = 0
    directory: Path = dataclasses.field(default=Path(), metadata={"internal": True})
    functions: Mapping[str, Callable[..., Any]] = dataclasses.field(
        default_factory=dict, metadata={"internal": True}, compare=False
    )

    @abc.abstractmethod
    def build(self, *, device: str | None = None) -> Any:
        """What the solver takes: `(model, state)` for what moves, a model alone for what is solved at once.

        Args:
            device: Torch device; None for the best available.
        """

    @abc.abstractmethod
    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Simulate or solve, write states and pictures to `out`, and return the summary printed by `simengine run`."""

    def training(self, *, device: str | None = None) -> "AbstractTraining":
        """The inverse problem of this scene, as `simengine fit` drives it.

        Raises:
            SceneError: The scene has no `[fit]` table.
        """
        raise SceneError(f"a scene of kind {self.kind!r} without a [fit] table has nothing to fit; add one")

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Pre-flight figures for `simengine check`, without running the scene."""
        return {}

    def render(self, run: Path, file: Path, *, fps: float) -> Path:
        """Picture the states that `run` wrote to a run directory; the suffix of `file` is the format.

        Raises:
            SceneError: Runs of this kind hold no states to picture.
        """
        raise SceneError(f"a run of kind {self.kind!r} holds figures, not states to render; look into {run}")
