"""How sure a fit is where what it leaves is not independent noise but lasts in time."""

import itertools
import math
from collections.abc import Sequence

import torch

Series = Sequence[tuple[int, int]]
"""Shapes (moments, values at each) of the parts of a residual, one after another."""


def lag_correlation(r: torch.Tensor, series: Series) -> float:
    """Correlation of the residual from one moment to the next, 0 for independent noise.

    Args:
        r: Residuals, shape (m,).
        series: What they are.

    Returns:
        Sum of r(t) r(t + 1) over the root of the sums of squares of both, of all series; 0 where nothing is left.
    """
    both = ahead = behind = 0.0
    for part in _parts(r, series):
        both += float((part[1:] * part[:-1]).sum())
        ahead, behind = ahead + float(part[1:].square().sum()), behind + float(part[:-1].square().sum())
    scale = math.sqrt(ahead * behind)
    return both / scale if scale > 0 else 0.0


def block_covariance(j: torch.Tensor, r: torch.Tensor, series: Series, *, blocks: int = 8) -> torch.Tensor:
    """Covariance of an estimate from blocks of time, (J^T J)^-1 (sum_b g_b g_b^T) (J^T J)^-1, with g_b = J_b^T r_b.

    The sandwich for clustered data (Liang & Zeger 1986; here with G/(G - 1) and, since G is small, the squared 97.5 %
    quantile of Student's t with G - 1 degrees of freedom over that of the normal distribution). Within a block errors
    may be as dependent as they like, over time and over what is observed at once; between blocks they are taken as
    independent.

    Args:
        j: Jacobian, shape (m, p).
        r: Residuals at the minimum, shape (m,).
        series: What the rows are.
        blocks: Into how many stretches of time each series is cut, at most.

    Returns:
        Shape (p, p); zeros where there is only one block, which tells nothing.
    """
    scores, start = [], 0
    for moments, values in series:
        count = min(blocks, moments)
        edges = [start + values * (moments * k // count) for k in range(count + 1)]
        scores += [j[a:b].T @ r[a:b] for a, b in itertools.pairwise(edges)]
        start += moments * values
    if len(scores) < 2:
        return j.new_zeros(j.shape[1], j.shape[1])
    from scipy.stats import t

    g, count = torch.stack(scores), len(scores)
    wide = (float(t.ppf(0.975, count - 1)) / 1.959964) ** 2
    inverse = torch.linalg.pinv(j.T @ j, hermitian=True)
    return wide * count / (count - 1) * inverse @ (g.T @ g) @ inverse


def _parts(r: torch.Tensor, series: Series) -> list[torch.Tensor]:
    parts = r.split([moments * values for moments, values in series])
    return [part.reshape(shape) for part, shape in zip(parts, series, strict=True)]
