"""Samples of a posterior that is no ellipse: affine-invariant ensembles, and NUTS where there are gradients.

Chains go on until they agree and hold the effective samples asked for. Others are no answer.
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.fit.certainty.chains import effective_samples, r_hat
from simengine.fit.certainty.density import LogPosterior
from simengine.fit.posterior import Estimate, Posterior
from simengine.fit.problem import Problem
from simengine.scene.base import Refused, SceneError

AGREED = {"ensemble": 1.05, "nuts": 1.01}  # R-hat; the many walkers of an ensemble are each shorter than a chain
CHUNK = 100  # steps of an ensemble between two looks at it
CHUNKS = 200
LENGTHENED = 4  # times that the chains of NUTS are made twice as long
ACCEPTED = 0.95  # share that NUTS aims at: its short steps follow a bent ridge, where those for 0.8 diverge
TUNE = 400  # steps in which NUTS finds its step and masses
APART = 2.0  # R-hat beyond which chains stand in different minima
MAX_FREE = 40  # coordinates that an ensemble can move
WIDEST = 20.0  # standard deviation of a coordinate by Laplace beyond which nothing tells it
BURN = 0.3  # share of the steps that is thrown away
WIDER = 1.5  # times Laplace's ellipse, of the jumps
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
        method: ensemble or nuts.
    """

    values: Mapping[str, NDArray[np.float64]]
    log_density: NDArray[np.float64]
    r_hat: Mapping[str, float]
    effective: Mapping[str, float]
    converged: bool
    divergences: int
    evaluations: int
    method: str

    @property
    def why(self) -> str:
        """What the chains lack, "" where they converged."""
        if self.converged:
            return ""
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
    free = movable(problem, found.covariance)
    if not free:
        raise SceneError("inference.posterior: nothing that is sought is told by data or prior; use laplace")
    factors = {name: worth.factor for name, worth in found.worth.items()}
    density = LogPosterior(problem, z, free, factors)
    draw = _nuts if inference.posterior == "nuts" else _ensemble
    chains, heights, divergences = draw(density, found.covariance, [z, *others], inference.samples, seed)
    values: dict[str, NDArray[np.float64]] = {}
    for position, k in enumerate(free):
        c = problem.coordinates[k]
        if c.chosen:
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
        method=inference.posterior,
    )


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
        if _enough(chains, "ensemble", wanted):
            break
    return chains, sampler.get_log_prob(discard=skip).T, 0


def _enough(chains: NDArray[np.float64], method: str, wanted: int) -> bool:
    """Whether chains (chains, samples, coordinates) agree and hold some more effective samples than are wanted."""
    each = [chains[:, :, k] for k in range(chains.shape[2])]
    return all(r_hat(own) < AGREED[method] and effective_samples(own) > 1.1 * wanted for own in each)


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


def _nuts(
    density: LogPosterior, covariance: torch.Tensor, ends: Sequence[torch.Tensor], wanted: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # arviz, which it imports, announces itself once a day
            import nutpie
    except ImportError:
        raise SceneError(
            "inference.posterior: NUTS needs nutpie; pip install 'simengine[bayes]', or use ensemble"
        ) from None
    if not density.traced:
        raise SceneError("inference.posterior: NUTS needs gradients, and not every unknown is traced; use ensemble")
    free = torch.tensor(density.free)
    size = len(free)
    spectrum, vectors = torch.linalg.eigh(covariance[free[:, None], free])
    root = vectors * spectrum.clamp(1e-300, 1.0).sqrt()
    center = ends[0][free]
    begin = itertools.cycle(
        [torch.linalg.lstsq(root, (end[free] - center)[:, None], driver="gelsd").solution[:, 0] for end in ends]
    )

    def start(seed: Any) -> NDArray[np.float64]:
        # chains begin at all minima in turn: those that stay apart disagree, and are no answer
        jitter = np.random.default_rng(abs(int(np.sum(seed)))).normal(scale=0.5, size=size)
        return next(begin).numpy() + jitter

    def log_density(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # in units of Laplace's ellipse, which is what its mass matrix has to find
        try:
            value, slope = density.with_gradient(center + root @ torch.from_numpy(np.array(x)))
        except (Refused, SceneError) as error:
            raise _NoRun(str(error)) from None
        return value, (root.T @ slope).numpy()

    def expanded(x: NDArray[np.float64], **_: Any) -> dict[str, NDArray[np.float64]]:
        return {"u": np.array(x)}

    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        ndim=size,
        make_logp_fn=lambda: log_density,
        make_expand_fn=lambda *_: expanded,
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(size,)],
        expanded_names=["u"],
        make_initial_point_fn=start,
    )
    draws = max(wanted, 200)  # of four chains: a draw near a bound is worth a third of an independent one
    for length in range(LENGTHENED + 1):  # from the start each time: what it makes cannot be gone on with
        trace = nutpie.sample(
            compiled,
            draws=draws << length,
            tune=TUNE << length,
            chains=4,
            cores=1,
            seed=seed,
            progress_bar=False,
            target_accept=ACCEPTED,
        )
        u = np.asarray(trace.posterior["u"])
        chains = center.numpy() + u @ root.numpy().T
        if _enough(chains, "nuts", wanted) or max(r_hat(chains[:, :, k]) for k in range(size)) > APART:
            break
    stats = trace.sample_stats
    return chains, np.asarray(stats["logp"]), int(np.asarray(stats["diverging"]).sum())


class _NoRun(Exception):
    """A trial without a run, which the sampler rejects."""

    is_recoverable = True


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
