"""Standard deviations of observations that are estimated from what a model leaves."""

import math

import torch

from simengine.fit.coordinate import Coordinate
from simengine.fit.problem.prediction import Prediction
from simengine.scene.instrument import AbstractInstrument

NEWTON = 50  # steps for the mode of a sigma with a prior: it converges in fewer than ten


def estimated(
    prediction: Prediction,
    instrument: AbstractInstrument,
    which: torch.Tensor,
    taken: float,
    sought: Coordinate | None,
) -> torch.Tensor:
    """The standard deviation of each column, (columns,), SI; columns of one quantity share theirs.

    A standard deviation for each of several sensors that are alike would weight them by chance: what three sensors of
    twelve rows tell then scatters half as much again as its bars say.

    Args:
        prediction: Of the observation.
        instrument: That measured it.
        which: The values compared, bool (rows, columns).
        taken: Degrees of freedom that the numbers fitted took from the observation, shared by the columns.
        sought: The coordinate with the prior of sigma, where there is one.
    """
    measured, noises = prediction.measured.values, prediction.measured.noises
    columns = measured.shape[1]
    found = torch.empty(columns, dtype=torch.float64)
    for one in noises.unique():
        own = noises == one
        gap = (prediction.values - measured)[:, own][which[:, own]]
        degrees = max(len(gap) - taken * int(own.sum()) / columns, 1.0)
        size = float(measured[:, own].nan_to_num().abs().max())  # of what was read: gaps are no size
        least = max(instrument.least_sigma(), 1e-9 * size + 1e-300)
        found[own] = _most_likely(float(gap.square().sum()), degrees, sought, least)
    return found


def _most_likely(total: float, degrees: float, sought: Coordinate | None, least: float) -> float:
    """The standard deviation that makes a sum of squares most likely, with the prior of one that is sought."""
    plain = max(math.sqrt(total / degrees), least)
    if sought is None or math.isnan(sought.sd):
        return plain
    mean = sought.mean if sought.logarithmic else math.log(max(sought.mean, least))
    sd = sought.sd if sought.logarithmic else sought.sd / max(sought.mean, least)
    u = math.log(plain)
    for _ in range(NEWTON):  # on the log posterior in u = ln sigma
        slope = -degrees + total * math.exp(-2 * u) - (u - mean) / sd**2
        curvature = -2 * total * math.exp(-2 * u) - 1 / sd**2
        step = max(-1.0, min(1.0, slope / curvature))
        u -= step
        if abs(step) < 1e-10:
            break
    return max(math.exp(u), least)
