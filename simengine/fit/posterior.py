"""How sure a fit is: the covariance at the best fit, what the data tell and what they do not, in words.

The covariance is that of Laplace's approximation with Gauss-Newton's matrix, or the exact Hessian, each observation's
rows counted by what they are worth. Where residuals last in time, the sandwich over blocks of time is taken too; the
larger bar counts.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.fit.certainty.curvature import exact
from simengine.fit.certainty.discrepancy import in_words
from simengine.fit.certainty.worth import Worth, count, inverse
from simengine.fit.coordinate import Coordinate
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction

if TYPE_CHECKING:
    from simengine.fit.certainty.resolution import Shift
    from simengine.fit.certainty.sampling import PosteriorSamples
    from simengine.fit.starts import Minimum

IDENTIFIED = 0.5  # of a coordinate's unit, or of its prior's width: more is left open than told
TOGETHER = 0.98  # a correlation above which only a combination is told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number found.

    Attributes:
        value: SI.
        std: Standard deviation.
        low: 2.5 % quantile.
        high: 97.5 % quantile.
        unit: SI.
        identified: Whether the data tell it, rather than the prior or nothing.
        why: Where they do not, why.
        prior_std: Standard deviation of the prior in the value; None without one.
        prior_mean: Centre of the prior in the value, its median where it is lognormal; None without one.
        shift: How far it moves at another resolution, which its bar holds; None where that was not asked.
    """

    value: float
    std: float | None
    low: float | None
    high: float | None
    unit: str = ""
    identified: bool = True
    why: str = ""
    prior_std: float | None = None
    prior_mean: float | None = None
    shift: float | None = None


@dataclasses.dataclass(frozen=True)
class Posterior:
    """The answer of a least-squares fit.

    Attributes:
        estimates: By name, those that the scene asks for.
        covariance: Of all coordinates z, (p, p).
        worth: By observation.
        directions: What is told only together, and what is not told, in words.
        minima: Different ends of several starts, best first.
        samples: What was drawn, where the bars rest on samples.
        moved: How far the answer moves at another resolution, where that was asked.
        linearised: Residual (rows,) and Jacobian (rows, p) at the answer by central differences, where it was had so.
    """

    estimates: Mapping[str, Estimate]
    covariance: torch.Tensor
    worth: Mapping[str, Worth]
    directions: tuple[str, ...]
    minima: "tuple[Minimum, ...]" = ()
    samples: "PosteriorSamples | None" = None
    moved: "Shift | None" = None
    linearised: tuple[torch.Tensor, torch.Tensor] | None = None


def posterior(problem: Problem, z: torch.Tensor, predictions: Mapping[str, Prediction]) -> Posterior:
    """The posterior at the best fit z (p,)."""
    r, j = problem.linearise(z, central=True)
    counted = count(problem, predictions, r, j)
    information, worth = counted.information, counted.worth
    precision = information + counted.priors
    if problem.scene.inference.hessian == "exact":
        precision = exact(problem, z, counted.weights * r, precision)
    covariance = inverse(precision)
    if counted.lasting:
        covariance = _larger(covariance, covariance @ (counted.scores + counted.priors) @ covariance)
    estimates = estimates_of(problem, z, covariance, information, worth)
    said = _directions(problem, covariance, information, estimates)
    for name, error in problem.errors.items():
        said += tuple(in_words(name, problem.measured[name], error, predictions[name].sigma))
    return Posterior(estimates, covariance, worth, said, linearised=(r, j))


def _larger(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The first covariance with each variance raised to that of the second where it is larger."""
    ratio = (b.diagonal() / a.diagonal().clamp_min(1e-300)).clamp_min(1.0).sqrt()
    return a * torch.outer(ratio, ratio)


def _slope(c: Coordinate, z: torch.Tensor) -> tuple[float, float]:
    with torch.enable_grad():
        own = z.detach().requires_grad_()
        value = c.value(own)
        return float(value.detach()), float(torch.autograd.grad(value, own)[0])


def estimates_of(
    problem: Problem,
    z: torch.Tensor,
    covariance: torch.Tensor,
    information: torch.Tensor,
    worth: Mapping[str, Worth],
) -> dict[str, Estimate]:
    """The numbers that the scene asks for at z (p,), with bars.

    Args:
        problem: The problem.
        z: Coordinates of the best fit.
        covariance: Of the coordinates (p, p).
        information: What the data alone tell, (p, p).
        worth: By observation, for standard deviations that are sought.
    """
    found: dict[str, Estimate] = {}
    for index, c in enumerate(problem.coordinates):
        if not c.chosen:
            continue
        value, slope = _slope(c, z[index])
        if index in problem.sought_sigmas:
            found[c.name] = _of_sigma(problem, index, worth)
            continue
        z_std = float(covariance[index, index].clamp_min(0).sqrt())
        low, high = sorted(float(c.value(z[index] + s * 1.96 * z_std)) for s in (-1.0, 1.0))
        prior = mean = None
        if not math.isnan(c.sd):
            prior, mean = (c.sd * value, math.exp(c.mean)) if c.logarithmic else (c.sd, c.mean)
        blind = not float(information[index, index]) > 0
        std = abs(slope) * z_std
        limit = IDENTIFIED * prior if prior is not None else IDENTIFIED * abs(slope)
        known = not blind and std < limit and math.isfinite(std)
        why = (
            ""
            if known
            else "the observations do not depend on it"
            if blind
            else ("what is known of it comes from its prior" if prior is not None else "the data leave it open")
        )
        spread = math.isfinite(std) and not (blind and prior is None)
        found[c.name] = Estimate(
            value=value,
            std=std if spread else None,
            low=low if spread else None,
            high=high if spread else None,
            unit=c.unit,
            identified=known,
            why=why,
            prior_std=prior,
            prior_mean=mean,
        )
    return found


def _of_sigma(problem: Problem, index: int, worth: Mapping[str, Worth]) -> Estimate:
    """A sought standard deviation: n independent residuals tell its logarithm to 1/sqrt(2 n), and its prior adds."""
    c, value = problem.coordinates[index], problem.sought_sigma(index)
    own = [worth[name] for name in problem.sought_sigmas[index] if name in worth]
    precision = 2 * sum(w.rows / w.correlation for w in own)
    if not math.isnan(c.sd):
        precision += 1 / (c.sd if c.logarithmic else c.sd / value) ** 2
    if not precision > 0:
        return Estimate(
            value=value, std=None, low=None, high=None, unit=c.unit, identified=False, why="nothing is fitted"
        )
    log_std = precision**-0.5
    low, high = (value * math.exp(s * 1.96 * log_std) for s in (-1.0, 1.0))
    return Estimate(value=value, std=value * log_std, low=low, high=high, unit=c.unit)


def _directions(
    problem: Problem, covariance: torch.Tensor, information: torch.Tensor, estimates: dict[str, Estimate]
) -> tuple[str, ...]:
    """Combinations that the data tell where they do not tell the numbers; marks the estimates that they concern."""
    chosen = [
        k
        for k, c in enumerate(problem.coordinates)
        if c.chosen and k not in problem.sought_sigmas and float(information[k, k]) > 0
    ]
    said: list[str] = []
    std = covariance.diagonal().clamp_min(1e-300).sqrt()
    for a_position, a in enumerate(chosen):
        for b in chosen[a_position + 1 :]:
            correlation = float(covariance[a, b] / (std[a] * std[b]))
            # alone, if the other were known
            alone = std[a] * math.sqrt(max(1 - correlation**2, 0.0))
            if abs(correlation) > TOGETHER and float(std[a]) > 5 * float(alone):
                first, second = problem.coordinates[a].name, problem.coordinates[b].name
                power = float(std[a] / std[b])
                sign = "/" if correlation > 0 else "*"
                exponent = "" if abs(power - 1) < 0.1 else f"^{power:.2g}"
                said.append(
                    f"{first} and {second} are told only together (correlation {correlation:+.4f}): "
                    f"{first} {sign} {second}{exponent}, not each alone"
                )
                for name in (first, second):
                    e = estimates[name]
                    estimates[name] = dataclasses.replace(
                        e,
                        identified=False,
                        why=e.why or f"told only together with {second if name == first else first}",
                    )
    said += [f"{name}: {e.why}" for name, e in estimates.items() if e.why and "together" not in e.why]
    return tuple(dict.fromkeys(said))


def sampled(problem: Problem, z: torch.Tensor, covariance: torch.Tensor, count: int, seed: int) -> list[torch.Tensor]:
    """Draws from the posterior in z, (p,) each."""
    generator = torch.Generator().manual_seed(seed)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()
    return [z + root @ torch.randn(len(z), generator=generator, dtype=torch.float64) for _ in range(count)]


def bands(problem: Problem, z: torch.Tensor, covariance: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Standard deviation of each prediction from what is uncertain, to first order, (rows, columns)."""
    here = problem.predict(z, names)
    out = {name: torch.zeros_like(p.values) for name, p in here.items()}
    values, vectors = torch.linalg.eigh(covariance)
    for k in range(len(z)):
        direction = vectors[:, k] * values[k].clamp_min(0).sqrt()
        size = float(direction.abs().max())
        if size < 1e-12:
            continue
        step = min(1.0, 1e-3 / size)
        ahead = problem.predict(z + step * direction, names)
        for name in names:
            out[name] += ((ahead[name].values - here[name].values) / step).square()
    return {name: value.sqrt() for name, value in out.items()}
