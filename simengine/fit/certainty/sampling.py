"""Samples of a posterior that is no ellipse: affine-invariant ensembles, and NUTS where there are gradients.

Chains go on until they agree and hold the effective samples asked for. Others are no answer.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.fit.certainty.chains import AGREED, effective_samples, enough, r_hat
from simengine.fit.certainty.density import LogPosterior
from simengine.fit.certainty.nuts import APART, no_u_turn
from simengine.fit.posterior import Estimate, Posterior
from simengine.fit.problem import Problem
from simengine.scene.base import SceneError

CHUNK = 100  # steps of an ensemble between two looks at it
CHUNKS = 200
MAX_FREE = 40  # coordinates that an ensemble can move
WIDEST = 20.0  # standard deviation of a coordinate by Laplace beyond which nothing tells it
BURN = 0.3  # share of the steps that is thrown away
WIDER = 1.5  # times Laplace's ellipse, of the jumps
PREDICTED = 1000  # draws of which each row is kept, at most
FEW = 8  # walkers for each number at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosteriorSamples:
    """What was drawn, and whether to believe it.

    Attributes:
        values: Of each number sought, by name, (chains, samples), SI.
        log_density: (chains, samples), up to a constant.
        r_hat: By name.
        effective: Effective samples by name.
        converged: Whether all chains agree and hold the effective samples asked for.
        divergences: Of NUTS; 0 for an ensemble.
        evaluations: Of the posterior.
        method: ensemble or nuts; ellipse for draws from Laplace's, judged by the density, which NUTS is where that is
            near; bootstrap for replicas.
        rows: Residuals over sigma at some of the draws, (draws, rows); None where the rows are too many to be kept.
    """

    values: Mapping[str, NDArray[np.float64]]
    log_density: NDArray[np.float64]
    r_hat: Mapping[str, float]
    effective: Mapping[str, float]
    converged: bool
    divergences: int
    evaluations: int
    method: str
    rows: NDArray[np.float32] | None = None

    @property
    def why(self) -> str:
        """What the chains lack, "" where they converged."""
        if self.converged:
            return ""
        if self.method == "bootstrap":
            return f"{self.divergences} of the replicas have no fit; their bars would be those of the others"
        worst, least = max(self.r_hat.values()), min(self.effective.values())
        apart = (
            "; NUTS does not jump between minima, an ensemble does" if self.method == "nuts" and worst > APART else ""
        )
        return f"the chains have not converged (R-hat {worst:.3g}, {least:.0f} effective samples){apart}"

    def summary(self) -> dict[str, Any]:
        """Diagnostics for the report."""
        keys = ("method", "converged", "r_hat", "effective", "divergences", "evaluations")
        return {key: getattr(self, key) for key in keys}


def movable(problem: Problem, covariance: torch.Tensor) -> list[int]:
    """Coordinates that data or prior tell; a number that neither tells has no posterior and stays."""
    width = covariance.diagonal().clamp_min(0).sqrt()
    bounded = [math.isfinite(c.lower) and math.isfinite(c.upper) for c in problem.coordinates]
    return [
        k
        for k in range(len(width))
        if k not in problem.sought_sigmas and (float(width[k]) < WIDEST or (bounded[k] and float(width[k]) > 0))
    ]


def sample(
    problem: Problem, z: torch.Tensor, found: Posterior, *, others: Sequence[torch.Tensor] = (), seed: int = 0
) -> PosteriorSamples:
    """Draw from the posterior by the method that the scene names.

    Args:
        problem: At its last stage.
        z: The best fit, (p,).
        found: Laplace's posterior there.
        others: Further minima, (p,) each; the walkers begin at all of them.
        seed: Of everything random.

    Raises:
        SceneError: There are too many unknowns, or what the method needs is missing.
    """
    inference = problem.scene.inference
    told = movable(problem, found.covariance)
    free = [k for k in told if problem.coordinates[k].chosen]
    if not free:
        raise SceneError("inference.posterior: nothing that is sought is told by data or prior; use laplace")
    factors = {name: worth.factor for name, worth in found.worth.items()}
    density = LogPosterior(problem, z, free, factors, without=[k for k in told if k not in free])
    ends = [z, *others]
    if inference.posterior == "nuts":
        slopes = problem.linearise(z, central=True)[1] if found.linearised is None else found.linearised[1]
        chains, heights, divergences, method = no_u_turn(
            density, density.ellipse(slopes), ends, inference.samples, seed
        )
    else:
        chains, heights, divergences = _ensemble(density, found.covariance, ends, inference.samples, seed)
        method = "ensemble"
    values: dict[str, NDArray[np.float64]] = {}
    for position, k in enumerate(free):
        c = problem.coordinates[k]
        values[c.name] = c.value(torch.from_numpy(chains[:, :, position].copy())).numpy()
    hats = {name: r_hat(own) for name, own in values.items()}
    effective = {name: effective_samples(own) for name, own in values.items()}
    good = all(v < AGREED[inference.posterior] for v in hats.values())
    return PosteriorSamples(
        values=values,
        log_density=heights,
        r_hat=hats,
        effective=effective,
        converged=good and all(v >= inference.samples for v in effective.values()),
        divergences=divergences,
        evaluations=density.evaluations,
        rows=_rows_of(density, chains),
        method=method,
    )


def _rows_of(density: LogPosterior, chains: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Residuals (draws, rows) at those draws of chains (chains, draws, numbers) that the density remembers."""
    keys = [point.tobytes() for point in np.ascontiguousarray(chains.reshape(-1, chains.shape[-1]))]
    kept = [key for key in keys if key in density.rows_at]
    kept = kept[:: -(-len(kept) // PREDICTED) or 1]
    return torch.stack([density.rows_at[key] for key in kept]).numpy() if kept else None


def _ensemble(
    density: LogPosterior, covariance: torch.Tensor, ends: Sequence[torch.Tensor], wanted: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    try:
        import emcee
    except ImportError:
        raise SceneError(
            "inference.posterior: an ensemble needs emcee; pip install 'simengine[bayes]', or use laplace"
        ) from None
    free = torch.tensor(density.free)
    size = len(free)
    if size > MAX_FREE:
        raise SceneError(
            f"inference.posterior: an ensemble moves {MAX_FREE} numbers at most, here {size} are free; use laplace"
        )
    random = np.random.default_rng(seed)
    own = covariance[free[:, None], free]
    spectrum, vectors = torch.linalg.eigh(own)
    root = (vectors * spectrum.clamp(1e-300, 1.0).sqrt()).numpy()
    walkers = max(4 * size, FEW * len(ends), 16)
    begin = []
    for k in range(walkers):
        center, spread = ends[k % len(ends)][free].numpy(), 1.0
        for _ in range(50):  # near an edge of what has a run the spread shrinks
            point = center + spread * root @ random.standard_normal(size)
            if density(torch.from_numpy(point)) > -math.inf:
                break
            spread *= 0.7
        begin.append(point)
    jump = _jumps([end[free].numpy() for end in ends], WIDER * root)
    # more differences of walkers agree sooner about a bent ridge, and too soon: without its ends
    moves = [(emcee.moves.MHMove(jump), 0.5), (emcee.moves.StretchMove(), 0.3), (emcee.moves.DEMove(), 0.2)]
    sampler = emcee.EnsembleSampler(walkers, size, lambda point: density(torch.from_numpy(point)), moves=moves)
    sampler._random = np.random.RandomState(seed)
    state: Any = np.array(begin)
    for _ in range(CHUNKS):
        state = sampler.run_mcmc(state, CHUNK, skip_initial_state_check=True)
        skip = int(BURN * sampler.iteration)
        chains = sampler.get_chain(discard=skip).swapaxes(0, 1)
        if enough(chains, "ensemble", wanted):
            break
    return chains, sampler.get_log_prob(discard=skip).T, 0


def _jumps(centers: Sequence[NDArray[np.float64]], root: NDArray[np.float64]) -> Any:
    """Proposals from Laplace's ellipses about all minima, which alone carry walkers between distant ones."""
    inverse = np.linalg.inv(root)

    def log_q(points: NDArray[np.float64]) -> NDArray[np.float64]:
        each = [-0.5 * np.square((points - center) @ inverse.T).sum(-1) for center in centers]
        total: NDArray[np.float64] = np.logaddexp.reduce(each, axis=0)
        return total

    def propose(points: NDArray[np.float64], random: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        which = random.randint(len(centers), size=len(points))
        fresh = np.array(centers)[which] + random.standard_normal(points.shape) @ root.T
        return fresh, log_q(points) - log_q(fresh)

    return propose


def with_samples(found: Posterior, samples: PosteriorSamples) -> Posterior:
    """The estimates with bars from the samples; without bars where the chains have not converged."""
    estimates: dict[str, Estimate] = {}
    for name, e in found.estimates.items():
        drawn = samples.values.get(name)
        if drawn is None:
            estimates[name] = e
        elif not samples.converged:
            estimates[name] = dataclasses.replace(e, std=None, low=None, high=None, identified=False, why=samples.why)
        else:
            low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
            estimates[name] = dataclasses.replace(e, std=float(drawn.std()), low=low, high=high)
    directions = found.directions + ((samples.why,) if samples.why else ())
    return dataclasses.replace(found, estimates=estimates, directions=directions, samples=samples)
