"""What the rows of observations are worth: how many count as one, and by how much noise is larger than was said.

Rows whose residuals are correlated count as fewer, and where the misfit exceeds the noise, the noise is taken as large
as the misfit. So an error of the model, which makes residuals large and smooth, widens the bars. Where residuals last
in time, errors may be as dependent as they like within a block, over time and over what is observed at once.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch

from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction

LASTING = 2.0  # rows that count as one, above which residuals are no noise
BLOCKS = 8
FINER = (1, 2, 4)  # groups: where a picture shows little, few large ones tell anything
ALONE = 1e-3  # of what is told of a direction, that is taken to be left without a group


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
class Counted:
    """What all rows at a best fit say of p coordinates.

    Attributes:
        worth: By observation.
        information: J' J of the data with each row counted by what it is worth, (p, p).
        priors: J' J of the priors, (p, p).
        scores: As `information`, but with the scatter of blocks of time where residuals last, (p, p).
        weights: Of all rows, priors last, (rows,).
        lasting: Whether residuals of any observation last.
    """

    worth: Mapping[str, Worth]
    information: torch.Tensor
    priors: torch.Tensor
    scores: torch.Tensor
    weights: torch.Tensor
    lasting: bool


def count(problem: Problem, predictions: Mapping[str, Prediction], r: torch.Tensor, j: torch.Tensor) -> Counted:
    """Judge the rows of each observation.

    Args:
        problem: The problem.
        predictions: At the best fit.
        r: Residuals over sigma there, priors last, (rows,).
        j: Their Jacobian (rows, p).
    """
    lengths = {name: int(problem.rows(name).sum()) for name in problem.instruments}
    lengths = {name: length for name, length in lengths.items() if length}
    p, total = j.shape[1], sum(lengths.values())
    priors = j[total:].T @ j[total:]
    told = shares(j[:total], priors)
    worth: dict[str, Worth] = {}
    information, scores = torch.zeros(2, p, p, dtype=torch.float64)
    weights = torch.ones_like(r)
    lasting, offset = False, 0
    for name, length in lengths.items():
        own = slice(offset, offset + length)
        offset += length
        one = worth[name] = _worth(problem, name, predictions[name], r[own], j[own], float(told[own].sum()))
        gram = j[own].T @ j[own] / one.factor
        information += gram
        weights[own] /= one.factor
        if one.correlation > LASTING:
            lasting = True
            scores += _blocks(problem, name, predictions[name], j[own], r[own]) / one.factor**2
        else:
            scores += gram
    return Counted(worth, information, priors, scores, weights, lasting)


def shares(j: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """What each row decides of the numbers sought, (rows,): 0 where priors do, 1 where a row alone tells a number.

    The diagonal of J (J'J + priors)^-1 J'. Its sum are the degrees of freedom that the fit takes from the data
    (Spiegelhalter et al. 2002), by which the expected chi-square is smaller than the number of rows: all numbers where
    priors say little, none where they say all.

    Args:
        j: Jacobian of the data's rows (rows, p).
        priors: Precision of the priors (p, p).
    """
    return (j @ inverse(j.T @ j + priors) * j).sum(1)


def _worth(problem: Problem, name: str, p: Prediction, r: torch.Tensor, j: torch.Tensor, share: float) -> Worth:
    instrument, which = problem.instruments[name], problem.rows(name)
    square = float(r.square().sum())
    reduced = square / max(len(r) - share, 1.0)
    modelled = name in problem.errors  # rows are whitened: what lasts in them is no surprise
    correlation = 1.0
    if not modelled:
        correlation = instrument.rows_as_one(torch.where(which, p.residual, torch.nan), p.measured)
        if instrument.correlation is not None:
            correlation = max(correlation, _rows_within(p, instrument.correlation))
    estimated = name in problem.sigmas
    factor, degrees = max(reduced, 1.0) * correlation, math.inf
    if estimated and not modelled:
        noises = problem.measured[name].noises[which.any(0)].unique()
        degrees = max((len(r) / correlation - share) / len(noises), 1.0)
        factor *= student(degrees)
    for finer in FINER:
        clusters = instrument.clusters(p.measured, finer)
        told = 0.0 if clusters is None else scatter(j, r, clusters[:, None].expand(which.shape)[which])
        if told:
            factor = max(factor, told)
            break
    return Worth(
        chi_square=square,
        rows=len(r),
        reduced=reduced,
        correlation=correlation,
        estimated=estimated,
        factor=factor,
        degrees=degrees,
    )


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


def _rows_within(prediction: Prediction, length: float) -> float:
    abscissa = next(iter(prediction.measured.at.values()), None)
    if abscissa is None or len(abscissa) < 2:
        return 1.0
    ordered = abscissa.sort().values
    return max(1.0, length / max(float(ordered.diff().median()), 1e-300))


def student(degrees: float) -> float:
    """By how much a variance has to be larger for 1.96 of its roots to hold 95 %, where few degrees of freedom tell it.

    Args:
        degrees: Of freedom of the estimated variance; below 1 as if 1.
    """
    from scipy.stats import t

    return (float(t.ppf(0.975, max(degrees, 1.0))) / 1.959964) ** 2


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


def inverse(matrix: torch.Tensor) -> torch.Tensor:
    """The inverse in unit-diagonal scaling; directions without information get a variance of 1e12 of their unit."""
    blind = matrix.diagonal() <= 0
    scale = torch.where(blind, 1.0, matrix.diagonal()).sqrt()
    unit = matrix / torch.outer(scale, scale)
    values, vectors = torch.linalg.eigh(unit)
    return (vectors / values.clamp_min(1e-12)) @ vectors.T / torch.outer(scale, scale)
