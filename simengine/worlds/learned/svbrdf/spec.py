"""Learning maps of a material from one picture, as tasks of scenes of kind `render` describe it."""

import dataclasses
from typing import Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SVBRDFSpec:
    """Train a network that tells the maps of a material from one flash picture, on procedural materials.

    Attributes:
        type: Tells the tasks apart.
        size: Texels along each side, divisible by 8.
        width: Channels of the network at full size.
        iterations: Steps of Adam that train it.
        batch: Materials a step, each new.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        maps_weight: Weight of the squared error of the maps over their variances, beside the rendering loss [1].
        refine: Steps of Adam that make the answer of the network agree with the picture, from each start; 0 for none.
        test_samples: Unseen materials that the errors are measured on.
    """

    type: Literal["svbrdf"] = "svbrdf"
    size: Annotated[int, Range(ge=16, le=512)] = 32
    width: Annotated[int, Range(ge=4, le=256)] = 16
    iterations: Count = 3000
    batch: Count = 8
    learning_rate: Positive = 3e-3
    maps_weight: NonNegative = 1.5
    refine: Annotated[int, Range(ge=0, le=100_000)] = 150
    test_samples: Count = 64

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size: expected a multiple of 8, got {self.size}")
