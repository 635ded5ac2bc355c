"""The task of the kind `render` that finds the maps of a flat sample."""

import dataclasses
from typing import Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaterialMapsSpec:
    """Maps of a material from flash pictures of a flat sample.

    Attributes:
        type: Tells the tasks apart.
        size: Texels along each side.
        lights: Pictures with the light on each ring, each with the light elsewhere.
        radii: Of the rings of lights [m].
        noise: Standard deviation of the noise over the radiance [1].
        iterations: Steps of Adam.
        learning_rate: Of Adam [1].
        smoothness: Weight of differences between neighbouring texels [1].
        texel_iterations: Steps of Levenberg-Marquardt in the numbers of each texel afterwards.
    """

    type: Literal["material_maps"] = "material_maps"
    size: Annotated[int, Range(ge=8, le=2048)] = 64
    lights: Annotated[int, Range(ge=1, le=64)] = 6
    radii: tuple[Positive, ...] = (0.5, 1.3, 2.2)
    noise: NonNegative = 0.01
    iterations: Count = 300
    learning_rate: Positive = 0.05
    smoothness: NonNegative = 0.02
    texel_iterations: Annotated[int, Range(ge=0)] = 40
