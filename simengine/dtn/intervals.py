"""Intervals of 95 %: of figures of pictures, of their differences, of rates.

A resample of pictures repeats the variance of an average precision, but not where it can go: with few objects no
resample misses what no picture of the set missed, and the interpolated curve lies above the true one the more, the
fewer pictures there are. The interval of a figure in [0, 1] is therefore that of a Beta distribution whose mean is the
figure less its bootstrap bias, and whose variance is that of the bootstrap, with Student's factor, beside half an object
found and half an object missed, Jeffreys's prior of a rate. Where every object is found and there is no false alarm it
is Jeffreys's interval of a rate.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from scipy.special import betaincinv, stdtrit

RESAMPLES = 300
TAILS = (0.025, 0.975)
NORMAL = 1.959964


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Statistic = Callable[[torch.Tensor], torch.Tensor]  # how often each picture counts (r, n) -> (r,)


@dataclasses.dataclass(frozen=True)
class Spread:
    """A statistic, and its bias and standard deviation by resampling."""

    value: float
    bias: float
    deviation: float


def spread(statistic: Statistic, objects: torch.Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> Spread:
    """Bootstrap over pictures; resamples without an object, which have no average precision, are left out.

    Args:
        statistic: From how often each picture counts, shape (r, n), to (r,).
        objects: Number of objects in each picture, shape (n,).
        resamples: Number of resamples.
        seed: Of the resamples; the same seed pairs the resamples of two tables.

    Raises:
        ValueError: No picture shows an object.
    """
    n = len(objects)
    if not bool((objects > 0).any()):
        raise ValueError("boxes: no picture shows an object, so that there is no average precision")
    draws = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    weight = torch.zeros(resamples, n).scatter_add(1, draws, torch.ones(draws.shape))
    weight = weight[(weight * objects.to(weight)).sum(1) > 0]
    value = float(statistic(torch.ones(1, n))[0])
    drawn = statistic(weight).double()
    deviation = float(drawn.std(correction=1)) * math.sqrt(n / max(n - 1, 1)) if len(drawn) > 1 else 0.0
    return Spread(value, float(drawn.mean()) - value if len(drawn) else 0.0, deviation)


def _student(objects: float) -> float:
    """By how much Student's bound exceeds the normal one, with one degree of freedom less than objects."""
    return float(stdtrit(max(objects - 1, 1), TAILS[1])) / NORMAL


def share_interval(found: Spread, objects: float) -> Estimate:
    """The interval of a figure in [0, 1], such as an average precision; see the module.

    Args:
        found: The figure.
        objects: Number of objects that it is of.
    """
    mean = (min(max(found.value - found.bias, 0.0), 1.0) * objects + 0.5) / (objects + 1)
    prior = 0.5 * (objects + 0.5) / ((objects + 1) ** 2 * (objects + 2))
    variance = prior + (found.deviation * _student(objects) * objects / (objects + 1)) ** 2
    size = max(mean * (1 - mean) / variance - 1, 0.05)
    low, high = (float(betaincinv(mean * size, (1 - mean) * size, tail)) for tail in TAILS)
    return Estimate(found.value, min(low, found.value), max(high, found.value))


def difference_interval(found: Spread, objects: float) -> Estimate:
    """The interval of a difference of two figures of the same pictures: Student's, about the difference less its bias.

    Args:
        found: The difference.
        objects: Number of objects that it is of.
    """
    middle, reach = found.value - found.bias, NORMAL * _student(objects) * found.deviation
    return Estimate(found.value, min(middle - reach, found.value), max(middle + reach, found.value))


def rate_interval(count: int, number: int) -> Estimate:
    """A rate, count of number, and its exact interval (Clopper and Pearson, Biometrika 26, 1934).

    Raises:
        ValueError: There is nothing to count, or more than all were counted.
    """
    if number < 1 or not 0 <= count <= number:
        raise ValueError(f"count: expected 0 to number = {number}, at least one, got {count}")
    low = float(betaincinv(count, number - count + 1, TAILS[0])) if count else 0.0
    high = float(betaincinv(count + 1, number - count, TAILS[1])) if count < number else 1.0
    return Estimate(count / number, low, high)
