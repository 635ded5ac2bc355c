"""The population behind several fits: its mean, its spread, and each one's own value with the others' help.

Fit i tells y_i with a standard deviation s_i. Specimens lie normally about a mean mu with a spread tau:

    y_i ~ N(theta_i, s_i^2),    theta_i ~ N(mu, tau^2),    mu and tau >= 0 equally likely everywhere

(partial pooling; Gelman, Bayesian Analysis 1 (2006) 515, for tau). Given tau everything is normal, so only tau is
integrated by quadrature. Its posterior falls as tau^(1 - n) only: three fits are the least that tell it, and badly.
"""

import dataclasses
from collections.abc import Sequence

import torch

LEAST = 3  # fits
POINTS = 500  # of the quadrature over tau
LEVELS = (0.5, 0.025, 0.975)


@dataclasses.dataclass(frozen=True)
class Spreading:
    """A number and what it may be.

    Attributes:
        value: Median.
        low: 2.5 % quantile.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled:
    """What several fits tell together of one number.

    Attributes:
        mean: Of the population; of a logarithmic one its median.
        spread: Standard deviation from one member to another, in the value, or of a logarithmic one in the logarithm.
        members: Each one's own value, in the order of the fits.
        another: The value of another member of the population.
        logarithmic: Whether logarithms are normal.
    """

    mean: Spreading
    spread: Spreading
    members: tuple[Spreading, ...]
    another: Spreading
    logarithmic: bool


def pooled(values: Sequence[float], widths: Sequence[float], *, logarithmic: bool = False) -> Pooled:
    """Pool what each of several fits tells by itself.

    Args:
        values: Of each fit, without the help of a prior.
        widths: Their standard deviations.
        logarithmic: Whether the logarithms of members are normal: values are above 0, and a width is taken as its share
            of the value.

    Raises:
        ValueError: There are fewer than three fits, a width is not positive and finite, or a value has no logarithm.
    """
    if len(values) != len(widths):
        raise ValueError(f"expected as many widths as values, got {len(widths)} for {len(values)}")
    if len(values) < LEAST:
        raise ValueError(f"{len(values)} fits: it takes {LEAST} at least to tell how members of a population differ")
    y, s = (torch.tensor(list(v), dtype=torch.float64) for v in (values, widths))
    if not bool(((s > 0) & s.isfinite() & y.isfinite()).all()):
        raise ValueError(f"widths: expected standard deviations above 0, got {list(widths)}")
    if logarithmic:
        if not bool((y > 0).all()):
            raise ValueError(f"logarithmic: expected values above 0, got {min(values):g}")
        y, s = y.log(), s / y
    tau, weight = _spread(y, s)
    center, variance = _center(y, s, tau)
    share = tau.square()[:, None] / (tau.square()[:, None] + s.square())  # of a member's own value in its estimate
    own = share * y + (1 - share) * center[:, None]
    own_variance = share * s.square() + (1 - share).square() * variance[:, None]

    # the mean, another member, and each of them
    means = torch.cat([center[:, None], center[:, None], own], 1)
    variances = torch.cat([variance[:, None], (variance + tau.square())[:, None], own_variance], 1)
    ends = _quantiles(means, variances.sqrt(), weight)
    told = [Spreading(*row) for row in (ends.exp() if logarithmic else ends).tolist()]
    below = weight.cumsum(0)
    spread = [float(tau[min(int(torch.searchsorted(below, p)), len(tau) - 1)]) for p in LEVELS]
    return Pooled(
        mean=told[0],
        spread=Spreading(*spread),
        members=tuple(told[2:]),
        another=told[1],
        logarithmic=logarithmic,
    )


def _center(y: torch.Tensor, s: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (q,) and variance (q,) of mu given each tau (q,)."""
    precision = 1 / (s.square() + tau.square()[:, None])
    variance = 1 / precision.sum(1)
    return variance * (precision * y).sum(1), variance


def _spread(y: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of tau (q,) and their weights (q,), which sum to 1."""
    u = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    scale = torch.maximum(y.std(), s.median())
    tau = scale * u / (1 - u)  # the tail falls as a power: u reaches as far as it does
    center, variance = _center(y, s, tau)
    total = s.square() + tau.square()[:, None]
    log = 0.5 * variance.log() - 0.5 * (total.log() + (y - center[:, None]).square() / total).sum(1)
    log = log - 2 * torch.log1p(-u)  # d tau / d u
    weight = (log - log.max()).exp()
    return tau, weight / weight.sum()


def _quantiles(means: torch.Tensor, widths: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Quantiles (m, 3) of m mixtures of normals (q, m) with weights (q,), by halving."""
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    low = (means - 40 * widths).amin(0)[:, None].expand(-1, len(LEVELS))
    high = (means + 40 * widths).amax(0)[:, None].expand(-1, len(LEVELS))
    for _ in range(60):
        middle = 0.5 * (low + high)
        share = torch.special.ndtr((middle - means[..., None]) / widths[..., None])
        below = torch.einsum("q,qml->ml", weight, share) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def without_prior(value: float, width: float, mean: float, prior: float) -> tuple[float, float]:
    """What the data alone tell where a fit had a normal prior: value and standard deviation.

    Args:
        value: Of the fit.
        width: Its standard deviation, with the prior.
        mean: Of the prior.
        prior: Its standard deviation.

    Raises:
        ValueError: The prior told more than the data.
    """
    told = width**-2 - prior**-2
    if told < 0.5 * width**-2:
        raise ValueError("what is known of it comes from its prior; fit it with a wider one")
    return (value * width**-2 - mean * prior**-2) / told, told**-0.5
