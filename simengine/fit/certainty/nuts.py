"""NUTS (Hoffman & Gelman 2014, by nutpie) in units of Laplace's ellipse; of the ellipse's own orbits where those do.

A trajectory may follow any field of slopes: volumes are kept and it can be run backwards, and its end is judged by the
density itself, so that the draws are of the density (Rasmussen 2003; Zhang, Shahbaba & Zhao 2017). The orbits of the
ellipse are known: a quarter of one ends at the momentum that it began with, a normal draw that has forgotten where it
began. So a posterior that is nearly its ellipse costs one solve for each draw and no gradient, and there is nothing to
be tuned. Any other gets trajectories of its own gradients.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.fit.certainty.chains import effective_samples, enough, r_hat
from simengine.fit.certainty.density import LogPosterior
from simengine.scene.base import Refused, SceneError

APART = 2.0  # R-hat beyond which chains stand in different minima
LENGTHENED = 4  # times that chains with gradients are made twice as long
ACCEPTED = 0.95  # share that these aim at: short steps follow a bent ridge, where those for 0.8 diverge
TUNE = 400  # steps in which these find their step and masses
LOOK = 0.1  # of the effective samples wanted, that each of two chains on the ellipse is made longer by at a time
LONGEST = 4  # times as many draws of each: where that does not do, the ellipse is not near
NEAR = 1.0  # by which the logarithm may be off its ellipse two standard deviations away, and above it three away
SMOOTH = 0.5  # standard deviation over draws of what the logarithm is off its ellipse by

Drawn = tuple[NDArray[np.float64], NDArray[np.float64], int, str]
Slopes = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


def no_u_turn(
    density: LogPosterior, covariance: torch.Tensor, ends: Sequence[torch.Tensor], wanted: int, seed: int
) -> Drawn:
    """Draw until all chains agree and hold the effective samples that are wanted.

    Args:
        density: Of the numbers that move.
        covariance: Of the numbers that move by the curvature at the best end, (k, k).
        ends: Minima, (p,) each, the best first: chains begin at all of them.
        wanted: Effective samples of each number.
        seed: Of everything random.

    Returns:
        Coordinates (chains, draws, numbers), the density's logarithm there (chains, draws), divergences, and what drew
        them: "nuts", or "ellipse" where that was near enough.

    Raises:
        SceneError: nutpie is not installed, or the density is not near its ellipse and a number that moves has no
            gradient.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # arviz, which it imports, announces itself once a day
            import nutpie  # noqa: F401
    except ImportError:
        raise SceneError(
            "inference.posterior: NUTS needs nutpie; pip install 'simengine[bayes]', or use ensemble"
        ) from None
    free = torch.tensor(density.free)
    spectrum, vectors = torch.linalg.eigh(covariance)
    root = vectors * spectrum.clamp(1e-300, 1.0).sqrt()
    center = ends[0][free]
    found = _on_ellipse(density, center, root, wanted, seed) if len(ends) == 1 else None
    if found is None and not density.traced:
        raise SceneError(
            "inference.posterior: the posterior is not near its ellipse, where NUTS needs gradients, and not every "
            "unknown is traced; use ensemble"
        )
    u, heights, divergences, method = found or _with_gradients(
        density, center, root, [end[free] for end in ends], wanted, seed
    )
    flat = torch.from_numpy(u.reshape(-1, u.shape[-1]).copy())
    points = torch.stack([center + root @ own for own in flat])  # one by one, as they were solved: to the bit
    return points.numpy().reshape(u.shape), heights, divergences, method


def _on_ellipse(
    density: LogPosterior, center: torch.Tensor, root: torch.Tensor, wanted: int, seed: int
) -> Drawn | None:
    """Two chains on orbits of the ellipse; None where the density is not close to it.

    Tails that are heavier than the ellipse's are what such chains would see too late, so they are looked at first.
    """
    size, random = len(center), np.random.default_rng(seed)

    def above(x: NDArray[np.float64]) -> float:
        """By what the density's logarithm lies above the ellipse's."""
        return density(center + root @ torch.from_numpy(x)) + 0.5 * float(x @ x)

    top = above(np.zeros(size))
    for axis in np.concatenate([np.eye(size), -np.eye(size)]):
        if not abs(above(2 * axis) - top) < NEAR or above(3 * axis) - top > NEAR:
            return None
    chains: list[list[NDArray[np.float64]]] = [[], []]
    heights: list[list[float]] = [[], []]
    now = [(np.zeros(size), top), (np.zeros(size), top)]
    for _ in range(math.ceil(LONGEST / LOOK)):
        for k in range(2):
            for _ in range(math.ceil(LOOK * wanted)):
                x = random.standard_normal(size)
                height = above(x)
                if math.log(1 - random.uniform()) < height - now[k][1]:
                    now[k] = x, height
                chains[k].append(now[k][0])
                heights[k].append(now[k][1])
        u, off = np.array(chains), np.array(heights)
        if enough(u, "nuts", wanted) and _of_spread(u) >= wanted:
            return (u, off - 0.5 * np.square(u).sum(-1), 0, "ellipse") if off.std() < SMOOTH else None
    return None


def _of_spread(u: NDArray[np.float64]) -> float:
    """The least effective samples of the squares of numbers (chains, draws, numbers): of bars, not of means."""
    squares = np.square(u - u.mean((0, 1)))
    return min(effective_samples(squares[:, :, k]) for k in range(u.shape[2]))


def _with_gradients(
    density: LogPosterior,
    center: torch.Tensor,
    root: torch.Tensor,
    ends: Sequence[torch.Tensor],
    wanted: int,
    seed: int,
) -> Drawn:
    """Four chains with the density's own gradients, from all ends (k,) in turn."""
    size = len(center)
    begin = itertools.cycle(
        [torch.linalg.lstsq(root, (end - center)[:, None], driver="gelsd").solution[:, 0].numpy() for end in ends]
    )

    def start(seed: Any) -> NDArray[np.float64]:
        # chains begin at all minima in turn: those that stay apart disagree, and are no answer
        jitter = np.random.default_rng(abs(int(np.sum(seed)))).normal(scale=0.5, size=size)
        return np.asarray(next(begin) + jitter)

    def slopes(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        try:
            value, slope = density.with_gradient(center + root @ torch.from_numpy(np.array(x)))
        except (Refused, SceneError) as error:
            raise _NoRun(str(error)) from None
        return value, (root.T @ slope).numpy()

    draws = max(wanted, 200)  # of four chains: a draw near a bound is worth a third of an independent one
    for length in range(LENGTHENED + 1):  # from the start each time: what it makes cannot be gone on with
        trace = _chains(
            slopes, start, size, seed, chains=4, draws=draws << length, tune=TUNE << length, target_accept=ACCEPTED
        )
        u, heights, divergences, method = _read(trace)
        if enough(u, "nuts", wanted) or max(r_hat(u[:, :, k]) for k in range(size)) > APART:
            break
    return u, heights, divergences, method


def _chains(slopes: Slopes, start: Callable[[Any], NDArray[np.float64]], size: int, seed: int, **options: Any) -> Any:
    """A trace by nutpie, its chains one after another."""
    import nutpie

    def expanded(x: NDArray[np.float64], **_: Any) -> dict[str, NDArray[np.float64]]:
        return {"u": np.array(x)}

    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        ndim=size,
        make_logp_fn=lambda: slopes,
        make_expand_fn=lambda *_: expanded,
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(size,)],
        expanded_names=["u"],
        make_initial_point_fn=start,
    )
    return nutpie.sample(compiled, cores=1, seed=seed, progress_bar=False, **options)


def _read(trace: Any) -> Drawn:
    stats = trace.sample_stats
    divergences = int(np.asarray(stats["diverging"]).sum())
    return np.asarray(trace.posterior["u"]), np.asarray(stats["logp"]), divergences, "nuts"


class _NoRun(Exception):
    """A trial without a run, which the sampler rejects."""

    is_recoverable = True
