"""Coefficients of an equation that hang on its field or on the place."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.scene.base import SceneError
from simengine.scene.strict import Positive, Range

Value = Any  # a float, or a tensor that broadcasts against (worlds, cells)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piecewise:
    """A coefficient that is linear between knots, constant beyond the first and the last.

    Attributes:
        of: What it hangs on: the name of the field, or `x`, `y`.
        knots: Where the values hold, growing, SI; one value holds everywhere [unit of the abscissa].
        values: Values there, or one for all, SI [unit of the value].
    """

    entries: ClassVar[str] = "values"  # `pde.retardation` names these
    abscissa: ClassVar[str] = "knots"
    of: str = "x"
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] | float = ()

    def __post_init__(self) -> None:
        if isinstance(self.values, float):
            object.__setattr__(self, "values", (self.values,) * max(len(self.knots), 1))
        if list(self.knots) != sorted(set(self.knots)):
            raise ValueError(f"knots: expected growing numbers, got {list(self.knots)}")
        if len(self.values) != max(len(self.knots), 1):  # type: ignore[arg-type]
            raise ValueError(f"values: {len(self.values)} for {len(self.knots)} knots")  # type: ignore[arg-type]

    def __call__(self, at: torch.Tensor) -> torch.Tensor:
        """The coefficient at abscissas (worlds, cells)."""
        table, slopes, knots = self._table
        rows = max(len(at), len(table))
        if table.shape[1] == 1:
            return table.expand(rows, at.shape[-1])
        table, slopes = table.expand(rows, -1), slopes.expand(rows, -1)
        at = at.expand(rows, -1).clamp(self.knots[0], self.knots[-1])
        left = torch.searchsorted(knots[1:-1], at.detach().contiguous())
        return table.gather(1, left) + slopes.gather(1, left) * (at - knots[left])

    @cached_property
    def _table(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values (worlds, knots), slopes between them, and knots."""
        values = [torch.as_tensor(v, dtype=torch.float64).reshape(-1, 1) for v in self.values]  # type: ignore[union-attr]
        rows = max(len(v) for v in values)
        table = torch.cat([v.expand(rows, 1) for v in values], 1)
        knots = torch.tensor(self.knots or (0.0,), dtype=torch.float64)
        return table, table.diff(dim=1) / knots.diff(), knots


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freundlich:
    """Retardation of a field that sorbs as S = K c^N: 1 + (1 - porosity)/porosity density K N c^(N - 1).

    Attributes:
        K: Strength of the isotherm, in (m3/kg)^N.
        N: Its exponent [1].
        porosity: Share of the volume that is not grain [1].
        density: Of the grains [kg/m3].
        floor: Added to c, so that the slope stays finite where there is nothing yet [kg/m3].
    """

    type: Literal["freundlich"] = "freundlich"
    K: Positive
    N: Positive
    porosity: Annotated[float, Range(gt=0, lt=1)]
    density: Positive
    floor: Positive = 1e-6

    def __call__(self, at: torch.Tensor) -> torch.Tensor:
        """The retardation at concentrations (worlds, cells)."""
        slope = self.K * self.N * (at.clamp_min(0.0) + self.floor) ** (self.N - 1.0)
        return 1.0 + (1.0 - self.porosity) / self.porosity * self.density * slope


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellValues:
    """A coefficient on cells of its own that divide the box, linear between their centres; it can be sought as a field.

    Attributes:
        cells: Along each axis of the box, 2 or more.
        values: One for all cells, or a .npy of (cells along x, cells along y), SI [unit of the value].
    """

    type: Literal["cells"] = "cells"
    cells: tuple[Annotated[int, Range(ge=2)], ...]
    values: Positive | Path
    box: tuple[tuple[float, float], ...] = dataclasses.field(default=(), metadata={"internal": True})

    def field(self, key: str = "values") -> torch.Tensor:
        """The values in the shape of the cells, float64.

        Raises:
            SceneError: The file holds something else.
        """
        if isinstance(self.values, Path):
            found = array_of(self.values, key)
            if tuple(found.shape) != self.cells:
                raise SceneError(
                    f"{key}: {self.values.name} has {list(found.shape)} cells, and {list(self.cells)} are told"
                )
            return found
        values = torch.as_tensor(self.values, dtype=torch.float64)
        return values.expand(self.cells) if values.numel() == 1 else values

    def __call__(self, at: "dict[str, torch.Tensor]") -> torch.Tensor:
        """The coefficient at places x, y (worlds, cells of the grid): the same for all worlds, (1, cells)."""
        table = self.field()
        corners = []
        for axis, (low, high) in enumerate(self.box):
            n = self.cells[axis]
            place = ((at["xy"[axis]][0].detach() - low) * (n / (high - low)) - 0.5).clamp(0.0, n - 1.0)
            left = place.floor().clamp_max(n - 2).to(torch.int64)
            corners.append((left, place - left))
        total: torch.Tensor | float = 0.0
        for corner in range(2 ** len(corners)):
            index, weight = [], torch.ones((), dtype=torch.float64)
            for axis, (left, share) in enumerate(corners):
                far = corner >> axis & 1
                index.append(left + far)
                weight = weight * (share if far else 1 - share)
            total = total + weight * table[tuple(index)]
        assert isinstance(total, torch.Tensor)
        return total[None]


def array_of(file: Path, key: str) -> torch.Tensor:
    """Numbers of a .npy, float64.

    Raises:
        SceneError: There are none.
    """
    import numpy as np

    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"{key}: {error}") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise SceneError(f"{key}: {file.name} holds no array of numbers")
    return torch.from_numpy(np.asarray(found, dtype=np.float64))


def evaluated(coefficient: Any, at: "dict[str, torch.Tensor]") -> Value:
    """A coefficient where the fields and places are `at`: a number stands for itself."""
    if isinstance(coefficient, CellValues):
        return coefficient(at)
    if isinstance(coefficient, Piecewise):
        return coefficient(at[coefficient.of])
    if isinstance(coefficient, Freundlich):
        return coefficient(next(iter(at.values())))
    return coefficient


def constant(coefficient: Any) -> bool:
    """Whether a coefficient does not hang on a field."""
    if isinstance(coefficient, Piecewise):
        return len(coefficient.knots) < 2 or coefficient.of in ("x", "y")
    return not isinstance(coefficient, Freundlich)
