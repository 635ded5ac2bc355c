"""Bars from fits of resampled residuals: moving blocks of them, so that correlated errors stay correlated.

What was measured is replaced by what the best fit predicts plus blocks of its own residuals (Künsch 1989; lengths by
Politis & White 2004 for the correlation seen), all columns and marks of a moment together, and refitted from the best
fit by Gauss-Newton steps with the Jacobian there. What a prior tells is drawn from it too.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from simengine.fit.certainty.sampling import PosteriorSamples
from simengine.fit.certainty.worth import inverse, shares, student
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction
from simengine.scene.base import Refused, SceneError

STEPS = 8  # of a refit, at most
SETTLED = 1e-2  # chi-square by which the last step moves
HALVINGS = 4  # of a step that has no run, or leads up
LOST = 0.5  # of the variance, that is made up for at most
FEWEST = 0.9  # share of the replicas that must be there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampling:
    """What is drawn from of one observation.

    Attributes:
        predicted: Of the best fit, (rows, columns).
        sigma: Of each value, (rows, columns).
        residual: Measured less predicted over sigma, made as large as errors are, (rows, columns); 0 where nothing is
            compared.
        moments: Numbers of the rows of each moment, in their order, (moments, rows of one).
        block: Moments in a block.
    """

    predicted: torch.Tensor
    sigma: torch.Tensor
    residual: torch.Tensor
    moments: torch.Tensor
    block: int

    def drawn(self, generator: torch.Generator) -> torch.Tensor:
        """A set of measured values, (rows, columns)."""
        count = len(self.moments)
        starts = torch.randint(count - self.block + 1, (-(-count // self.block),), generator=generator)
        source = (starts[:, None] + torch.arange(self.block)).reshape(-1)[:count]
        values = self.predicted.clone()
        here, there = self.moments.reshape(-1), self.moments[source].reshape(-1)
        values[here] += self.residual[there] * self.sigma[here]  # each row's noise has its own size
        return values


def resampling(problem: Problem, name: str, p: Prediction, numbers: float) -> Resampling:
    """Residuals of an observation in the order of its abscissa, centred, as large as errors are.

    Args:
        problem: The problem, at its best fit.
        name: Of the observation.
        p: Its prediction there.
        numbers: That its rows tell.
    """
    which, measured = problem.rows(name), p.measured
    abscissa = next(iter(measured.at.values()), torch.arange(len(which), dtype=torch.float64))
    seen = which.any(1).nonzero()[:, 0]
    order = seen[abscissa[seen].argsort(stable=True)]
    _, counts = abscissa[order].unique_consecutive(return_counts=True)
    together = int(counts[0]) if bool((counts == counts[0]).all()) else 1
    moments = order.reshape(-1, together)
    gap = torch.where(which, measured.values - p.values, 0.0) / p.sigma
    gap = torch.where(which, gap - gap.sum(0) / which.sum(0).clamp_min(1), 0.0)
    rows = int(which.sum())
    reduced = float(gap.square().sum()) / max(rows - numbers, 1.0)
    grown = (reduced if name in problem.sigmas else max(reduced, 1.0)) / max(float(gap.square().sum()) / rows, 1e-300)
    instrument = problem.instruments[name]
    one = instrument.rows_as_one(torch.where(which, p.residual, torch.nan), measured)
    if instrument.correlation is not None and len(moments) > 1:
        spacing = float(abscissa[moments[:, 0]].diff().median())
        one = max(one, instrument.correlation / max(spacing, 1e-300))
    rho = (one - 1) / (one + 1)
    block = math.ceil((math.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * len(moments) ** (1 / 3))
    block = min(max(block, 1), max(len(moments) // 4, 1))
    grown *= student(len(moments) / block - 1)  # so few blocks tell how much errors vary
    # correlation across the ends of blocks is lost: of an autoregression that is this share of a mean's variance
    grown /= 1 - min(2 * rho / ((1 - rho) ** 2 * block * one), LOST)
    return Resampling(predicted=p.values, sigma=p.sigma, residual=gap * math.sqrt(grown), moments=moments, block=block)


def refitted(problem: Problem, z: torch.Tensor, numbers: Sequence[int], seed: int) -> dict[int, torch.Tensor]:
    """The best fits of some replicas by their numbers, (p,) each; those without a fit are left out.

    Args:
        problem: At its last stage.
        z: The best fit, (p,).
        numbers: Of the replicas: each has its own random numbers, whoever refits it.
        seed: Of all of them.

    Raises:
        SceneError: An observation has a discrepancy, which says how its residuals hang together already.
    """
    if problem.errors:
        name = next(iter(problem.errors))
        raise SceneError(
            f'inference.posterior: "bootstrap" resamples residuals, and observations.{name} has a discrepancy '
            "that models them; leave one of the two out"
        )
    _, j = problem.linearise(z, central=True)
    told = (j.square().sum(0) > 0).nonzero()[:, 0]
    own = j[:, told]
    step_of = inverse(own.T @ own) @ own.T
    predictions = {n: p for n, p in problem.predict(z).items() if bool(problem.rows(n).any())}
    total = sum(int(problem.rows(n).sum()) for n in predictions)
    decided = shares(j[:total], j[total:].T @ j[total:])
    lengths = [int(problem.rows(n).sum()) for n in predictions]
    sets = {
        n: resampling(problem, n, p, float(share.sum()))
        for (n, p), share in zip(predictions.items(), decided.split(lengths), strict=True)
    }
    measured, found = dict(problem.measured), dict[int, torch.Tensor]()
    try:
        for number in numbers:
            generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + number)
            for n, own_set in sets.items():
                problem.measured[n] = dataclasses.replace(measured[n], values=own_set.drawn(generator))
            priors = torch.randn(len(j) - total, generator=generator, dtype=torch.float64)
            end = _refit(problem, z, own, step_of, told, priors)
            if end is not None:
                found[number] = end
    finally:
        problem.measured.update(measured)
    return found


def _refit(
    problem: Problem, z: torch.Tensor, j: torch.Tensor, step_of: torch.Tensor, told: torch.Tensor, priors: torch.Tensor
) -> torch.Tensor | None:
    def rows(here: torch.Tensor) -> torch.Tensor:
        r = problem.residual(here)
        return torch.cat([r[: len(r) - len(priors)], r[len(r) - len(priors) :] + priors])

    z, r = z.clone(), rows(z)
    for _ in range(STEPS):
        step = -step_of @ r
        if float((j @ step).square().sum()) < SETTLED:
            return z
        for _ in range(HALVINGS):
            ahead = z.clone()
            ahead[told] += step
            try:
                there = rows(ahead)
            except Refused:
                there = None
            if there is not None and float(there.square().sum()) < float(r.square().sum()) + SETTLED:
                break
            step = step / 2
        else:
            return None
        z, r = ahead, there
    return None


def bootstrap(problem: Problem, z: torch.Tensor, found: dict[int, torch.Tensor], asked: int) -> PosteriorSamples:
    """Replicas as samples: the bars are their quantiles.

    Args:
        problem: That was solved.
        z: The best fit, (p,).
        found: What `refitted` gave, by number.
        asked: How many replicas were asked for.
    """
    ends = torch.stack([found[number] for number in sorted(found)]) if found else z[None]
    values, told = {}, {}
    for k, c in enumerate(problem.coordinates):
        if c.chosen and k not in problem.sought_sigmas:
            values[c.name] = c.value(ends[:, k]).numpy()[None]
            told[c.name] = bool((ends[:, k] != z[k]).any())
    values = {name: own for name, own in values.items() if told[name]}  # a number that no row tells has no replicas
    return PosteriorSamples(
        values=values,
        log_density=np.zeros((1, len(ends))),
        r_hat=dict.fromkeys(values, 1.0),
        effective=dict.fromkeys(values, float(len(ends))),
        converged=len(found) >= FEWEST * asked,
        divergences=asked - len(found),
        evaluations=len(found),
        method="bootstrap",
    )
