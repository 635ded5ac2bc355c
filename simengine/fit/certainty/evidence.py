"""How probable the data are under a model before its numbers are known, by Laplace: what compares models fairly."""

import math

import torch

from simengine.fit.certainty.density import _log_volume
from simengine.fit.problem import Problem


def log_evidence(
    problem: Problem, z: torch.Tensor, linearised: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[float | None, str]:
    """Natural logarithm of the evidence at the best fit z (p,); None, with the reason, where there is none.

    Exact where the world is linear in its coordinates with normal priors. Sigmas that are estimated stand at their
    best, so models compare where they have the same ones estimated.

    Args:
        problem: Whose data.
        z: The best fit (p,).
        linearised: Residual (rows,) and Jacobian (rows, p) there by central differences, where they are known.
    """
    free = [k for k in range(len(z)) if k not in problem.sought_sigmas]
    log_prior = 0.0
    rows, _ = problem.prior_rows(z)
    for k in free:
        c = problem.coordinates[k]
        log_prior += float(_log_slope_of_value(problem, k, z))
        if not math.isnan(c.sd):
            log_prior -= math.log(c.sd) + 0.5 * math.log(2 * math.pi)
        elif math.isfinite(c.lower) and math.isfinite(c.upper):
            log_prior -= math.log(c.upper - c.lower)
        else:
            return None, f"{c.name} has no prior"
    for joint in {id(c.joint): c.joint for c in problem.coordinates if c.joint is not None}.values():
        # the entries hang together: what the product of their own densities leaves out
        own = joint.covariance.diagonal().log().sum()
        log_prior -= 0.5 * float(torch.linalg.slogdet(joint.covariance)[1] - own)
    log_prior -= 0.5 * float(rows.square().sum())
    r, j = problem.linearise(z, central=True) if linearised is None else linearised
    j = j[:, free]
    data = r[: len(r) - len(rows)]
    log_likelihood = -0.5 * float(data.square().sum()) - 0.5 * len(data) * math.log(2 * math.pi)
    for name, instrument in problem.instruments_at(z).items():
        log_likelihood -= float(problem.sigma(name, instrument)[problem.rows(name)].log().sum())
    volume = 0.5 * len(free) * math.log(2 * math.pi) - 0.5 * float(torch.linalg.slogdet(j.T @ j)[1])
    return log_likelihood + log_prior + volume, ""


def _log_slope_of_value(problem: Problem, k: int, z: torch.Tensor) -> torch.Tensor:
    """Log of the change, per z, of what the prior is a density in."""
    c = problem.coordinates[k]
    at_zero = torch.zeros((), dtype=z.dtype)
    with torch.enable_grad():
        own = at_zero.clone().requires_grad_()
        value = c.value(own)
        (slope,) = torch.autograd.grad(value.log() if c.logarithmic else value, own)
    return _log_volume(c, z[k]) - _log_volume(c, at_zero) + slope.abs().log()
