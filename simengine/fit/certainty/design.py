"""What an experiment would tell before it is made: information at the prior, and the candidate that tells most.

All by the linearised posterior: with the information matrix I of the data (rows over sigma) and that of the priors P,
the volume of the posterior goes as det(I + P)^(-1/2), so candidate rows J divide it by det(1 + J C J^T)^(1/2), C the
covariance before. That is exact where the world is linear in its coordinates and the noise is Gaussian.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.fit.problem import Problem
from simengine.fit.starts import drawn
from simengine.scene.base import Refused, SceneError

TOLD = 0.5  # of the prior's width: more is left open than told
OPEN = 1.0  # width in a coordinate that is taken for an unknown without a prior: a factor of e, or one scale
BLIND = 1e-9  # chi-square for a move of one width, below which nothing depends on a number


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextRows:
    """Rows that could be measured next.

    Attributes:
        observation: Name of the observation.
        label: Which of its rows, in words.
        rows: Which values, bool (rows, columns).
        shrinks: By what factor the volume of the posterior shrinks if they are measured as well; over draws of the
            prior exp of the expected information gain beyond what is fitted.
        widths: Standard deviation of each number sought then over that now, by name.
        between: What eight of ten draws of the prior promise, from and to; None without draws.
    """

    observation: str
    label: str
    rows: torch.Tensor
    shrinks: float
    widths: dict[str, float]
    between: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class LinearisedProblem:
    """A problem, linearised.

    Attributes:
        free: Numbers of the coordinates that move.
        rows: Observation -> Jacobian of its values over sigma, held-out ones included, (rows, columns, free).
        fitted: Observation -> which values are fitted, bool (rows, columns).
        prior: Information of the priors, with a width of `OPEN` where there is none, (free, free).
    """

    free: tuple[int, ...]
    rows: dict[str, torch.Tensor]
    fitted: dict[str, torch.Tensor]
    prior: torch.Tensor

    def information(self) -> torch.Tensor:
        """Of what is fitted, (free, free)."""
        total = torch.zeros_like(self.prior)
        for name, j in self.rows.items():
            own = j[self.fitted[name]]
            total += own.T @ own
        return total


def linear(
    problem: Problem, z: torch.Tensor | None = None, step: float = 1e-4, *, noise: bool = True
) -> LinearisedProblem:
    """The problem linearised at z (p,), None for its start; one solve for each number of a world.

    With `noise`, standard deviations that are estimated are those of the misfit at z.
    """
    z = problem.start() if z is None else z
    problem.settle(z)
    if noise:
        problem.estimate_sigmas(z)
    free = tuple(k for k in range(len(z)) if k not in problem.sought_sigmas)
    here = problem.predict(z)
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in here}
    for k in free:
        moved, by = z.clone(), step
        moved[k] += by
        try:
            aside = problem.predict(moved)
        except Refused:  # at an edge of what has a run: the other side
            by = -step
            moved[k] = z[k] + by
            aside = problem.predict(moved)
        for name, ahead in aside.items():
            slope = (ahead.values - here[name].values) / (by * here[name].sigma)
            columns[name].append(torch.where(here[name].measured.mask, slope, torch.zeros_like(slope)))
    rows = {name: torch.stack(own, -1) for name, own in columns.items()}
    slopes = problem.prior_slopes(z)[:, free]
    prior = slopes.T @ slopes
    for position, k in enumerate(free):
        if math.isnan(problem.coordinates[k].sd):
            prior[position, position] += OPEN**-2
    fitted = {name: problem.measured[name].fitted for name in here}
    return LinearisedProblem(free, rows, fitted, prior)


def at_the_prior(problem: Problem, z: torch.Tensor | None = None) -> dict[str, str]:
    """What the observations will tell of each number sought, in words, before anything is fitted."""
    found = linear(problem, z)
    information = found.information()
    covariance = torch.linalg.inv(information + found.prior)
    before = torch.linalg.inv(found.prior)
    said: dict[str, str] = {}
    for position, k in enumerate(found.free):
        c = problem.coordinates[k]
        if not c.chosen:
            continue
        now = float((covariance[position, position] / before[position, position]).sqrt())
        alone = float(information[position, position] * before[position, position])
        if alone < BLIND:
            said[c.name] = "the observations do not depend on it; drop it, or measure what does"
        elif now > TOLD:
            single = (1 + alone) ** -0.5
            joint = ", though alone they would: something else that is sought does the same" if single < TOLD else ""
            said[c.name] = f"the observations will hardly tell it ({now:.2g} of what is believed beforehand){joint}"
        else:
            said[c.name] = f"will be told to {now:.2g} of what is believed beforehand"
    return said


def candidates(
    problem: Problem,
    z: torch.Tensor | None = None,
    *,
    only: Sequence[str] = (),
    by_row: bool = False,
    noise: bool = True,
) -> list[NextRows]:
    """What is held out, as experiments that could be made next, the one that tells most first.

    Each label of an observation (a marker) is a candidate, each of its rows where it has no labels; an observation
    held out as a whole is one too, unless `by_row`. `noise` as in `linear`.

    Raises:
        SceneError: Nothing is held out.
    """
    found = linear(problem, z, noise=noise)
    covariance = torch.linalg.inv(found.information() + found.prior)
    listed: list[NextRows] = []
    for name, j in found.rows.items():
        measured = problem.measured[name]
        if only and name not in only:
            continue
        out = measured.mask & measured.held_out
        if not bool(out.any()):
            continue
        for label, rows in _split(problem, name, out, whole=not by_row and not bool((measured.mask & ~out).any())):
            own = j[rows]
            gain = torch.eye(len(own), dtype=torch.float64) + own @ covariance @ own.T
            after = covariance - covariance @ own.T @ torch.linalg.solve(gain, own @ covariance)
            ratio = (after.diagonal() / covariance.diagonal()).clamp_min(0).sqrt()
            widths = {
                problem.coordinates[k].name: float(ratio[p])
                for p, k in enumerate(found.free)
                if problem.coordinates[k].chosen
            }
            shrinks = float(torch.linalg.slogdet(gain)[1].mul(0.5).exp())
            listed.append(NextRows(observation=name, label=label, rows=rows, shrinks=shrinks, widths=widths))
    if not listed:
        raise SceneError(
            "design: no candidate; hold out what could be measured next, as in inference.hold_out = "
            '["observations.NAME"] or observations.NAME.hold_out = { rows = [3, 4] }'
        )
    return sorted(listed, key=lambda own: -own.shrinks)


def expected(problem: Problem, draws: int, *, by_row: bool = False, seed: int = 0) -> list[NextRows]:
    """As `candidates`, before anything is fitted: what each promises on the average over the prior.

    The expected information gain (Lindley 1956) of the linearised posterior: the mean of the logarithm by which the
    volume shrinks, over draws of what is sought. Standard deviations that are estimated stay those of the start.

    Args:
        problem: What would be fitted.
        draws: From the priors; each costs a solve for each number of a world.
        by_row: As in `candidates`.
        seed: Of the draws.

    Raises:
        SceneError: `draws` is below 1, nothing is held out, or the world has no run at most of the draws.
    """
    if draws < 1:
        raise SceneError(f"--draws {draws}: expected at least 1, as in --draws 16")
    generator = torch.Generator().manual_seed(seed)
    problem.settle(problem.start())
    problem.estimate_sigmas(problem.start())
    found: dict[tuple[str, str], list[NextRows]] = {}
    had = refused = 0
    while had < draws:
        try:
            listed = candidates(problem, drawn(problem, generator), by_row=by_row, noise=False)
        except Refused as error:
            refused += 1
            if refused > draws:
                raise SceneError(f"--draws {draws}: the world has no run at {refused} draws: {error}") from None
            continue
        had += 1
        for own in listed:
            found.setdefault((own.observation, own.label), []).append(own)
    return sorted((_averaged(each) for each in found.values()), key=lambda own: -own.shrinks)


def _averaged(draws: Sequence[NextRows]) -> NextRows:
    """One candidate over several draws: means of logarithms."""
    logs = torch.tensor([own.shrinks for own in draws], dtype=torch.float64).log()
    low, high = torch.quantile(logs, torch.tensor([0.1, 0.9], dtype=torch.float64)).exp().tolist()
    widths = {
        name: math.exp(sum(math.log(max(own.widths[name], 1e-300)) for own in draws) / len(draws))
        for name in draws[0].widths
    }
    return dataclasses.replace(draws[0], shrinks=float(logs.mean().exp()), widths=widths, between=(low, high))


def _split(problem: Problem, name: str, out: torch.Tensor, *, whole: bool) -> list[tuple[str, torch.Tensor]]:
    measured = problem.measured[name]
    count = len(measured.labels)
    index = torch.arange(len(out))
    if count > 1 and len(out) % count == 0:
        return [
            (label, out & (index % count == k)[:, None])
            for k, label in enumerate(measured.labels)
            if bool(out[index % count == k].any())
        ]
    if whole:
        return [("all of it", out)]
    key = next(iter(measured.at), None)
    label = [f"{key} = {float(measured.at[key][k]):.6g}" if key else f"row {k}" for k in range(len(out))]
    return [(label[k], out & (index == k)[:, None]) for k in range(len(out)) if bool(out[k].any())]
