"""What Gauss-Newton's matrix lacks of the exact Hessian: the bend of the rows, times what they miss."""

from typing import TYPE_CHECKING

import torch

from simengine.scene.base import Refused

if TYPE_CHECKING:
    from simengine.fit.problem import Problem

SHARE = 0.3  # of a standard deviation, of the differences of the Jacobian
SHORT, LONG = 1e-3, 0.1  # of a coordinate, that they are at least and at most
FLAT = 0.1  # of Gauss-Newton's curvature, below which the exact one makes no ellipse


def exact(problem: "Problem", z: torch.Tensor, weighed: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """The Hessian (p, p) of half the sum of squares, sum_i w_i (grad r_i grad r_i^T + r_i Hess r_i).

    By central differences of the Jacobian: two linearisations for each number that is sought or of a world. Rows are
    linear in the others, as in where marks sit. Gauss-Newton's where the exact one has a direction without curvature,
    or a world no run a short step away, which is told.

    Args:
        problem: At its last stage.
        z: The best fit, (p,).
        weighed: Rows there, those of the priors last, times what each counts for, w_i r_i (rows,).
        precision: Gauss-Newton's part, (p, p).
    """
    bend = torch.zeros_like(precision)
    moved = [
        k
        for k, c in enumerate(problem.coordinates)
        if (c.chosen or c.of_world) and k not in problem.sought_sigmas and float(precision[k, k]) > 0
    ]
    for k in moved:
        step = float((SHARE * precision[k, k].rsqrt()).clamp(SHORT, LONG))
        unit = torch.zeros_like(z)
        unit[k] = step
        try:
            ahead, behind = (problem.linearise(z + sign * unit, central=True)[1] for sign in (1, -1))
        except Refused as error:
            problem.doubt(f"inference.hessian: bars are Gauss-Newton's, as there is no run a short step away: {error}")
            return precision
        bend[k] = (ahead - behind).T @ weighed / (2 * step)
    rest = [k for k in range(len(z)) if k not in moved]
    bend[rest] = bend[:, rest].T.clone()
    whole = precision + (bend + bend.T) / 2
    scale = precision.diagonal().clamp_min(1e-300).rsqrt()
    own = scale[moved, None] * scale[moved]
    spectrum, vectors = torch.linalg.eigh(precision[moved][:, moved] * own)
    root = vectors * spectrum.clamp_min(1e-12).rsqrt()
    if float(torch.linalg.eigvalsh(root.T @ (whole[moved][:, moved] * own) @ root)[0]) < FLAT:
        problem.doubt(
            "inference.hessian: the exact Hessian has a direction with hardly any curvature, so bars are "
            'Gauss-Newton\'s; samples (posterior = "ensemble") are what to ask for'
        )
        return precision
    return whole
