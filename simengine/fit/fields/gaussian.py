"""Gaussian fields on the cells of a box: Matern's, by the square of (1 - length^2 Laplacian), even at the walls.

u = mean + s (1 + length^2 L)^-1 w with white noise w and L the Laplacian of the cells, whose walls let nothing through
(Lindgren, Rue & Lindstrom 2011): once differentiable along a line, of Matern's 3/2, 1 and 1/2 in one, two and three
dimensions. The factor s of each cell makes the standard deviation what is told everywhere, walls and corners included.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianField:
    """Minus the logarithm of the density of a field, or of the logarithm of one, in the shape of its cells.

    Attributes:
        sizes: Of a cell along each axis [m]; infinite along an axis whose entries have nothing to do with one another.
        mean: Of every cell.
        sd: Standard deviation of every cell.
        length: Over which the field is alike [m].
    """

    sizes: tuple[float, ...]
    mean: float
    sd: float
    length: float

    def __call__(self, field: torch.Tensor) -> torch.Tensor:
        """The energy, 0-d."""
        g = (field - self.mean) / self._factor(tuple(field.shape))
        white = g
        for axis, size in self._axes():
            step = g.diff(dim=axis) * (self.length / size) ** 2
            end = torch.zeros_like(g.narrow(axis, 0, 1))
            white = white - torch.cat([step, end], axis) + torch.cat([end, step], axis)
        return white.square().sum() / 2

    def stiffness(self, field: torch.Tensor) -> Any:
        """The Hessian, sparse (n, n) of scipy."""
        from scipy.sparse import diags, eye

        shape = tuple(field.shape)
        root = eye(field.numel(), format="csr")
        for axis, size in self._axes():
            step = differences(shape, axis)
            root = root + (self.length / size) ** 2 * step.T @ step
        root = root @ diags(1 / self._factor(shape).reshape(-1).numpy())
        return root.T @ root

    gaussian: ClassVar[bool] = True
    total_variation: ClassVar[float] = 0.0

    def covariance(self, v: torch.Tensor) -> torch.Tensor:
        """The covariance times fields v (b, *shape)."""
        factor = self._factor(tuple(v.shape[1:]))
        smooth = inverse_of_stiffened((factor * v).numpy(), self.sizes, self.length, 2)
        return factor * torch.from_numpy(smooth)

    def variance(self, shape: Sequence[int]) -> torch.Tensor:
        """Of each cell, in this shape."""
        return torch.full(tuple(shape), self.sd**2, dtype=torch.float64)

    def sampled(self, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        """A draw in a shape of cells, float64."""
        white = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
        smooth = inverse_of_stiffened(white.numpy()[None], self.sizes, self.length, 1)[0]
        return self.mean + self._factor(tuple(shape)) * torch.from_numpy(smooth)

    def _axes(self) -> list[tuple[int, float]]:
        return [(axis, size) for axis, size in enumerate(self.sizes) if math.isfinite(size)]

    def _factor(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self.sd * _evening(shape, self.sizes, self.length)


def inverse_of_stiffened(
    v: NDArray[np.float64], sizes: Sequence[float], length: float, power: int
) -> NDArray[np.float64]:
    """(1 + length^2 L)^-power v of fields (b, *shape), by the cosine transform, which makes L diagonal."""
    from scipy.fft import dctn, idctn

    axes = tuple(axis + 1 for axis, size in enumerate(sizes) if math.isfinite(size))
    symbol = _symbol(v.shape[1:], sizes, length) ** power
    found: NDArray[np.float64] = idctn(dctn(v, axes=axes, norm="ortho") / symbol, axes=axes, norm="ortho")
    return found


def _symbol(shape: Sequence[int], sizes: Sequence[float], length: float) -> NDArray[np.float64]:
    """Eigenvalues of 1 + length^2 L on the cosines, in the shape of the cells."""
    total = np.ones(tuple(shape))
    for axis, size in enumerate(sizes):
        if math.isfinite(size):
            own = (2 * length / size * np.sin(np.pi * np.arange(shape[axis]) / (2 * shape[axis]))) ** 2
            total += own.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return total


def variance_of(shape: Sequence[int], sizes: Sequence[float], length: float, power: int) -> NDArray[np.float64]:
    """Diagonal of (1 + length^2 L)^-power, in the shape of the cells: exact, by squares of the cosines."""
    total = 1 / _symbol(shape, sizes, length) ** power
    for axis, size in enumerate(sizes):
        if math.isfinite(size):
            n = shape[axis]
            mode, place = np.arange(n)[:, None], np.arange(n)[None] + 0.5
            square = np.where(mode == 0, 1.0, 2.0) / n * np.cos(np.pi * mode * place / n) ** 2
            total = np.moveaxis(np.tensordot(total, square, axes=(axis, 0)), -1, axis)
    return total


@functools.lru_cache(maxsize=16)
def _evening(shape: tuple[int, ...], sizes: tuple[float, ...], length: float) -> torch.Tensor:
    """What makes the variance of (1 + length^2 L)^-1 white noise 1 in every cell."""
    return torch.from_numpy(variance_of(shape, sizes, length, 2) ** -0.5)


@functools.lru_cache(maxsize=16)
def differences(shape: tuple[int, ...], axis: int) -> Any:
    """From each cell to the next along an axis, 0 for the last, sparse (n, n)."""
    from scipy.sparse import diags, eye, kron

    count = shape[axis]
    own = diags([[-1.0] * (count - 1) + [0.0], [1.0] * (count - 1)], [0, 1], shape=(count, count))
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return kron(eye(before), kron(own, eye(after)), format="csr")
