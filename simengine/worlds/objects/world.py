"""Scenes of pictures: something is pictured by cameras, and found again from the pictures."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.kinds import PROBLEMS, imported
from simengine.worlds.objects.flame_image_spec import FlameImageSpec
from simengine.worlds.objects.law_video_spec import LawVideoSpec
from simengine.worlds.objects.specs import MaterialMapsSpec

if TYPE_CHECKING:
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory


PictureTask = MaterialMapsSpec | FlameImageSpec | LawVideoSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderWorld(AbstractWorld):
    """Something to picture, and to find from its pictures.

    Attributes:
        task: What is pictured and sought, by its `type`.
    """

    kind: ClassVar[str] = "render"
    task: PictureTask

    def build(self, *, device: str | None = None) -> Any:
        """The problem of the task: `observed` pictures, `cameras`, and what pictures its estimate."""
        if device not in (None, "cpu"):
            raise SceneError(f"scenes of kind {self.kind!r} run on the CPU, got --device {device}")
        return imported(PROBLEMS[self.task.type])(self.task, seed=self.seed)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Number of the pictures."""
        return {"pictures": math.prod(self.build(device=device).observed.shape[:-3])}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the observed pictures as `observed.png`."""
        problem = self.build(device=device)
        out.write("observed.png", problem.contact_sheet(problem.observed))
        return {"pictures": math.prod(problem.observed.shape[:-3]), "size": list(problem.observed.shape[-3:-1])}

    def render(self, run: Path, file: Path, *, fps: float) -> Path:
        """Write the observed pictures again; a video suffix turns from view to view or from frame to frame."""
        from simengine.io import write

        problem = self.build()
        frames = problem.observed if problem.observed.ndim == 4 else problem.observed[0]
        if file.suffix in (".mp4", ".gif"):
            return write(file, frames.expand(*frames.shape[:-1], 3), fps=fps)
        return write(file, problem.contact_sheet(problem.observed))

    def training(self, *, device: str | None = None) -> "AbstractTraining":
        """Find what the pictures show."""
        return self.build(device=device).training()
