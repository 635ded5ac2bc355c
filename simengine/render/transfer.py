"""Scalar fields as volumes: which value is how dense and has which colour."""

import dataclasses
from collections.abc import Sequence

import torch

from simengine.render.volumes import Volume


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferFunction:
    """Density and source as piecewise linear functions of a value, constant beyond the first and the last.

    Differentiable in the field, the densities and the colours.

    Attributes:
        values: Rising values of the field, in its unit, shape (k,), at least two.
        density: At the values [1/m], shape (k,).
        source: At the values, shape (k, c); see `Volume.source`.
        emission: See `Volume.emission`.
    """

    values: torch.Tensor
    density: torch.Tensor
    source: torch.Tensor
    emission: bool = False

    def __post_init__(self) -> None:
        k = len(self.values)
        if self.values.ndim != 1 or k < 2 or not bool((self.values.diff() > 0).all()):
            raise ValueError(f"values: expected at least two rising numbers, got {self.values.tolist()}")
        if self.density.shape != (k,) or self.source.ndim != 2 or len(self.source) != k:
            raise ValueError(
                f"density, source: expected shapes ({k},) and ({k}, c), "
                f"got {tuple(self.density.shape)} and {tuple(self.source.shape)}"
            )

    def __call__(
        self,
        field: torch.Tensor,
        *,
        lower: torch.Tensor | Sequence[float] = (-1.0, -1.0, -1.0),
        upper: torch.Tensor | Sequence[float] = (1.0, 1.0, 1.0),
    ) -> Volume:
        """The volume that shows a field.

        Args:
            field: Values in the middle of the cells, shape (nx, ny, nz).
            lower: Lowest corner of the box [m].
            upper: Highest corner [m].
        """
        values = self.values.to(field)
        x = field.clamp(values[0], values[-1])
        right = torch.searchsorted(values, x.detach().contiguous()).clamp(1, len(values) - 1)
        share = (x - values[right - 1]) / (values[right] - values[right - 1])
        table = torch.cat([self.density[:, None], self.source], dim=-1).to(field)
        mixed = table[right - 1] + share[..., None] * (table[right] - table[right - 1])
        return Volume(density=mixed[..., 0], source=mixed[..., 1:], lower=lower, upper=upper, emission=self.emission)
