"""Tasks of the kind `render` that learn from many pictures, or find more than numbers of a body from a few."""

import abc
import dataclasses
from typing import Annotated, Any, Literal

from simengine.scene.flame import Free, FreeSimple
from simengine.scene.mpm import CameraSpec, ParameterSpec
from simengine.scene.strict import Count, NonNegative, Positive, Range


class AbstractPictureTask(abc.ABC):
    """A task that knows its problem: an object with `observed`, `contact_sheet(images)` and `training()`."""

    @abc.abstractmethod
    def problem(self, *, seed: int) -> Any:
        """The problem; `seed` is that of the scene."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameImageSpec(AbstractPictureTask):
    """Numbers of a flame from one picture of its light; the gradient goes through picture and flame.

    The flame is a flat sheet that is seen from its side: fresh gas at negative x, burnt gas at positive x.

    Attributes:
        type: Tells the tasks apart.
        flame: The true flame, as in scenes of kind flame.
        camera: Who sees it; flames are thin, so it stands millimetres away.
        parameters: Name of a number of the flame, or `shift` (where it stands along x [m]) -> where its search starts.
        span: First and last x of the sheet that is pictured [m].
        extent: Of the sheet across x, in the picture and along the line of sight [m].
        cells: Of the volume along x.
        kappa: Absorption coefficient of the gas [1/m]; how much it glows.
        efficiency: Share of the heat release given off as light of reaction.
        noise: Standard deviation of the noise of the picture, over its brightest value.
        resolution: Of the flame, as in scenes of kind flame.
        method: least_squares (with uncertainty), or lbfgs through the adjoint.
        iterations: At most so many.
    """

    type: Literal["flame_image"] = "flame_image"
    flame: FreeSimple | Free
    camera: CameraSpec
    parameters: dict[str, ParameterSpec]
    span: tuple[float, float] = (-0.5e-3, 1e-3)
    extent: tuple[Positive, Positive] = (1e-3, 1e-3)
    cells: Annotated[int, Range(ge=8, le=4096)] = 240
    kappa: NonNegative = 0.1
    efficiency: NonNegative = 1e-6
    noise: NonNegative = 0.02
    resolution: Annotated[float, Range(gt=0, lt=1)] = 1e-5
    method: Literal["least_squares", "lbfgs"] = "least_squares"
    iterations: Count = 15

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError("parameters: name at least one, as in [task.parameters.phi]")
        if not self.span[0] < self.span[1]:
            raise ValueError(f"span: expected a first x below the last, got {list(self.span)}")

    def problem(self, *, seed: int) -> Any:
        """The picture of the true flame, and what pictures another."""
        from simengine.fit.flame_from_image import FlameImage

        return FlameImage(self, seed=seed)


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


PictureTask = FlameImageSpec | SVBRDFSpec
