"""How sure a fit is: the covariance at the best fit, what the data tell and what they do not, in words.

The covariance is that of Laplace's approximation with Gauss-Newton's matrix, or the exact Hessian, each observation's
rows counted by what they are worth: rows whose residuals are correlated count as fewer, and where the misfit exceeds
the noise, the noise is taken as large as the misfit. So an error of the model, which makes residuals large and smooth,
widens the bars.
Where residuals last in time, the sandwich over blocks of time is taken too, in which errors may be as dependent as they
like within a block, over time and over what is observed at once; the larger bar counts.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.fit.certainty.curvature import exact
from simengine.fit.certainty.discrepancy import in_words
from simengine.fit.coordinate import Coordinate
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction

if TYPE_CHECKING:
    from simengine.fit.certainty.resolution import Shift
    from simengine.fit.certainty.sampling import PosteriorSamples
    from simengine.fit.starts import Minimum

IDENTIFIED = 0.5  # of a coordinate's unit, or of its prior's width: more is left open than told
LASTING = 2.0  # rows that count as one, above which residuals are no noise
BLOCKS = 8
ALONE = 1e-3  # of what is told of a direction, that is taken to be left without a group
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worth:
    """What the rows of an observation are worth.

    Attributes:
        chi_square: Of the rows compared.
        rows: Their number.
        reduced: chi_square over the rows less their share of the unknowns.
        correlation: Rows that count as one.
        estimated: Whether its sigma was estimated, so that chi-square judges nothing.
        factor: By which its variance is taken larger.
        degrees: Of freedom that tell its estimated variance, by which the factor is Student's; inf where it is given.
    """

    chi_square: float
    rows: int
    reduced: float
    correlation: float
    estimated: bool
    factor: float
    degrees: float = math.inf


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
    names = [name for name in problem.instruments if bool(problem.rows(name).any())]
    p = len(z)
    r, j = problem.linearise(z, central=True)
    lengths = {name: int(problem.rows(name).sum()) for name in names}
    total = sum(lengths.values())
    worth: dict[str, Worth] = {}
    information = torch.zeros(p, p, dtype=torch.float64)
    meat = torch.zeros(p, p, dtype=torch.float64)
    weights = torch.ones_like(r)
    lasting = False
    offset = 0
    effective = p - int(sum(1 for c in problem.coordinates if not c.chosen))
    for name in names:
        own = slice(offset, offset + lengths[name])
        offset += lengths[name]
        share = effective * lengths[name] / max(total, 1)
        square = float(r[own].square().sum())
        reduced = square / max(lengths[name] - share, 1.0)
        series = torch.where(problem.rows(name), predictions[name].residual, torch.nan)
        modelled = name in problem.errors  # rows are whitened: what lasts in them is no surprise
        correlation = 1.0
        if not modelled:
            correlation = problem.instruments[name].rows_as_one(series, predictions[name].measured)
        stated = problem.instruments[name].correlation
        if stated is not None and not modelled:
            correlation = max(correlation, _rows_within(predictions[name], stated))
        estimated = name in problem.sigmas
        factor, degrees = max(reduced, 1.0) * correlation, math.inf
        if estimated and not modelled:
            noises = problem.measured[name].noises[problem.rows(name).any(0)].unique()
            degrees = max((lengths[name] / correlation - share) / len(noises), 1.0)
            factor *= student(degrees)
        clusters = problem.instruments[name].clusters(predictions[name].measured)
        if clusters is not None:
            which = problem.rows(name)
            factor = max(factor, scatter(j[own], r[own], clusters[:, None].expand(which.shape)[which]))
        worth[name] = Worth(
            chi_square=square,
            rows=lengths[name],
            reduced=reduced,
            correlation=correlation,
            estimated=estimated,
            factor=factor,
            degrees=degrees,
        )
        information += j[own].T @ j[own] / factor
        weights[own] /= factor
        if correlation > LASTING:
            lasting = True
            meat += _blocks(problem, name, predictions[name], j[own], r[own]) / factor**2
        else:
            meat += j[own].T @ j[own] / factor
    priors = j[offset:].T @ j[offset:]
    precision = information + priors
    if problem.scene.inference.hessian == "exact":
        precision = exact(problem, z, weights * r, precision)
    covariance = inverse(precision)
    if lasting:
        covariance = _larger(covariance, covariance @ (meat + priors) @ covariance)
    estimates = estimates_of(problem, z, covariance, information, worth)
    said = _directions(problem, covariance, information, estimates)
    for name, error in problem.errors.items():
        said += tuple(in_words(name, problem.measured[name], error, predictions[name].sigma))
    return Posterior(estimates, covariance, worth, said, linearised=(r, j))


def _blocks(problem: Problem, name: str, p: Prediction, j: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Sum over blocks of g g^T with g = J_b^T r_b (Liang & Zeger 1986), scaled by G/(G - 1) and Student's t for few."""
    which = problem.rows(name)
    abscissa = next(iter(p.measured.at.values()), torch.arange(len(which), dtype=torch.float64))
    row = abscissa[:, None].expand_as(which)[which]
    moments = row.unique()
    count = min(BLOCKS, len(moments))
    if count < 2:
        return j.T @ j
    edges = moments[[len(moments) * k // count for k in range(1, count)]]
    block = torch.bucketize(row, edges, right=True)
    scores = torch.stack([j[block == k].T @ r[block == k] for k in range(count)])
    return student(count - 1) * count / (count - 1) * scores.T @ scores


def student(degrees: float) -> float:
    """By how much a variance has to be larger for 1.96 of its roots to hold 95 %, where few degrees of freedom tell it.

    Args:
        degrees: Of freedom of the estimated variance; below 1 as if 1.
    """
    from scipy.stats import t

    return (float(t.ppf(0.975, max(degrees, 1.0))) / 1.959964) ** 2


def _larger(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The first covariance with each variance raised to that of the second where it is larger."""
    ratio = (b.diagonal() / a.diagonal().clamp_min(1e-300)).clamp_min(1.0).sqrt()
    return a * torch.outer(ratio, ratio)


def scatter(j: torch.Tensor, r: torch.Tensor, clusters: torch.Tensor) -> float:
    """By how much the scores of groups of rows scatter more than independent noise of variance 1 would.

    The largest ratio, over all directions, of the variance that the jackknife over groups tells (CR3 of Bell &
    McCaffrey 2002, with Student's t for the number of groups) to that of (J'J)^-1; 0 where there are too few groups to
    tell. The plain sandwich is too small where few groups tell many numbers: residuals of a fit are smaller than
    errors, the more so in a group that tells much.

    Args:
        j: Jacobian (m, p).
        r: Residuals over sigma at the best fit, (m,).
        clusters: Group of each row, (m,).
    """
    _, number = torch.unique(clusters, return_inverse=True)
    gram = j.T @ j
    moved = gram.diagonal() > 0
    if not bool(moved.any()):
        return 0.0
    values, vectors = torch.linalg.eigh(gram[moved][:, moved])
    white = j[:, moved] @ (vectors / values.clamp_min(1e-12 * float(values.max())).sqrt())
    of = [number == k for k in range(int(number.max()) + 1)]
    of = [own for own in of if bool((white[own] != 0).any())]
    count = len(of)
    if count < 2 * int(moved.sum()):
        return 0.0
    unit = torch.eye(white.shape[1], dtype=j.dtype)
    # (1 - J_g' J_g)^-1 J_g' r_g is how far the fit moves without the group; where only the group tells, ALONE is left
    moves = []
    for own in of:
        left, axes = torch.linalg.eigh(unit - white[own].T @ white[own])
        moves.append((axes / left.clamp_min(ALONE)) @ (axes.T @ (white[own].T @ r[own])))
    scores = torch.stack(moves)
    return (count - 1) / count * student(count - 1) * float(torch.linalg.eigvalsh(scores.T @ scores)[-1])


def _rows_within(prediction: Prediction, length: float) -> float:
    abscissa = next(iter(prediction.measured.at.values()), None)
    if abscissa is None or len(abscissa) < 2:
        return 1.0
    ordered = abscissa.sort().values
    return max(1.0, length / max(float(ordered.diff().median()), 1e-300))


def inverse(matrix: torch.Tensor) -> torch.Tensor:
    """The inverse in unit-diagonal scaling; directions without information get a variance of 1e12 of their unit."""
    blind = matrix.diagonal() <= 0
    scale = torch.where(blind, 1.0, matrix.diagonal()).sqrt()
    unit = matrix / torch.outer(scale, scale)
    values, vectors = torch.linalg.eigh(unit)
    return (vectors / values.clamp_min(1e-12)) @ vectors.T / torch.outer(scale, scale)


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
