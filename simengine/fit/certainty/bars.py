"""The answer of a fit with all that its bars rest on: Laplace, several minima, samples, and another resolution."""

import dataclasses
from typing import TYPE_CHECKING, Any

from simengine.fit.posterior import Posterior, posterior
from simengine.fit.starts import told
from simengine.scene.base import AbstractWorld

if TYPE_CHECKING:
    from simengine.fit.inference import LeastSquaresFit
    from simengine.fit.starts import SeveralStarts

UNREFINED = "what the resolution of the world errs by is not in the bars; --refine 1.5 fits again and adds it"


def posterior_of(fit: "LeastSquaresFit | SeveralStarts") -> Posterior:
    """The posterior at the end of a fit, by what `[inference] posterior` names; computed once."""
    if fit.found is not None:
        return fit.found
    problem, z = fit.problem, fit.z
    found = posterior(problem, z, problem.predict(z))
    minima = getattr(fit, "minima", ())
    if problem.scene.inference.posterior in ("ensemble", "nuts"):
        from simengine.fit.certainty.sampling import sample, with_samples

        others = [m.z for m in minima[1:] if m.answer]
        drawn = sample(problem, z, found, others=others, seed=problem.scene.world.seed)
        found = with_samples(found, drawn)
    if problem.scene.inference.posterior == "bootstrap":
        from simengine.fit.certainty.bootstrap import bootstrap, refitted
        from simengine.fit.certainty.sampling import with_samples

        asked, seed = problem.scene.inference.samples, problem.scene.world.seed
        if fit.elsewhere is None:
            ends = refitted(problem, z, range(asked), seed)
        else:
            ends = fit.elsewhere.replicas(problem, z, asked, seed)
        found = with_samples(found, bootstrap(problem, z, ends, asked))
    if fit.refine is not None:
        from simengine.fit.certainty.resolution import shift, with_shift

        found = with_shift(problem, z, found, shift(problem, z, found, fit.refine))
    found = dataclasses.replace(found, minima=minima, directions=told(minima) + found.directions)
    if fit.refine is None and any(_can_be_refined(world) for world in problem.worlds.values()):
        found = dataclasses.replace(found, directions=(*found.directions, UNREFINED))
    fit.found = found
    return found


def _can_be_refined(world: AbstractWorld) -> bool:
    return type(world).refined is not AbstractWorld.refined


def bars_summary(found: Posterior) -> dict[str, Any]:
    """What of it goes into fit.json beside the estimates."""
    summary: dict[str, Any] = {}
    if len(found.minima) > 1:
        summary["minima"] = [
            {"misfit": m.misfit, "values": dict(m.values), "starts": m.starts, "answer": m.answer} for m in found.minima
        ]
    if found.samples is not None:
        summary["sampling"] = found.samples.summary()
    if found.moved is not None:
        moved = found.moved
        summary["refine"] = {"factor": moved.factor, "shift": dict(moved.by), "settled": moved.settled}
    return summary
