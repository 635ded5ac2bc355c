"""Functions of one coordinate: polynomials on an interval, waves on a circle; their derivatives and quadratures."""

import abc
import dataclasses
import itertools
import math

import numpy as np
import torch
from numpy.polynomial import legendre


@dataclasses.dataclass(frozen=True)
class AbstractAxis(abc.ABC):
    """A coordinate.

    Attributes:
        low: Its least value.
        high: Its largest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"axis: expected low < high, got {self.low:g} and {self.high:g}")

    @property
    def length(self) -> float:
        """High - low."""
        return self.high - self.low

    @abc.abstractmethod
    def values(self, x: torch.Tensor, n: int, derivative: int, zero: tuple[bool, bool]) -> torch.Tensor:
        """A derivative of n functions at places x (q,), shape (q, n).

        Args:
            x: Places.
            n: Functions; those of a smaller n come first, or span the same.
            derivative: 0 for the functions themselves.
            zero: Whether all functions vanish at the lower and at the upper end.
        """

    @abc.abstractmethod
    def quadrature(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Places and weights of at least `count` points, (q,) each."""


@dataclasses.dataclass(frozen=True)
class Interval(AbstractAxis):
    """Legendre polynomials, times the distances to the ends where they are to vanish; Gauss points between breaks.

    Attributes:
        breaks: Places where coefficients jump or the boundary has a corner.
    """

    breaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for place in self.breaks:
            if not self.low < place < self.high:
                raise ValueError(f"breaks: expected places within ({self.low:g}, {self.high:g}), got {place:g}")

    def values(self, x: torch.Tensor, n: int, derivative: int, zero: tuple[bool, bool]) -> torch.Tensor:
        """Polynomials up to degree n - 1, times a factor of degree 0 to 2."""
        s = (2 * x.numpy() - self.low - self.high) / self.length
        factor = np.array([1.0])
        for wanted, line in zip(zero, ([1.0, 1.0], [1.0, -1.0]), strict=True):
            factor = legendre.legmul(factor, line) if wanted else factor
        columns = []
        for k in range(n):
            series = legendre.legmul(np.eye(k + 1)[k], factor)
            series = legendre.legder(series, derivative, scl=2 / self.length) if derivative else series
            columns.append(np.broadcast_to(legendre.legval(s, series), s.shape))
        return torch.from_numpy(np.stack(columns, -1))

    def quadrature(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gauss points, shared among the pieces by length."""
        edges = (self.low, *sorted(self.breaks), self.high)
        places, weights = [], []
        for a, b in itertools.pairwise(edges):
            s, w = legendre.leggauss(max(4, math.ceil(count * (b - a) / self.length)))
            places.append(a + (s + 1) / 2 * (b - a))
            weights.append(w * (b - a) / 2)
        return torch.from_numpy(np.concatenate(places)), torch.from_numpy(np.concatenate(weights))


@dataclasses.dataclass(frozen=True)
class Circle(AbstractAxis):
    """Sines and cosines, the constant first; equally spaced points."""

    def values(self, x: torch.Tensor, n: int, derivative: int, zero: tuple[bool, bool]) -> torch.Tensor:
        """1, cos, sin, cos 2, sin 2, ...; an odd number of them."""
        n += 1 - n % 2
        k = torch.arange(n, dtype=torch.float64)  # a number times integers would be of single precision
        number = 2 * math.pi / self.length * torch.div(k + 1, 2, rounding_mode="floor")
        # cos(a) -> -sin(a) -> -cos(a): each derivative moves the angle by a quarter
        shift = math.pi / 2 * (derivative - (k % 2 == 0).double() * (k > 0))
        return number**derivative * torch.cos(number * (x[:, None] - self.low) + shift)

    def quadrature(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Equal weights."""
        x = self.low + self.length * torch.arange(count, dtype=torch.float64) / count
        return x, torch.full_like(x, self.length / count)
