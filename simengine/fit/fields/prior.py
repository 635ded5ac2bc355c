"""What is believed of a field beforehand, as energies of its cells: even with sharp edges, or smooth."""

import dataclasses
import math
from collections.abc import Sequence

import torch

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
        steps = []
        for axis, size in enumerate(self.sizes):
            if math.isinf(size):
                continue
            step = field.diff(dim=axis) / size
            pad = [0, 0] * (field.ndim - 1 - axis) + [0, 1]
            steps.append(torch.nn.functional.pad(step, pad))
        square = torch.stack(steps).square().sum(0)
        cell = math.prod(size for size in self.sizes if math.isfinite(size))
        if self.total_variation:
            rounding = ROUND * self.scale / max(size for size in self.sizes if math.isfinite(size))
            return self.total_variation * cell * ((square + rounding**2).sqrt() - rounding).sum()
        return self.smooth * cell * ((field - self.mean).square().sum() + self.length**2 * square.sum())


def field_energy(
    prior: Prior | None,
    key: str,
    extent: Sequence[tuple[float, float]],
    shape: Sequence[int],
    scale: float,
    start: float,
) -> FieldEnergy:
    """The energy of a prior; the weight of a total variation that is to be estimated is left 1.

    A smooth field has a standard deviation and a length: its energy is the integral of
    ((f - start)^2 + length^2 |grad f|^2) / (2 sd^2 (2 length)^d), the first-order Matern field in d dimensions.

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
    raise SceneError(
        f"unknowns.{key}.prior: a field takes total_variation, or normal = s.d. with length = metres, as in "
        "{ normal = 1.0, length = 0.01 }"
    )
