"""Tasks of the kind `render` that learn from many pictures, or find more than numbers of a body from a few."""

import abc
import dataclasses
from typing import Annotated, Any, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range


class AbstractPictureTask(abc.ABC):
    """A task that knows its problem: an object with `observed`, `contact_sheet(images)` and `training()`."""

    @abc.abstractmethod
    def problem(self, *, seed: int) -> Any:
        """The problem; `seed` is that of the scene."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SVBRDFSpec(AbstractPictureTask):
    """Train a network that tells the maps of a material from one flash picture, on procedural materials.

    Attributes:
        type: Tells the tasks apart.
        size: Texels along each side, divisible by 8.
        width: Channels of the network at full size.
        iterations: Steps of Adam.
        batch: Materials a step, each new.
        learning_rate: Of Adam; falls to 0 by a half cosine.
        maps_weight: Weight of the squared error of the maps beside the rendering loss.
        test_samples: Unseen materials that the errors are measured on.
    """

    type: Literal["svbrdf"] = "svbrdf"
    size: Annotated[int, Range(ge=16, le=512)] = 32
    width: Annotated[int, Range(ge=4, le=256)] = 16
    iterations: Count = 2500
    batch: Count = 16
    learning_rate: Positive = 3e-3
    maps_weight: NonNegative = 6.0
    test_samples: Count = 64

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size: expected a multiple of 8, got {self.size}")
        if self.width % 4:
            raise ValueError(f"width: expected a multiple of 4, got {self.width}")

    def problem(self, *, seed: int) -> Any:
        """Unseen materials and the training."""
        from simengine.fit.svbrdf import SVBRDFProblem

        return SVBRDFProblem(self, seed=seed)


PictureTask = SVBRDFSpec
