"""Profile likelihoods: the least misfit with one number held, for what no ellipse describes."""

import dataclasses
import math

import torch

from simengine.fit.certainty.density import FAR
from simengine.fit.inference import MAX_STEP
from simengine.fit.posterior import Posterior
from simengine.fit.problem import Problem
from simengine.scene.base import Refused, SceneError

LEVEL = 3.841459  # drop of -2 log likelihood of a 95 % interval
TRIALS = 12  # of the inner fit at each held value
GROWTH = 1.5  # of the steps outward
POINTS = 12  # on each side


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisfitProfile:
    """The least misfit over everything else.

    Attributes:
        name: Of the number.
        values: Growing (n,), SI.
        misfit: Above the best, in units of chi-square as the bars count it, (n,).
        low: Where it crosses the 95 % level below; None where it never does: the data give no lower bound.
        high: The same above.
    """

    name: str
    values: torch.Tensor
    misfit: torch.Tensor
    low: float | None
    high: float | None


def profile(problem: Problem, z: torch.Tensor, found: Posterior, name: str) -> MisfitProfile:
    """The profile of one number about the best fit z (p,).

    Raises:
        SceneError: It is not sought.
    """
    names = [c.name for c in problem.coordinates if c.chosen]
    if name not in names:
        raise SceneError(f"profile: {name!r} is not sought; known: {', '.join(names)}")
    index = [c.name for c in problem.coordinates].index(name)
    c = problem.coordinates[index]
    weights = {key: 1 / worth.factor for key, worth in found.worth.items()}
    free = [k for k in range(len(z)) if k != index and k not in problem.sought_sigmas]
    best = float(_chi(problem, z, weights))
    width = min(float(found.covariance[index, index].clamp_min(0).sqrt()), 1.0) or 1.0
    sides: list[list[tuple[float, float]]] = []
    ends: list[float | None] = []
    for sign in (-1.0, 1.0):
        side, step, here, at = [(0.0, 0.0)], 0.5 * width, z.clone(), 0.0
        end: float | None = None
        for _ in range(POINTS):
            at += sign * step
            if abs(float(z[index]) + at) > FAR:
                break
            moved = here.clone()
            moved[index] = z[index] + at
            try:
                here, chi = _inner(problem, moved, free, weights)
            except Refused:
                break
            side.append((at, chi - best))
            if side[-1][1] > LEVEL:
                end = _crossing(side[-2], side[-1])
                break
            step *= GROWTH
        sides.append(side)
        ends.append(None if end is None else float(c.value(z[index] + end)))
    points = [*sides[0][:0:-1], *sides[1]]
    values = torch.stack([c.value(z[index] + at) for at, _ in points])
    misfit = torch.tensor([above for _, above in points], dtype=torch.float64)
    order = values.argsort()
    low, high = ends if float(values[0]) <= float(values[-1]) else (ends[1], ends[0])
    return MisfitProfile(name=name, values=values[order], misfit=misfit[order], low=low, high=high)


def _crossing(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Where the root of the misfit, nearly linear, is that of the level."""
    low, high, level = math.sqrt(max(a[1], 0.0)), math.sqrt(b[1]), math.sqrt(LEVEL)
    return a[0] + (b[0] - a[0]) * (level - low) / (high - low)


def _weighted(problem: Problem, weights: dict[str, float]) -> torch.Tensor:
    parts = [
        torch.full((int(problem.rows(name).sum()),), weights.get(name, 1.0), dtype=torch.float64)
        for name in problem.instruments
        if bool(problem.rows(name).any())
    ]
    return torch.cat(parts)


def _chi(problem: Problem, z: torch.Tensor, weights: dict[str, float]) -> float:
    r, w = problem.residual(z), _weighted(problem, weights)
    return float((w * r[: len(w)].square()).sum() + r[len(w) :].square().sum())


def _inner(problem: Problem, z: torch.Tensor, free: list[int], weights: dict[str, float]) -> tuple[torch.Tensor, float]:
    """The best of everything else with one coordinate held: damped Gauss-Newton."""
    chi, damping = _chi(problem, z, weights), 1e-3
    if not free:
        return z, chi
    for _ in range(TRIALS):
        r, j = problem.linearise(z, free)
        w = torch.ones(len(r), dtype=torch.float64)
        rows = _weighted(problem, weights)
        w[: len(rows)] = rows
        gram, slope = j.T @ (w[:, None] * j), j.T @ (w * r)
        for _ in range(TRIALS):
            delta = -torch.linalg.solve(gram + torch.diag(damping * gram.diagonal().clamp_min(1e-30)), slope)
            delta = delta * min(1.0, MAX_STEP / max(float(delta.abs().max()), 1e-300))
            trial = z.clone()
            trial[free] += delta
            try:
                after = _chi(problem, trial, weights)
            except Refused:
                after = math.inf
            if after <= chi:
                break
            damping *= 4
        else:
            return z, chi
        drop, z, chi, damping = chi - after, trial, after, max(damping / 5, 1e-12)
        if drop < 1e-3:
            break
    return z, chi
