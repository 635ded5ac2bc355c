"""What a model gets wrong, as a Gaussian process along an observation (Kennedy & O'Hagan 2001).

measured = predicted + delta(x) + noise, delta of mean zero and covariance sd^2 k(|x - x'| / length), Matérn's with 5/2.
Rows then have the covariance of delta + noise, and the whitened residual L^-1 (predicted - measured) / sigma, with
L L^T = 1 + K / (sigma sigma'), is what least squares sees: smooth misfits cost little and tell little. What is not told
of sd, length and sigma maximises the restricted likelihood: the numbers sought are integrated over, to first order.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from simengine.fit.certainty.process import Course, ModelError, course_of, factor, spacing_and_span
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import Discrepancy

if TYPE_CHECKING:
    from simengine.fit.problem import Problem

SMALLEST = 1e-3  # sd over sigma: less is no discrepancy
LARGEST = 10.0  # sd over the largest value measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rows of one observation tell of its noise and model error.

    Attributes:
        course: Where the values lie for the process.
        gap: Predicted less measured, (rows, columns), SI.
        slopes: Derivative of each compared gap by what is sought, (values, p), row by row.
        which: Values that are compared, (rows, columns).
        sigma: Standard deviations, (rows, columns); of estimated columns what they are now.
        estimated: Columns whose sigma is estimated, (columns,).
        precision: Of what is sought, from all other rows and priors, (p, p).
        pull: Their J^T r, (p,).
        largest: Of the values measured, of each column, (columns,).
        noises: Number of the sigma of each column, (columns,): columns of one quantity share theirs; None for one each.
    """

    course: Course
    gap: torch.Tensor
    slopes: torch.Tensor
    which: torch.Tensor
    sigma: torch.Tensor
    estimated: torch.Tensor
    precision: torch.Tensor
    pull: torch.Tensor
    largest: torch.Tensor
    noises: torch.Tensor | None = None

    def misfit(self, sigma: torch.Tensor, sd: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """-2 log of the restricted likelihood up to a constant.

        Args:
            sigma: Of the estimated columns, (columns,).
            sd: Of the processes, (processes,).
            lengths: Along their axes, (axes,).
        """
        precision, pull = self.precision, self.pull
        total = torch.zeros((), dtype=torch.float64)
        spreads = torch.where(self.estimated, sigma, self.sigma)
        for k in range(self.course.count):
            own = self.course.values_of(k, self.which)
            spread = spreads[own]
            root = factor([x[own] for x in self.course.axes], spread, sd[k], lengths)
            both = torch.cat([self.gap[own][:, None], self.slopes[own[self.which]]], dim=1) / spread[:, None]
            white = torch.linalg.solve_triangular(root, both, upper=False)
            r, j = white[:, 0], white[:, 1:]
            total = total + 2 * root.diagonal().log().sum() + 2 * spread.log().sum() + r.square().sum()
            precision, pull = precision + j.T @ j, pull + j.T @ r
        moved = precision.diagonal() > 0
        precision, pull = precision[moved][:, moved], pull[moved]
        scale = precision.diagonal().detach().rsqrt()  # what nothing tells yet leaves the determinant
        unit = scale[:, None] * precision * scale[None, :] + 1e-12 * torch.eye(len(scale), dtype=torch.float64)
        chol = torch.linalg.cholesky(unit)
        half = torch.linalg.solve_triangular(chol, (scale * pull)[:, None], upper=False)
        return total - half.square().sum() + 2 * (chol.diagonal() / scale).log().sum()


def estimated(
    evidence: Evidence,
    *,
    sd: float | None,
    lengths: tuple[float | None, ...],
    least_sigma: float,
    before: ModelError | None = None,
) -> tuple[torch.Tensor, ModelError]:
    """Sigma (columns,) and the model error that the restricted likelihood prefers; numbers told stay.

    Lengths lie between two spacings and twice the span: a shorter error is noise, a longer one is a trend.
    The search begins where it ended `before`, else from a short, a middling and a long error.
    """
    from scipy.optimize import minimize

    course = evidence.course
    columns, processes = evidence.which.shape[1], course.count
    noises = torch.arange(columns) if evidence.noises is None else evidence.noises
    count = int(noises.max()) + 1
    sigma = torch.stack([evidence.sigma[evidence.which[:, k], k].median() for k in range(columns)])
    rms = torch.stack([evidence.gap[evidence.which[:, k], k].square().mean().sqrt() for k in range(columns)])
    largest = evidence.largest.clamp_min(1e-300)
    low_sigma = torch.maximum(torch.full_like(sigma, least_sigma), 1e-6 * largest).log()
    of = [course.process == k for k in range(processes)]
    sizes = torch.stack([rms[own].square().mean().sqrt() for own in of])  # of the gaps of each process
    bounds = [(float(low_sigma[noises == n].max()), float(largest[noises == n].max().log())) for n in range(count)]
    bounds += [
        (
            math.log(SMALLEST * float(torch.minimum(sigma, rms)[own].min())),
            math.log(LARGEST * float(largest[own].max())),
        )
        for own in of
    ]
    measures = [spacing_and_span(x[evidence.which]) for x in course.axes]
    bounds += [(math.log(2 * near), math.log(max(2 * far, 4 * near))) for near, far in measures]
    for k in range(processes):
        if sd is not None:
            bounds[count + k] = (math.log(sd),) * 2
    for n in range(count):
        if not bool(evidence.estimated[noises == n].any()):
            bounds[n] = (float(sigma[noises == n].mean().log()),) * 2
    for k, length in enumerate(lengths):
        if length is not None:
            bounds[count + processes + k] = (math.log(length),) * 2

    def split(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return u[noises].exp(), u[count : count + processes].exp(), u[count + processes :].exp()

    @torch.no_grad()
    def value(u: np.ndarray) -> float:
        try:
            return float(evidence.misfit(*split(torch.tensor(u, dtype=torch.float64))))
        except torch.linalg.LinAlgError:
            return 1e300

    best = None
    noise = torch.where(evidence.estimated, 0.5 * rms, sigma)
    starts = [
        (sizes.clamp_min(1e-300), [max(share * far, 3 * near) for near, far in measures]) for share in (0.1, 0.4, 1.0)
    ]
    if before is not None:
        starts = [(torch.stack([before.sd[own].max() for own in of]), list(before.lengths))]
    for spread, lasting in starts:
        first = sigma if before is not None else noise
        begin = [
            *(float(first[noises == n].mean().log()) for n in range(count)),
            *spread.log().tolist(),
            *(math.log(length) for length in lasting),
        ]
        begin = [min(max(v, low), high) for v, (low, high) in zip(begin, bounds, strict=True)]
        found = minimize(value, begin, method="L-BFGS-B", bounds=bounds, options={"eps": 1e-6})
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    fresh, size, along = split(torch.tensor(best.x, dtype=torch.float64))
    told = tuple(float(length) for length in along)
    return fresh, ModelError(size[course.process], told, course.logarithmic, course.over)


def renewed(problem: "Problem", z: torch.Tensor, name: str) -> float:
    """Estimate anew what the model of an observation gets wrong, with its sigma; the largest relative change.

    Raises:
        SceneError: The observation has neither one abscissa nor places, or too many rows.
    """
    told = told_of(problem.instruments[name])
    which, measured = problem.rows(name), problem.measured[name]
    course = course_of(problem.instruments[name], measured, which, told)
    before = problem.errors.pop(name, None)
    r, j = problem.linearise(z)
    prediction = problem.predict(z)[name]
    own, start = slice(0, 0), 0
    for other in problem.instruments:
        count = int(problem.rows(other).sum())
        own, start = (slice(start, start + count), start + count) if other == name else (own, start + count)
    rest = torch.ones(len(r), dtype=torch.bool)
    rest[own] = False
    weight = problem.instruments[name].weight
    slopes = j[own] * prediction.sigma[which][:, None] / (1.0 if weight is None else weight**0.5)
    noise = problem.instruments_at(z)[name].noise(measured)
    evidence = Evidence(
        course=course,
        gap=prediction.values - measured.values,
        slopes=slopes,
        which=which,
        sigma=prediction.sigma,
        estimated=(noise.isnan() & which).any(0),
        precision=j[rest].T @ j[rest],
        pull=j[rest].T @ r[rest],
        largest=measured.values.nan_to_num().abs().amax(0),
        noises=measured.noises,
    )
    sigma, error = estimated(
        evidence,
        sd=told.sd,
        lengths=(told.length, told.time)[: len(course.axes)],
        least_sigma=problem.instruments[name].least_sigma(),
        before=before,
    )
    change = 1.0
    if before is not None:
        longer = [now / then - 1 for now, then in zip(error.lengths, before.lengths, strict=True)]
        both = torch.cat([error.sd / before.sd - 1, torch.tensor(longer, dtype=torch.float64)])
        # an error that is nothing beside the noise may change as it likes
        seen = float((error.sd / sigma).max()) > 0.05
        change = float(both.abs().max()) if seen else 0.0
    if name in problem.sigmas:
        change = max(change, float((sigma / problem.sigmas[name] - 1).abs().max()))
        problem.sigmas[name] = torch.where(evidence.estimated, sigma, problem.sigmas[name])
    problem.errors[name] = error
    return change


def told_of(instrument: AbstractInstrument) -> Discrepancy:
    """What the scene says of the error of an observation's model."""
    spec = getattr(instrument, "discrepancy", None)
    return spec if isinstance(spec, Discrepancy) else Discrepancy()


def in_words(name: str, measured: Measured, error: ModelError, sigma: torch.Tensor) -> list[str]:
    """What is said of it, a line for each column, or for each quantity where its columns share a process."""
    lines = []
    if error.over == "place":
        over = " m and ".join(f"{length:.2g}" for length in error.lengths) + (" s" if len(error.lengths) > 1 else " m")
        columns = {quantity: k for k, quantity in reversed(list(enumerate(measured.quantities)))}
        told = dict(reversed(columns.items()))
    else:
        over = f"{error.lengths[0]:.2g} of {'ln ' if error.logarithmic else ''}{next(iter(measured.at))}"
        told = {column: k for k, column in enumerate(measured.names)}
    for column, k in told.items():
        noise = float(sigma[:, k].median())
        if float(error.sd[k]) < 0.1 * noise:
            lines.append(f"observations.{name}: {column}: no error of the model is seen beside the noise")
        else:
            lines.append(
                f"observations.{name}: the model of {column} is off by some {float(error.sd[k]):.2g} (SI) "
                f"over {over}, {float(error.sd[k]) / noise:.2g} times the noise; bars hold it"
            )
    return lines
