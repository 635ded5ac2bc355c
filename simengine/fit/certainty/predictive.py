"""How well a model tells rows that it has not seen, from the rows that it has: leave one out, and WAIC.

Where the bars are Laplace's, both are closed forms of the linear model at the best fit: a row of leverage h, left out,
is told with the residual r / (1 - h) and the variance sigma^2 / (1 - h). Where the posterior was sampled they are by
ArviZ (Vehtari, Gelman & Gabry 2017), with its Pareto k for rows that the draws tell too little about. Standard
deviations that are estimated stand at their best.
"""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.fit.certainty.worth import inverse
from simengine.fit.posterior import Posterior
from simengine.fit.problem import Problem

MOST = 100_000  # rows of which each one's share is kept
HARD = 0.7  # Pareto k, or leverage, of a row that decides too much for its left-out value to be trusted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictive:
    """What is told of rows left out.

    Attributes:
        loo: Logarithm of the density of each row told by all others, (rows,).
        waic: The same by WAIC, (rows,).
        numbers: Effective numbers that the data tell, by leaving one out.
        hard: Rows that decide too much to be trusted.
        by: ellipse or ArviZ.
    """

    loo: NDArray[np.float64]
    waic: NDArray[np.float64]
    numbers: float
    hard: int
    by: str

    def summary(self) -> dict[str, Any]:
        """Sums with standard errors, for fit.json."""
        return {
            "loo": float(self.loo.sum()),
            "loo_standard_error": error_of(self.loo),
            "waic": float(self.waic.sum()),
            "waic_standard_error": error_of(self.waic),
            "effective_numbers": self.numbers,
            "rows": len(self.loo),
            "rows_that_decide_too_much": self.hard,
            "by": self.by,
        }


def error_of(rows: NDArray[np.float64]) -> float:
    """Standard error of the sum of rows (n,)."""
    return math.sqrt(len(rows)) * float(rows.std(ddof=1)) if len(rows) > 1 else 0.0


def predictive(problem: Problem, z: torch.Tensor, found: Posterior) -> Predictive:
    """Rows left out, at the best fit z (p,).

    Args:
        problem: Whose data.
        z: The best fit, (p,).
        found: Its posterior.
    """
    names = [name for name in problem.instruments if bool(problem.rows(name).any())]
    instruments = problem.instruments_at(z)
    sigma = torch.cat([problem.sigma(name, instruments[name])[problem.rows(name)] for name in names])
    heights = -sigma.log() - 0.5 * math.log(2 * math.pi)  # of the density of a row without a residual
    samples = found.samples
    if samples is not None and samples.converged and samples.rows is not None and len(samples.rows) > 1:
        by_draws = _of_draws(samples.rows, heights.numpy(), min(samples.effective.values()) / samples.log_density.size)
        if by_draws is not None:
            return by_draws
    r, j = problem.linearise(z, central=True) if found.linearised is None else found.linearised
    leverage = ((j @ inverse(j.T @ j)) * j).sum(1)[: len(sigma)]
    return of_linear(r[: len(sigma)], leverage, heights)


def of_linear(r: torch.Tensor, leverage: torch.Tensor, heights: torch.Tensor) -> Predictive:
    """Of a linear model with normal noise and priors.

    Args:
        r: Residuals over sigma at the best fit, (rows,).
        leverage: Variance of each prediction over that of its noise, (rows,).
        heights: Logarithm of the density of a row at a residual of 0, (rows,).
    """
    h = leverage.clamp(0.0, 1 - 1e-9)
    told = heights - 0.5 * (1 + h).log() - 0.5 * r.square() / (1 + h)
    loo = heights + 0.5 * (1 - h).log() - 0.5 * r.square() / (1 - h)
    waic = told - h * r.square() - 0.5 * h.square()  # less the variance of the log density over the posterior
    return Predictive(
        loo=loo.numpy(),
        waic=waic.numpy(),
        numbers=float((told - loo).sum()),
        hard=int((h > HARD).sum()),
        by="ellipse",
    )


def _of_draws(rows: NDArray[np.float32], heights: NDArray[np.float64], share: float) -> Predictive | None:
    """By ArviZ, from residuals over sigma (draws, rows) of draws of which such a share is independent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import arviz
    except ImportError:
        return None
    likelihood = (heights - 0.5 * np.square(rows.astype(np.float64)))[None]
    data = arviz.from_dict(posterior={"draw": np.zeros(likelihood.shape[:2])}, log_likelihood={"y": likelihood})
    with warnings.catch_warnings():
        for begins in ("Estimated shape parameter of Pareto", "For one or more samples the posterior variance"):
            warnings.filterwarnings("ignore", begins, UserWarning)  # `hard` counts such rows
        loo = arviz.loo(data, pointwise=True, reff=min(share, 1.0))
        waic = arviz.waic(data, pointwise=True)
    return Predictive(
        loo=np.asarray(loo.loo_i).ravel(),
        waic=np.asarray(waic.waic_i).ravel(),
        numbers=float(loo.p_loo),
        hard=int((np.asarray(loo.pareto_k) > HARD).sum()),
        by="ArviZ",
    )
