"""A field on a whole grid: PDEBench's HDF5 files, arrays of an own program, netCDF of xarray."""

import dataclasses
from typing import Annotated, Literal

import torch

from simengine.io.tables import RawTable
from simengine.io.units import split_header
from simengine.observe.columns import column_of
from simengine.observe.grid_files import read_grids
from simengine.observe.instruments.table import AbstractTable, Samples
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import Measured
from simengine.scene.strict import Count, Only, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grids(Samples):
    """Values of fields at all points of a grid; columns t, x, y, z name its axes, in the order of the arrays.

    Attributes:
        group: Of an HDF5 file, in which the arrays are.
        member: Number along the first axis, of files of many runs [1].
        every: Axis -> every which of its values is taken [1].
    """

    type: Literal["grids"] = "grids"  # type: ignore[assignment]
    group: str = ""
    member: Annotated[int, Range(ge=0)] | None = None
    every: Annotated[dict[str, Count], Only("time", "t", "x", "y", "z")] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at:
            raise ValueError("at: the places are those of the grid; leave it out")

    def raw(self) -> RawTable:
        """The points of the grid as rows."""
        named = {name: split_header(column_of(spec).column)[0] for name, spec in self.columns.items()}
        axes = {name: array for name, array in named.items() if name in self.coordinates()}
        fields = [array for name, array in named.items() if name not in axes]
        key = f"observations.{self.name}"
        if not axes or not fields:
            raise SceneError(f'{key}.columns: name the axes and a field, as in {{ t = "t", x = "x", u = "tensor" }}')
        try:
            return read_grids(
                self.path, axes=axes, fields=fields, group=self.group, member=self.member, every=self.every
            )
        except SceneError:
            raise
        except ValueError as error:
            raise SceneError(f"{key}.file: {error}") from None

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> tuple[Measured, AbstractTable]:
        """None: grids are read.

        Raises:
            SceneError: Always.
        """
        raise SceneError(f"observations.{self.name}: grids are read and not written; `samples` writes a table")
