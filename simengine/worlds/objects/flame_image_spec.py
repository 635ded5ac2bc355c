"""Pictures of a flame, as tasks of scenes of kind `render` describe them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from simengine.flame.equations.free import FreeFlame
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.specs import Free, FreeSimple
from simengine.worlds.motion.world import CameraSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class LitFlame(Free):
    """A free flame with a mechanism of its own.

    Attributes:
        mechanism: As in the table `[gas]` of scenes of kind flame.
    """

    mechanism: Path

    def flame(self, gas: GasSpec | None = None) -> FreeFlame:
        """The equations."""
        return super().flame(gas or GasSpec(mechanism=self.mechanism))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterSpec:
    """A parameter sought; see `simengine.fit.Parameter`.

    Attributes:
        initial: Where the search starts [unit of the key].
        lower: Least value [unit of the key].
        upper: Greatest value [unit of the key].
        scale: A typical change [unit of the key].
    """

    initial: float
    lower: float | None = None
    upper: float | None = None
    scale: Positive | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameImageSpec:
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
        efficiency: Share of the heat release given off as light of reaction [1].
        noise: Standard deviation of the noise of the picture, over its brightest value [1].
        resolution: Of the flame, as in scenes of kind flame [1].
        method: least_squares (with uncertainty), or lbfgs through the adjoint.
        iterations: At most so many.
    """

    type: Literal["flame_image"] = "flame_image"
    flame: FreeSimple | LitFlame
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
