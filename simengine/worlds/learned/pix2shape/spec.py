"""Learning shape from pictures alone, as scenes of kind `solids` describe it."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.worlds.learned.elevation import Elevation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix2ShapeSpec(AbstractLearner):
    """Learn shape from pictures alone: encoder, decoder of depth and critic, on random scenes that we render.

    Attributes:
        type: Tells what is trained apart.
        bodies: What stands on the floor: boxes and balls, or a chain of cubes.
        count: Boxes and balls in a scene, or cubes in a chain, then 4 to 8.
        size: Pixels along each side, a power of two.
        latent: Length of the code of a scene.
        width: Channels of the networks at half the size.
        iterations: Steps of Adam; a critic takes one on every fourth.
        batch: Scenes a step, each new and seen from two places.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        azimuth: Cameras stand at most this far around the vertical to either side [degrees].
        elevation: Lowest and highest elevation of the cameras [degrees].
        novel_weight: Weight of the second picture of a scene, decoded from the code of the first [1].
        contrast_weight: Of telling which code belongs to the same scene (InfoNCE), not to a chain's mirror image [1].
        critic_weight: Of the adversarial term; 0 for no critic [1].
        range_weight: Of depths beyond what is possible [1].
        normals_weight: Of turns between neighbouring normals [1].
        edges_weight: Of steps of depth where the picture is even [1].
        test_scenes: Unseen scenes that depth is measured on.
        questions: Of each mental rotation test (3D-IQTT): which of three is the reference from another side.
    """

    kinds: ClassVar[tuple[str, ...]] = ("solids",)
    type: Literal["shape"] = "shape"
    bodies: Literal["solids", "chain"] = stands("examples", "solids")
    count: Annotated[int, Range(ge=1, le=12)] = stands("examples", 1)
    size: Annotated[int, Range(ge=16, le=256)] = stands("examples", 32)
    latent: Annotated[int, Range(ge=2, le=1024)] = 64
    width: Annotated[int, Range(ge=4, le=256)] = 24
    iterations: Count = stands("training", 1500)
    batch: Annotated[int, Range(ge=2, le=1024)] = stands("training", 12)
    learning_rate: Positive = stands("training", 2e-3)
    azimuth: Annotated[float, Range(gt=0, le=180)] = stands("examples", 35.0)
    elevation: tuple[Elevation, Elevation] = stands("examples", (50.0, 70.0))
    novel_weight: NonNegative = stands("training", 0.5)
    contrast_weight: NonNegative = stands("training", 0.0)
    critic_weight: NonNegative = stands("training", 1e-4)
    range_weight: NonNegative = stands("training", 0.05)
    normals_weight: NonNegative = stands("training", 2e-2)
    edges_weight: NonNegative = stands("training", 2e-2)
    test_scenes: Count = stands("test", 48, key="count")
    questions: Count = stands("test", 300)

    def __post_init__(self) -> None:
        if self.size & (self.size - 1):
            raise ValueError(f"size: expected a power of two, got {self.size}")
        if self.bodies == "chain" and not 4 <= self.count <= 8:
            raise ValueError(f"count: expected 4 to 8 cubes in a chain, got {self.count}")
        if not self.elevation[0] <= self.elevation[1]:
            raise ValueError(f"elevation: expected the lowest first, got {list(self.elevation)}")
