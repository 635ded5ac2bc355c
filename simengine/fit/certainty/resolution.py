"""What the discretisation adds to a bar: the best fit, fitted again at another resolution.

A change of the resolution moves the best fit little, so a few trials from the old one find the new.
The answer stays that of the scene's own resolution; its error, if errors fall at least as the size of a cell, is at
most the shift times f/(f - 1) at f times the resolution (times f/(1 - f) at a coarser one), and counts as one more
standard deviation.
"""

import dataclasses
from collections.abc import Mapping

import torch

from simengine.fit.posterior import Posterior
from simengine.fit.problem import Problem
from simengine.scene.base import Refused, SceneError
from simengine.solve.least_squares.black_box import BlackBoxSystem
from simengine.solve.least_squares.iteration import advance, begin
from simengine.solve.least_squares.solvers import LevenbergMarquardt
from simengine.solve.solution import Result

TRIALS = 12  # of the search there
SMALL = 0.1  # of a bar, that the search may stop short by


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """How far the answer moves with the resolution.

    Attributes:
        factor: Times the resolution.
        values: What is sought there, by name, SI.
        by: New value less the old one, by name, SI.
        z: Coordinates there, (p,).
        settled: Whether the search there came to its end.
    """

    factor: float
    values: Mapping[str, float]
    by: Mapping[str, float]
    z: torch.Tensor
    settled: bool

    @property
    def error(self) -> float:
        """What the shift is multiplied by to be the error of the scene's own resolution, of first order."""
        return self.factor / abs(self.factor - 1)


def shift(problem: Problem, z: torch.Tensor, found: Posterior, factor: float) -> Shift:
    """Fit again at `factor` times the resolution.

    Args:
        problem: At its last stage.
        z: The best fit, (p,).
        found: The posterior there.
        factor: Times the resolution; not 1.

    Raises:
        SceneError: A world has no resolution to change, or there is no run at that resolution.
    """
    scene = problem.scene
    if factor <= 0 or factor == 1:
        raise SceneError(f"--refine {factor:g}: expected a factor above 0 other than 1, as in --refine 2")
    runs = {name: world.refined(factor) for name, world in scene.runs.items()}
    other = Problem(dataclasses.replace(scene, world=scene.world.refined(factor), runs=runs))
    other.sigmas = {name: value.clone() for name, value in problem.sigmas.items()}
    other.errors = dict(problem.errors)
    free = [k for k in range(len(z)) if k not in problem.sought_sigmas]
    told = [k for k in free if float(found.covariance[k, k]) < 1e6]
    try:
        other.settle(z)
        here, settled = _fitted(other, z, told, found)
    except Refused as error:
        raise SceneError(f"--refine {factor:g}: there is no run at this resolution: {error}") from None
    old, new = problem.estimates(z), other.estimates(here)
    return Shift(factor=factor, values=new, by={n: new[n] - old[n] for n in new}, z=here, settled=settled)


def _fitted(problem: Problem, z: torch.Tensor, free: list[int], found: Posterior) -> tuple[torch.Tensor, bool]:
    """The best fit from z (p,) on in the coordinates `free`, and whether it is at its end.

    Raises:
        Refused: There is no run at z.
    """

    def whole(moving: torch.Tensor) -> torch.Tensor:
        moved = z.clone()
        moved[free] = moving
        return moved

    def weighed(rows: torch.Tensor) -> torch.Tensor:  # less where they are correlated or misfit, as in the posterior
        weight = _weights(problem, found, len(rows)).sqrt()
        return weight.view(-1, *(1,) * (rows.ndim - 1)) * rows

    def linearised(moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r, j = problem.linearise(whole(moving), free)
        return weighed(r), weighed(j)

    system = BlackBoxSystem(
        lambda moving: weighed(problem.residual(whole(moving))),
        linearised,
        refused=(Refused,),
        linearised_at_the_end=False,
    )
    # seats of marks are lengths and may move far; what is sought may be a logarithm
    most = torch.tensor([1.0 if problem.coordinates[k].chosen else 1e3 for k in free], dtype=torch.float64)
    # half a chi-square of SMALL^2 is what such a part of a bar is worth
    solver = LevenbergMarquardt(damping=1e-6, max_step=most, drop=SMALL**2 / 2, patience=1, max_iterations=TRIALS)
    state = begin(system, z[free][None], solver)
    while len(state.active) and int(state.iterations) < TRIALS:
        state = advance(system, state, solver)
    return whole(state.y[0]), int(state.status[0]) == Result.SUCCESS


def _weights(problem: Problem, found: Posterior, rows: int) -> torch.Tensor:
    weight, offset = torch.ones(rows, dtype=torch.float64), 0
    for name in problem.instruments:
        count = int(problem.rows(name).sum())
        if count and name in found.worth:
            weight[offset : offset + count] = 1 / found.worth[name].factor
        offset += count
    return weight


def with_shift(problem: Problem, z: torch.Tensor, found: Posterior, moved: Shift) -> Posterior:
    """The posterior with the error of the resolution added to each variance."""
    estimates = dict(found.estimates)
    covariance = found.covariance.clone()
    said = []
    for k, c in enumerate(problem.coordinates):
        if not c.chosen:
            continue
        e, by = estimates[c.name], moved.by[c.name]
        covariance[k, k] += (moved.error * float(moved.z[k] - z[k])) ** 2
        if e.std is None or e.low is None or e.high is None:
            continue
        total = (e.std**2 + (moved.error * by) ** 2) ** 0.5
        grown = total / e.std if e.std > 0 else 1.0
        # the ends move away by the same factor in the coordinate, so that they stay inside its bounds
        ends = [c.coordinate(end) for end in (e.low, e.high)]
        low, high = sorted(
            float(c.value(z[k] + grown * (end - z[k]))) for end in (torch.tensor(x, dtype=torch.float64) for x in ends)
        )
        estimates[c.name] = dataclasses.replace(e, std=total, low=low, high=high, shift=by)
        said.append(f"{c.name} moves by {by:+.3g} {c.unit}".rstrip() + f" ({by / e.std:+.2g} of its bar)")
    text = (
        f"At {moved.factor:g} times the resolution {', '.join(said)}; {moved.error:.2g} times that is added to the bars"
    )
    if not moved.settled:
        text += f", and the fit there is not at its end after {TRIALS} trials: the bars are too short"
    return dataclasses.replace(
        found, estimates=estimates, covariance=covariance, directions=(text, *found.directions), moved=moved
    )
