"""What was drawn from a posterior, for its report: how each number is spread, and what goes with what."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simengine.fit.coordinate import Coordinate
from simengine.fit.posterior import Posterior
from simengine.fit.problem import Problem
from simengine.view.figures import Density, corner
from simengine.view.report import Picture

MOST = 6  # numbers of a picture


def samples_shown(problem: Problem, found: Posterior, references: dict[str, float]) -> list[Picture]:
    """A corner plot of the samples; none where the bars do not rest on samples.

    Args:
        problem: Whose numbers they are.
        found: Its posterior.
        references: Values to compare with, by name, SI.
    """
    drawn = found.samples
    if drawn is None:
        return []
    coordinates = {c.name: c for c in problem.coordinates}
    names = together(drawn.values)
    labels = {name: f"{name} [{coordinates[name].unit or '1'}]" for name in names}
    priors = {labels[name]: own for name in names if (own := _prior(coordinates[name])) is not None}
    numbers = {labels[name]: drawn.values[name].ravel() for name in names}
    marks = {labels[name]: references[name] for name in names if name in references}
    near = {label: mark for label, mark in marks.items() if _near(numbers[label], mark)}
    pixels = corner(numbers, priors=priors, marks=near)
    said = f"Samples of {', '.join(labels.values())}: how each is spread, and each pair of them"
    if len(drawn.values) > MOST:
        said += f" (the {MOST} of {len(drawn.values)} numbers that go together most)"
    if beyond := [label for label in marks if label not in near]:
        said += f". Beyond the picture lies the reference of {', '.join(beyond)}"
    if not drawn.converged:
        said += ". The chains have not converged, so this is no answer"
    return [Picture(pixels, said)]


def together(values: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Names of the numbers, (chains, samples) each, that are closest correlated with another one, in their order."""
    names = list(values)
    if len(names) <= MOST:
        return names
    each = np.stack([values[name].ravel() for name in names])
    width = each.std(1, keepdims=True)
    unit = (each - each.mean(1, keepdims=True)) / np.where(width > 0, width, 1.0)
    closest = np.abs(unit @ unit.T / each.shape[1] - np.diag(unit.var(1))).max(1)
    chosen = set(np.argsort(-closest, kind="stable")[:MOST].tolist())
    return [name for k, name in enumerate(names) if k in chosen]


def _near(samples: NDArray[np.float64], mark: float) -> bool:
    """Whether a value lies no further from samples (n,) than they are wide, so that both can be seen."""
    return abs(mark - float(np.median(samples))) <= 1.5 * float(np.ptp(samples))


def _prior(c: Coordinate) -> Density | None:
    """The prior's density in the number itself; None where it has none that could be normalised."""
    import scipy.stats

    if math.isnan(c.sd):
        if not (math.isfinite(c.lower) and math.isfinite(c.upper)):
            return None
        return lambda x: np.full(np.shape(x), 1 / (c.upper - c.lower))
    law = scipy.stats.lognorm(c.sd, scale=math.exp(c.mean)) if c.logarithmic else scipy.stats.norm(c.mean, c.sd)
    mass = float(law.cdf(c.upper) - law.cdf(c.lower))

    def density(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(law.pdf(x) / mass)

    return density
