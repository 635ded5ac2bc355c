"""Stability of explicit time steps."""

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState


def cfl_numbers(model: MPMModel, state: MPMState) -> tuple[float, float]:
    """How many cells sound, and the fastest particle, cross in a step; explicit steps are stable below 1.

    Sound travels at sqrt(M/rho) with the longitudinal modulus M = d tau_xx/d F_xx at rest, taken by a central
    difference, so that laws of the user count too.

    Args:
        model: The model.
        state: The particles whose number, history and speeds count.

    Returns:
        The numbers of sound and of particles [1].
    """
    if len(state.x) == 0:
        return 0.0, 0.0
    with torch.no_grad():
        mass, volume = model.body(state.x)
        eye = torch.eye(3, dtype=state.x.dtype, device=state.x.device).repeat(len(state.x), 1, 1)
        h = 1e-3
        ahead, behind = eye.clone(), eye.clone()
        ahead[:, 0, 0] += h
        behind[:, 0, 0] -= h
        slope = (model.stress(ahead, state.q) - model.stress(behind, state.q))[:, 0, 0] / (2 * h)
        sound = (slope.clamp_min(0) * volume / mass).sqrt().max()
        fastest = torch.linalg.vector_norm(state.v, dim=-1).max()
        scale = model.grid.dt / model.grid.dx
        return float(sound) * scale, float(fastest) * scale
