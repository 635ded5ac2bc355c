"""Videos that a law is learned from, as tasks of scenes of kind `render` describe them."""

import dataclasses
from typing import Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Range
from simengine.worlds.laws.world import LawSpec
from simengine.worlds.motion.world import CameraSpec, MPMWorld


@dataclasses.dataclass(frozen=True, kw_only=True)
class LawVideoSpec:
    """The law of an elastic body from a video of it: an energy network, with the loss on pixels alone.

    Attributes:
        type: Tells the tasks apart.
        motion: The true motion, a scene of kind mpm of one elastic body; its material is hidden from the learner.
        cameras: Who sees it.
        law: The network that learns.
        combinations: Combinations of the network's last weights that are sought.
        ridge: Weight of the squares of these combinations in their usual size, beside the mean square of the pixels;
            the variance of the noise over the number of pixels would be the least [1].
        frames: Pictures of the video, evenly over the motion, the start left out.
        blur: Halvings of the resolution at which the pictures are compared as well.
        noise: Standard deviation of the noise of the pictures [1].
        stages: Growing parts of the motion to fit one after another, as fractions; the last is 1 [1].
        iterations: Of each stage.
    """

    type: Literal["law_video"] = "law_video"
    motion: MPMWorld
    cameras: tuple[CameraSpec, ...]
    law: LawSpec = dataclasses.field(default_factory=LawSpec)
    combinations: Annotated[int, Range(ge=1, le=64)] = 8
    ridge: NonNegative = 1e-8
    frames: Count = 10
    blur: Annotated[int, Range(ge=0, le=6)] = 2
    noise: NonNegative = 0.02
    stages: tuple[Annotated[float, Range(gt=0, le=1)], ...] = (0.5, 1.0)
    iterations: Count = 4

    def __post_init__(self) -> None:
        if len(self.motion.bodies) != 1:
            raise ValueError(f"motion.bodies: expected one body, whose law is sought, got {len(self.motion.bodies)}")
        if self.law.plastic:
            raise ValueError("law.plastic: flow is not learned from videos; leave it out")
        if self.law.form != "network":
            raise ValueError(f"law.form: {self.law.form!r} is not learned from videos; a network is")
        if self.combinations > self.law.width:
            raise ValueError(f"combinations: {self.combinations} are more than the {self.law.width} hidden units")
        if not self.cameras:
            raise ValueError("cameras: a video needs at least one [[task.cameras]]")
        if self.motion.grid.num_steps % self.frames:
            raise ValueError(
                f"frames: {self.frames} does not divide the {self.motion.grid.num_steps} steps of the motion"
            )
        if not self.stages or self.stages[-1] != 1.0 or list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f"stages: expected growing fractions that end with 1.0, got {list(self.stages)}")
        sizes = {(camera.width, camera.height) for camera in self.cameras}
        if len(sizes) > 1:
            raise ValueError(f"cameras: expected one picture size, got {sorted(sizes)}")

    def other_throw(self) -> MPMWorld:
        """The same body, thrown into another direction and turning the other way."""
        body = self.motion.bodies[0]
        x, y, z = body.velocity
        a, b, c = body.angular_velocity
        thrown = dataclasses.replace(body, velocity=(-0.7 * z, 1.2 * y, 0.7 * x), angular_velocity=(-b, c, -a))
        return dataclasses.replace(self.motion, bodies=(thrown,))
