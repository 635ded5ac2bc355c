"""What is believed of a field beforehand, as energies of its cells: even with sharp edges, or smooth."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from simengine.fit.fields.gaussian import GaussianField, differences, inverse_of_stiffened, variance_of
from simengine.scene.base import SceneError
from simengine.scene.sought import Prior

ROUND = 0.01  # of a field's scale over one cell: gradients below are rounded off, so that the energy has a slope


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldEnergy:
    """Minus the logarithm of a prior of a field.

    Attributes:
        sizes: Of a cell along each axis [m]; infinite along an axis whose entries have nothing to do with one another.
        scale: Typical value of the field.
        total_variation: Weight of the integral of the gradient's length; 0 for none.
        smooth: Weight of (f - mean)^2 + length^2 |grad f|^2 over a cell; 0 for none.
        mean: Of a smooth field.
        length: Of a smooth field [m].
    """

    sizes: tuple[float, ...]
    scale: float
    total_variation: float = 0.0
    smooth: float = 0.0
    mean: float = 0.0
    length: float = 0.0

    def __call__(self, field: torch.Tensor) -> torch.Tensor:
        """The energy of a field in the shape of its cells, 0-d."""
        if not self.total_variation and not self.smooth:
            return field.new_zeros(())
        square = self._gradient_squared(field)
        if self.total_variation:
            return self.total_variation * self._cell * ((square + self._rounding**2).sqrt() - self._rounding).sum()
        return self.smooth * self._cell * ((field - self.mean).square().sum() + self.length**2 * square.sum())

    def stiffness(self, field: torch.Tensor) -> Any:
        """The matrix of the quadratic that touches the energy at a field and lies nowhere below it, sparse (n, n).

        Of a smooth field the Hessian; of a total variation each gradient squared over its length at the field.
        """
        from scipy.sparse import csr_array, diags, eye

        shape, count = tuple(field.shape), field.numel()
        if not self.total_variation and not self.smooth:
            return csr_array((count, count))
        if self.total_variation:
            length = (self._gradient_squared(field) + self._rounding**2).sqrt()
            weight, total = (self.total_variation * self._cell / length).reshape(-1), csr_array((count, count))
        else:
            weight = torch.full((count,), 2 * self.smooth * self._cell * self.length**2, dtype=torch.float64)
            total = eye(count, format="csr") * (2 * self.smooth * self._cell)
        for axis, size in enumerate(self.sizes):
            if math.isfinite(size):
                step = differences(shape, axis)
                total = total + step.T @ diags(weight.numpy() / size**2) @ step
        return total

    @property
    def gaussian(self) -> bool:
        """Whether the prior is a Gaussian one of every cell."""
        return self.smooth > 0 and not self.total_variation

    def covariance(self, v: torch.Tensor) -> torch.Tensor:
        """The covariance of a smooth field times fields v (b, *shape)."""
        weight = 2 * self.smooth * self._cell
        return torch.from_numpy(inverse_of_stiffened(v.numpy(), self.sizes, self.length, 1)) / weight

    def variance(self, shape: Sequence[int]) -> torch.Tensor:
        """Of each cell of a smooth field, in this shape."""
        weight = 2 * self.smooth * self._cell
        return torch.from_numpy(variance_of(shape, self.sizes, self.length, 1)) / weight

    @property
    def _cell(self) -> float:
        return math.prod(size for size in self.sizes if math.isfinite(size))

    @property
    def _rounding(self) -> float:
        return ROUND * self.scale / max(size for size in self.sizes if math.isfinite(size))

    def _gradient_squared(self, field: torch.Tensor) -> torch.Tensor:
        steps = []
        for axis, size in enumerate(self.sizes):
            if math.isinf(size):
                continue
            step = field.diff(dim=axis) / size
            pad = [0, 0] * (field.ndim - 1 - axis) + [0, 1]
            steps.append(torch.nn.functional.pad(step, pad))
        return torch.stack(steps).square().sum(0)


def field_energy(
    prior: Prior | None,
    key: str,
    extent: Sequence[tuple[float, float]],
    shape: Sequence[int],
    scale: float,
    start: float,
) -> FieldEnergy | GaussianField:
    """The energy of a prior; the weight of a total variation that is to be estimated is left 1.

    A smooth field has a standard deviation and a length: its energy is the integral of
    ((f - start)^2 + length^2 |grad f|^2) / (2 sd^2 (2 length)^d), the first-order Matern field in d dimensions. Of the
    logarithm of a field (lognormal) it is that of a `GaussianField`.

    Raises:
        SceneError: The prior is none of a field.
    """
    sizes = tuple((high - low) / n for (low, high), n in zip(extent, shape, strict=True))
    plain = FieldEnergy(sizes=sizes, scale=scale)
    if prior is None:
        return plain
    if prior.total_variation is not None:
        told = prior.total_variation
        return dataclasses.replace(plain, total_variation=1.0 if isinstance(told, str) else 1.0 / told)
    if isinstance(prior.normal, float) and prior.length is not None:
        weight = 1.0 / (2 * prior.normal**2 * (2 * prior.length) ** sum(math.isfinite(s) for s in sizes))
        return dataclasses.replace(plain, smooth=weight, mean=start, length=prior.length)
    if prior.lognormal is not None and prior.length is not None:
        level = prior.lognormal if isinstance(prior.lognormal, tuple) else (start, prior.lognormal)
        if len(level) == 2 and level[0] > 0 and level[1] > 0:
            return GaussianField(sizes=sizes, mean=math.log(level[0]), sd=level[1], length=prior.length)
    raise SceneError(
        f"unknowns.{key}.prior: a field takes total_variation, or normal = s.d. with length = metres, as in "
        "{ normal = 1.0, length = 0.01 }, or lognormal = s.d. of the logarithm with length"
    )
