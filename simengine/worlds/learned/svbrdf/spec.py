"""Learning maps of a material from one picture, as scenes of kind `samples` describe it."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SVBRDFSpec(AbstractLearner):
    """Train a network that tells the maps of a material from one flash picture, on procedural materials.

    Attributes:
        type: Tells what is trained apart.
        size: Texels along each side, divisible by 8.
        width: Channels of the network at full size.
        iterations: Steps of Adam that train it.
        batch: Materials a step, each new.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        maps_weight: Weight of the squared error of the maps over their variances, beside the rendering loss [1].
        refine: Steps of Adam that make the answer of the network agree with the picture, from each start; 0 for none.
        test_samples: Unseen materials that the errors are measured on.
    """

    kinds: ClassVar[tuple[str, ...]] = ("samples",)
    type: Literal["maps"] = "maps"
    size: Annotated[int, Range(ge=16, le=512)] = stands("examples", 32)
    width: Annotated[int, Range(ge=4, le=256)] = 16
    iterations: Count = stands("training", 3000)
    batch: Count = stands("training", 8)
    learning_rate: Positive = stands("training", 3e-3)
    maps_weight: NonNegative = stands("training", 1.5)
    refine: Annotated[int, Range(ge=0, le=100_000)] = 150
    test_samples: Count = stands("test", 64, key="count")

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size: expected a multiple of 8, got {self.size}")
