"""Coefficients of an equation that hang on its field or on the place."""

import dataclasses
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.scene.strict import Positive, Range

Value = Any  # a float, or a tensor that broadcasts against (worlds, cells)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piecewise:
    """A coefficient that is linear between knots, constant beyond the first and the last.

    Attributes:
        of: What it hangs on: the name of the field, or `x`, `y`.
        knots: Where the values hold, growing, SI; one value holds everywhere.
        values: Values there, or one for all, SI.
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


def evaluated(coefficient: Any, at: "dict[str, torch.Tensor]") -> Value:
    """A coefficient where the fields and places are `at`: a number stands for itself."""
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
