"""What a scene says of a body that is a cloud of surfels."""

import dataclasses
from pathlib import Path
from typing import Annotated

from simengine.scene.strict import Count, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfelsSpec:
    """Oriented discs with colours, as 2-D Gaussian splatting has them (Huang et al. 2024).

    Attributes:
        box: Least and greatest x, y, z of the body [m].
        count: Discs at most.
        harmonics: Degree of the colour's dependence on direction; 0 for none. Few photographs tell none.
        visible: Brightest channel above which a pixel of the photographs shows the body; outside of the hull of these
            outlines nothing is put [1].
        similarity: Share of 1 - SSIM beside that of the mean absolute difference [1].
        every: Steps from one round of splitting and pruning to the next; none in the last third.
        file: Discs that are there already, a .ply; without it there are none before a fit.
    """

    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    count: Count = 10_000
    harmonics: Annotated[int, Range(ge=0, le=3)] = 0
    visible: Annotated[float, Range(gt=0, lt=1)] = 0.08
    similarity: Annotated[float, Range(ge=0, lt=1)] = 0.2
    every: Count = 100
    file: Path | None = None

    def __post_init__(self) -> None:
        if any(not low < high for low, high in self.box):
            raise ValueError(f"box: expected [least, greatest] of each axis, got {[list(b) for b in self.box]}")
