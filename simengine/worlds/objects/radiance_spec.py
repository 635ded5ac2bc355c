"""What a scene says of a grid of density and colour."""

import dataclasses
from pathlib import Path
from typing import Annotated

from simengine.scene.strict import Count, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadianceSpec:
    """A medium that absorbs and shines, each cell with its density and its colour, alike from all sides.

    Attributes:
        box: Least and greatest x, y, z [m].
        cells: Along each axis.
        levels: Grids of a search, each of twice the cells of the one before; the last has `cells`.
        smoothness: Weight of the total variation of opacities and colours over the cells of the last grid [1].
        hull: Whether what the outlines exclude stays empty; false for smoke and flames, whose rims are faint.
        visible: Brightest channel above which a pixel of the photographs shows the body [1].
        similarity: Share of 1 - SSIM beside that of the mean absolute difference [1].
        file: A grid that is there already, an .npz of `density` (nx, ny, nz) [1/m] and `colour` (nx, ny, nz, 3),
            linear; without it there is nothing before a fit.
    """

    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    cells: tuple[Count, Count, Count]
    levels: Annotated[int, Range(ge=1, le=6)] = 3
    smoothness: Annotated[float, Range(ge=0)] = 0.1
    hull: bool = True
    visible: Annotated[float, Range(gt=0, lt=1)] = 0.08
    similarity: Annotated[float, Range(ge=0, lt=1)] = 0.2
    file: Path | None = None

    def __post_init__(self) -> None:
        if any(not low < high for low, high in self.box):
            raise ValueError(f"box: expected [least, greatest] of each axis, got {[list(b) for b in self.box]}")
