"""What a model gets wrong, as a Gaussian process along an observation (Kennedy & O'Hagan 2001).

measured = predicted + delta(x) + noise, delta of mean zero and covariance sd^2 k(|x - x'| / length), Matérn's with 5/2.
Rows then have the covariance of delta + noise, and the whitened residual L^-1 (predicted - measured) / sigma, with
L L^T = 1 + K / (sigma sigma'), is what least squares sees: smooth misfits cost little and tell little. What is not told
of sd, length and sigma maximises the restricted likelihood: the numbers sought are integrated over, to first order.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from simengine.scene.base import SceneError
from simengine.scene.instrument import Measured
from simengine.scene.noise import Discrepancy

if TYPE_CHECKING:
    from simengine.fit.problem import Problem

SMALLEST = 1e-3  # sd over sigma: less is no discrepancy
LARGEST = 10.0  # sd over the largest value measured
MOST_ROWS = 2000  # of a column: its matrix is factorised


@dataclasses.dataclass(frozen=True)
class ModelError:
    """The process of one observation.

    Attributes:
        sd: Standard deviation of each column, (columns,), SI.
        length: Over which it is alike, SI; of the logarithm [1] where it runs along that.
        logarithmic: Whether it runs along the logarithm of the abscissa.
    """

    sd: torch.Tensor
    length: float
    logarithmic: bool = False

    def places(self, x: torch.Tensor) -> torch.Tensor:
        """Where values of the abscissa lie for the process."""
        return x.log() if self.logarithmic else x

    def tensor(self) -> torch.Tensor:
        """Length, whether logarithmic, then sd: for a checkpoint."""
        return torch.cat([torch.tensor([self.length, self.logarithmic], dtype=torch.float64), self.sd])

    @classmethod
    def from_tensor(cls, held: torch.Tensor) -> "ModelError":
        """What `tensor` wrote."""
        return cls(held[2:].clone(), float(held[0]), bool(held[1]))


def alike(x: torch.Tensor, length: torch.Tensor | float) -> torch.Tensor:
    """Matérn's correlation with nu = 5/2 of places x (m,), (m, m)."""
    far = math.sqrt(5.0) * (x[:, None] - x[None, :]).abs() / length
    return (1 + far + far.square() / 3) * (-far).exp()


def factor(
    x: torch.Tensor, sigma: torch.Tensor, sd: torch.Tensor | float, length: torch.Tensor | float
) -> torch.Tensor:
    """L of one column, (m, m), lower, from x and sigma (m,)."""
    relative = sd / sigma
    return torch.linalg.cholesky(
        torch.eye(len(x), dtype=x.dtype) + relative[:, None] * alike(x, length) * relative[None, :]
    )


def whitened(r: torch.Tensor, which: torch.Tensor, factors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Residuals over sigma (rows, columns) with each column's own rows multiplied by its L^-1; others stay."""
    columns = []
    for k, own in enumerate(factors):
        chosen = which[:, k]
        white = torch.linalg.solve_triangular(own, r[chosen, k][:, None], upper=False)[:, 0]
        columns.append(r[:, k].masked_scatter(chosen, white))
    return torch.stack(columns, dim=1)


def factors_of(error: ModelError, x: torch.Tensor, sigma: torch.Tensor, which: torch.Tensor) -> list[torch.Tensor]:
    """L of every column, of the rows that are compared."""
    x = error.places(x)
    return [
        factor(x[which[:, k]], sigma[which[:, k], k], float(error.sd[k]), error.length) for k in range(which.shape[1])
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rows of one observation tell of its noise and model error.

    Attributes:
        x: Places along the process, (rows,).
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

    x: torch.Tensor
    gap: torch.Tensor
    slopes: torch.Tensor
    which: torch.Tensor
    sigma: torch.Tensor
    estimated: torch.Tensor
    precision: torch.Tensor
    pull: torch.Tensor
    largest: torch.Tensor
    noises: torch.Tensor | None = None

    def misfit(self, sigma: torch.Tensor, sd: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """-2 log of the restricted likelihood up to a constant; sigma (columns,) of the estimated ones."""
        precision, pull = self.precision, self.pull
        total = torch.zeros((), dtype=torch.float64)
        column = torch.arange(self.which.shape[1]).expand_as(self.which)[self.which]
        for k in range(self.which.shape[1]):
            own = self.which[:, k]
            spread = sigma[k].expand(int(own.sum())) if bool(self.estimated[k]) else self.sigma[own, k]
            root = factor(self.x[own], spread, sd[k], length)
            both = torch.cat([self.gap[own, k][:, None], self.slopes[column == k]], dim=1) / spread[:, None]
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
    length: float | None,
    least_sigma: float,
    logarithmic: bool = False,
    before: ModelError | None = None,
) -> tuple[torch.Tensor, ModelError]:
    """Sigma (columns,) and the model error that the restricted likelihood prefers; numbers told stay.

    Lengths lie between two spacings and twice the span: a shorter error is noise, a longer one is a trend.
    The search begins where it ended `before`, else from a short, a middling and a long error.
    """
    from scipy.optimize import minimize

    columns = evidence.which.shape[1]
    x = evidence.x[evidence.which.any(1)].sort().values
    span, gaps = float(x[-1] - x[0]), x.diff()
    spacing = float(gaps[gaps > 0].median()) if bool((gaps > 0).any()) else 1.0
    noises = torch.arange(columns) if evidence.noises is None else evidence.noises
    count = int(noises.max()) + 1
    sigma = torch.stack([evidence.sigma[evidence.which[:, k], k].median() for k in range(columns)])
    rms = torch.stack([evidence.gap[evidence.which[:, k], k].square().mean().sqrt() for k in range(columns)])
    largest = evidence.largest.clamp_min(1e-300)
    low_sigma = torch.maximum(torch.full_like(sigma, least_sigma), 1e-6 * largest).log()
    least_length, most_length = math.log(2 * spacing), math.log(max(2 * span, 4 * spacing))
    bounds = [(float(low_sigma[noises == n].max()), float(largest[noises == n].max().log())) for n in range(count)]
    bounds += [
        (math.log(SMALLEST * float(min(sigma[k], rms[k]))), math.log(LARGEST * float(largest[k])))
        for k in range(columns)
    ]
    bounds.append((least_length, most_length))
    for k in range(columns):
        if sd is not None:
            bounds[count + k] = (math.log(sd),) * 2
    for n in range(count):
        if not bool(evidence.estimated[noises == n].any()):
            bounds[n] = (float(sigma[noises == n].mean().log()),) * 2
    if length is not None:
        bounds[-1] = (math.log(length),) * 2

    def split(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return u[noises].exp(), u[count:-1].exp(), u[-1].exp()

    @torch.no_grad()
    def value(u: np.ndarray) -> float:
        try:
            return float(evidence.misfit(*split(torch.tensor(u, dtype=torch.float64))))
        except torch.linalg.LinAlgError:
            return 1e300

    best = None
    noise = torch.where(evidence.estimated, 0.5 * rms, sigma)
    starts = [ModelError(rms.clamp_min(1e-300), max(share * span, 3 * spacing)) for share in (0.1, 0.4, 1.0)]
    for error in starts if before is None else [before]:
        first = sigma if before is not None else noise
        begin = [
            *(float(first[noises == n].mean().log()) for n in range(count)),
            *error.sd.log().tolist(),
            math.log(error.length),
        ]
        begin = [min(max(v, low), high) for v, (low, high) in zip(begin, bounds, strict=True)]
        found = minimize(value, begin, method="L-BFGS-B", bounds=bounds, options={"eps": 1e-6})
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    fresh, spread, along = split(torch.tensor(best.x, dtype=torch.float64))
    return fresh, ModelError(spread, float(along), logarithmic)


def renewed(problem: "Problem", z: torch.Tensor, name: str) -> float:
    """Estimate anew what the model of an observation gets wrong, with its sigma; the largest relative change.

    Raises:
        SceneError: The observation has no single abscissa, or too many rows.
    """
    spec = problem.instruments[name].discrepancy  # type: ignore[attr-defined]
    told = spec if isinstance(spec, Discrepancy) else Discrepancy()
    which, measured = problem.rows(name), problem.measured[name]
    x = abscissa(name, measured, which)
    logarithmic = told.scale == "log" or (told.scale == "auto" and spread_by_decades(x[which.any(1)]))
    if logarithmic and not bool((x[which.any(1)] > 0).all()):
        raise SceneError(f"observations.{name}.discrepancy.scale: 'log' needs an abscissa that is positive throughout")
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
        x=x.log() if logarithmic else x,
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
        length=told.length,
        least_sigma=problem.instruments[name].least_sigma(),
        logarithmic=logarithmic,
        before=before,
    )
    change = 1.0
    if before is not None:
        both = torch.cat([error.sd / before.sd - 1, torch.tensor([error.length / before.length - 1]).double()])
        # an error that is nothing beside the noise may change as it likes
        seen = float((error.sd / sigma).max()) > 0.05
        change = float(both.abs().max()) if seen else 0.0
    if name in problem.sigmas:
        change = max(change, float((sigma / problem.sigmas[name] - 1).abs().max()))
        problem.sigmas[name] = torch.where(evidence.estimated, sigma, problem.sigmas[name])
    problem.errors[name] = error
    return change


def abscissa(name: str, measured: Measured, which: torch.Tensor) -> torch.Tensor:
    """What the discrepancy of an observation runs along, (rows,).

    Raises:
        SceneError: There is none or there are several, or too many rows.
    """
    if len(measured.at) != 1:
        raise SceneError(
            f"observations.{name}.discrepancy: needs one abscissa, here are {', '.join(measured.at) or 'none'}; "
            "leave discrepancy out, the bars then rest on the residuals' correlation"
        )
    if int(which.sum(0).max()) > MOST_ROWS:
        raise SceneError(
            f"observations.{name}.discrepancy: at most {MOST_ROWS} rows, got {int(which.sum(0).max())}; "
            "thin the file, or leave discrepancy out"
        )
    return next(iter(measured.at.values()))


def spread_by_decades(x: torch.Tensor) -> bool:
    """Whether values (m,) are spread more evenly in their logarithm than as they are, over a factor of ten or more."""
    x = x.unique()
    if len(x) < 3 or not float(x[0]) > 0 or float(x[-1] / x[0]) < 10:
        return False
    plain, logs = x.diff(), x.log().diff()
    return bool(logs.std() / logs.mean() < plain.std() / plain.mean())


def in_words(name: str, measured: Measured, error: ModelError, sigma: torch.Tensor) -> list[str]:
    """What is said of it, a line for each column."""
    lines = []
    along = f"{'ln ' if error.logarithmic else ''}{next(iter(measured.at))}"
    for k, column in enumerate(measured.names):
        noise = float(sigma[:, k].median())
        if float(error.sd[k]) < 0.1 * noise:
            lines.append(f"observations.{name}: {column}: no error of the model is seen beside the noise")
        else:
            lines.append(
                f"observations.{name}: the model of {column} is off by some {float(error.sd[k]):.2g} (SI) "
                f"over {error.length:.2g} of {along}, {float(error.sd[k]) / noise:.2g} times the noise; bars hold it"
            )
    return lines
