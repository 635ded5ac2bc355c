"""Videos of moving bodies, as tasks of scenes of kind `render` describe them."""

import dataclasses
from typing import Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.worlds.motion.world import CameraSpec, MPMScene, ParameterSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoSpec:
    """Numbers of a moving body from videos of it: the loss is on pixels, and its gradient goes through the motion.

    Attributes:
        type: Tells the tasks apart.
        motion: The true motion, a scene of kind mpm.
        cameras: Who sees it.
        parameters: Dotted key of a number of `motion`, or `pose.turn.k` [rad] or `pose.shift.k` [m] of its start, k
            from 0 to 2 -> where its search starts.
        frames: Pictures of the video, evenly over the motion, the start left out.
        blur: Halvings of the resolution at which the pictures are compared as well, so that far steps have a slope.
        noise: Standard deviation of the noise of the pictures [1].
        stages: Growing parts of the motion to fit one after another, as fractions; the last is 1 [1].
        method: lbfgs or adam (through the adjoint of pictures and motion), or least_squares (with uncertainty).
        iterations: Of each stage.
        learning_rate: Of adam and lbfgs [1].
    """

    type: Literal["video"] = "video"
    motion: MPMScene
    cameras: tuple[CameraSpec, ...]
    parameters: dict[str, ParameterSpec]
    frames: Count = 10
    blur: Annotated[int, Range(ge=0, le=6)] = 3
    noise: NonNegative = 0.0
    stages: tuple[Annotated[float, Range(gt=0, le=1)], ...] = (0.5, 1.0)
    method: Literal["lbfgs", "adam", "least_squares"] = "lbfgs"
    iterations: Count = 4
    learning_rate: Positive = 1.0

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("cameras: a video needs at least one [[task.cameras]]")
        if not self.parameters:
            raise ValueError('parameters: name at least one, as in [task.parameters."bodies.0.material.E"]')
        if self.motion.grid.num_steps % self.frames:
            raise ValueError(
                f"frames: {self.frames} does not divide the {self.motion.grid.num_steps} steps of the motion"
            )
        if not self.stages or self.stages[-1] != 1.0 or list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f"stages: expected growing fractions that end with 1.0, got {list(self.stages)}")
        sizes = {(camera.width, camera.height) for camera in self.cameras}
        if len(sizes) > 1:
            raise ValueError(f"cameras: expected one picture size, got {sorted(sizes)}")
