"""Intervals of 95 %: of figures of pictures, of their differences, of rates.

A resample of pictures repeats the variance of an average precision, but not where it can go: with few objects no
resample misses what no picture of the set missed, and the interpolated curve lies above the true one the more, the
fewer pictures there are. The interval of a figure in [0, 1] is therefore that of a Beta distribution whose mean is the
figure less its bias, and whose variance is that of the bootstrap, with Student's factor, beside half an object found
and half an object missed, Jeffreys's prior of a rate. Where every object is found and there is no false alarm it is
Jeffreys's interval of a rate.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import betaincinv, stdtrit

RESAMPLES = 300
GROUPS = 300  # of pictures left out in turn
TAILS = (0.025, 0.975)
NORMAL = 1.959964
HALF = 2.0  # see `spread`


@dataclasses.dataclass(frozen=True)
class IntervalEstimate:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Statistic = Callable[[torch.Tensor], torch.Tensor]  # how often each picture counts (r, n) -> (r,)


@dataclasses.dataclass(frozen=True)
class ResampledSpread:
    """A statistic, and its bias and standard deviation by resampling."""

    value: float
    bias: float
    deviation: float


def spread(
    statistic: Statistic, objects: torch.Tensor, *, resamples: int = RESAMPLES, seed: int = 0
) -> ResampledSpread:
    """Bootstrap over pictures; resamples without an object, which have no average precision, are left out.

    The bias is that of half of the pictures, drawn without repetition, against all of them, times `HALF`: the largest
    values that make up an interpolated curve lie too high by the pictures' number to the power -1/2 where the precision
    hangs little on the score, else -2/3, and 1/(2^(1/2) - 1) = 2.4 and 1/(2^(2/3) - 1) = 1.7 lead from half to none.

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
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(n, (resamples, n), generator=generator)
    again = torch.zeros(resamples, n).scatter_add(1, draws, torch.ones(draws.shape))
    half = torch.rand(resamples, n, generator=generator).argsort(1)[:, : max(n // 2, 1)]
    halves = torch.zeros(resamples, n).scatter(1, half, 1.0)

    def drawn(weight: torch.Tensor) -> torch.Tensor:
        return statistic(weight[(weight * objects.to(weight)).sum(1) > 0]).double()

    value, whole, part = float(statistic(torch.ones(1, n))[0]), drawn(again), drawn(halves)
    deviation = float(whole.std()) * math.sqrt(n / max(n - 1, 1)) if len(whole) > 1 else 0.0
    return ResampledSpread(value, HALF * (float(part.mean()) - value) if n > 1 and len(part) else 0.0, deviation)


def _student(objects: float) -> float:
    """By how much Student's bound exceeds the normal one, with one degree of freedom less than objects."""
    return float(stdtrit(max(objects - 1, 1), TAILS[1])) / NORMAL


def share_interval(found: ResampledSpread, objects: float) -> IntervalEstimate:
    """The interval of a figure in [0, 1], such as an average precision; see the module.

    Args:
        found: The figure.
        objects: Number of independent objects that it is of: where they come in clusters, of the clusters.
    """
    mean = (min(max(found.value - found.bias, 0.0), 1.0) * objects + 0.5) / (objects + 1)
    prior = 0.5 * (objects + 0.5) / ((objects + 1) ** 2 * (objects + 2))
    variance = prior + (found.deviation * _student(objects) * objects / (objects + 1)) ** 2
    size = max(mean * (1 - mean) / variance - 1, 0.05)
    low, high = (float(betaincinv(mean * size, (1 - mean) * size, tail)) for tail in TAILS)
    return IntervalEstimate(found.value, min(low, found.value), max(high, found.value))


def jackknife(statistic: Statistic, objects: torch.Tensor, *, groups: int = GROUPS) -> tuple[float, float]:
    """Standard deviation of a statistic without corners, and the slope of its variance over the statistic itself.

    From what it becomes without each of the pictures, or groups of them. Where many pictures tell more than others in
    one direction, another true value has another variance: by their third moment over their second (Efron, Journal of
    the American Statistical Association 82, 1987, who calls a sixth of it, in deviations, the acceleration). Of a rate
    p of n it is (1 - 2 p) / n.

    Args:
        statistic: As of `spread`.
        objects: Number of objects in each picture, shape (n,).
        groups: Most groups; more pictures than these are grouped at random.
    """
    n = len(objects)
    number = min(groups, n)
    group = torch.randperm(n, generator=torch.Generator().manual_seed(0)) % number
    weight = (group != torch.arange(number)[:, None]).float()
    weight = weight[(weight * objects.to(weight)).sum(1) > 0]
    if len(weight) < 2:
        return 0.0, 0.0
    without = statistic(weight).double()
    lever = (len(weight) - 1) * (without.mean() - without)
    second, third = (float((lever**power).mean()) for power in (2, 3))
    return math.sqrt(second / (len(weight) - 1)), third / second / len(weight) if second > 0 else 0.0


def difference_interval(found: ResampledSpread, objects: float, slope: float) -> IntervalEstimate:
    """The interval of a difference of two figures in [0, 1] of the same pictures: a score interval.

    The variance is not that found but that of the difference tried: fewer objects are lost in a sample than in truth
    about as often as more, and then both the difference and its standard deviation come out too small. It is the larger
    one of two: that of paired rates (Tango, Statistics in Medicine 17, 1998, with as many objects of unequal fate as
    give the variance found), which knows of losses where none was seen; and that which changes by the slope found,
    which knows that an object lost with a high score costs more than itself.

    Args:
        found: The difference.
        objects: Number of objects that it is of.
        slope: Of its variance over the difference, as `jackknife` gives it.
    """
    middle = min(max(found.value - found.bias, -1.0), 1.0)
    unequal = max(objects * found.deviation**2 + middle**2, abs(middle)) - abs(middle)  # share, beyond the difference
    bound = NORMAL * _student(objects)

    def end(side: float) -> float:
        inside, outside = 0.0, 1 - side * middle
        for _ in range(60):
            reach = (inside + outside) / 2
            tried = middle + side * reach
            paired = max(unequal + abs(tried) - tried**2, 0.0) / objects
            variance = max(paired, found.deviation**2 + slope * side * reach)
            inside, outside = (reach, outside) if reach**2 <= bound**2 * variance else (inside, reach)
        return middle + side * inside

    return IntervalEstimate(found.value, min(end(-1.0), found.value), max(end(1.0), found.value))


def rate_interval(count: int, number: int, *, comparisons: int = 1) -> IntervalEstimate:
    """A rate, count of number, and its exact interval (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        count: How many of them.
        number: Of all.
        comparisons: As many intervals that hold all together in 95 of 100 (Bonferroni).

    Raises:
        ValueError: There is nothing to count, or more than all were counted.
    """
    if number < 1 or not 0 <= count <= number:
        raise ValueError(f"count: expected 0 to number = {number}, at least one, got {count}")
    tail = TAILS[0] / comparisons
    low = float(betaincinv(count, number - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, number - count, 1 - tail)) if count < number else 1.0
    return IntervalEstimate(count / number, low, high)


def clustered_rate_interval(
    counts: Sequence[int] | np.ndarray, numbers: Sequence[int] | np.ndarray, *, comparisons: int = 1
) -> IntervalEstimate:
    """A rate of objects that come in pictures, and its interval: what happens to those of one picture hangs together.

    Clopper and Pearson's, of as many independent objects as would give the variance found between the pictures (Korn
    and Graubard, Survey Methodology 24, 1998), and never of more than there are. One object a picture gives
    `rate_interval` but for Student's factor, which is close to 1.

    Args:
        counts: Of each picture, the objects counted.
        numbers: Of each picture, its objects.
        comparisons: As many intervals that hold all together in 95 of 100 (Bonferroni).

    Raises:
        ValueError: There is nothing to count, or more than all were counted.
    """
    count, number = np.asarray(counts, dtype=float), np.asarray(numbers, dtype=float)
    own = number > 0
    count, number = count[own], number[own]
    total, pictures = float(number.sum()), len(number)
    exact, tail = rate_interval(int(count.sum()), int(total), comparisons=comparisons), TAILS[0] / comparisons
    if pictures < 2 or not 0 < exact.value < 1 or (count > number).any():
        return exact
    variance = pictures / (pictures - 1) * float(((count - exact.value * number) ** 2).sum()) / total**2
    effective = exact.value * (1 - exact.value) / variance if variance > 0 else total
    student = float(stdtrit(total - 1, 1 - tail) / stdtrit(pictures - 1, 1 - tail))
    effective = min(effective * student**2, total)
    x = exact.value * effective
    low = float(betaincinv(x, effective - x + 1, tail))
    high = float(betaincinv(x + 1, effective - x, 1 - tail))
    return IntervalEstimate(exact.value, low, high)
