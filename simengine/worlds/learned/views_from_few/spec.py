"""Learning to make new views from a few, as scenes of kind `solids` describe it."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.worlds.learned.elevation import Elevation
from simengine.worlds.motion.world import MPMWorld


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewSynthesisSpec(AbstractLearner):
    """Train a network that makes new views from a few pictures, with explicit visibility, on random scenes.

    Attributes:
        type: Tells what is trained apart.
        views: Pictures that are given.
        size: Pixels along each side, divisible by 4.
        bodies: Boxes and balls in a scene.
        visibility: Formulation used in training; all are measured afterwards.
        planes: Of depth.
        width: Channels of the network at full size, divisible by 4.
        coarse: Samples of a ray that find its depth.
        fine: Samples around it that give the colour.
        spread: The given cameras stand evenly over this angle around the vertical [degrees].
        elevation: Lowest and highest elevation of the cameras [degrees].
        iterations: Steps of Adam, each on a new scene.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        depth_weight: Weight of how surprising the true depths of the given pictures are, known as we render them [1].
        test_scenes: Unseen scenes that the pictures are measured on.
        motion: A moving body, a scene of kind mpm, whose frames are seen from elsewhere afterwards; None for none.
        frames: Of it.
    """

    kinds: ClassVar[tuple[str, ...]] = ("solids",)
    type: Literal["views"] = "views"
    views: Annotated[int, Range(ge=2, le=16)] = stands("examples", 4)
    size: Annotated[int, Range(ge=16, le=1024)] = stands("examples", 48)
    bodies: Annotated[int, Range(ge=1, le=16)] = stands("examples", 4)
    visibility: Literal["shadow", "transmittance", "surfels", "none"] = "shadow"
    planes: Annotated[int, Range(ge=4, le=256)] = 24
    width: Annotated[int, Range(ge=4, le=256)] = 16
    coarse: Annotated[int, Range(ge=4, le=512)] = 32
    fine: Annotated[int, Range(ge=1, le=64)] = 4
    spread: Annotated[float, Range(gt=0, le=360)] = stands("examples", 75.0)
    elevation: tuple[Elevation, Elevation] = stands("examples", (35.0, 55.0))
    iterations: Count = stands("training", 500)
    learning_rate: Positive = stands("training", 3e-3)
    depth_weight: NonNegative = stands("training", 0.1)
    test_scenes: Count = stands("test", 12, key="count")
    motion: MPMWorld | None = stands("test", None)
    frames: Count = stands("test", 6)

    def __post_init__(self) -> None:
        if self.size % 4:
            raise ValueError(f"size: expected a multiple of 4, got {self.size}")
        if self.width % 4:
            raise ValueError(f"width: expected a multiple of 4, got {self.width}")
        if not self.elevation[0] <= self.elevation[1]:
            raise ValueError(f"elevation: expected the lowest first, got {list(self.elevation)}")
        if self.motion is not None and self.motion.grid.num_steps % self.frames:
            steps = self.motion.grid.num_steps
            raise ValueError(f"frames: {self.frames} does not divide the {steps} steps of the motion")
