"""What to know before a run: stability numbers, the time step that would do, and memory."""

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.solve.rollout import AbstractAdjoint, DirectAdjoint, saved_steps


def sound_speed(model: MPMModel, state: MPMState) -> float:
    """Largest longitudinal wave speed of any particle now [m/s].

    c^2 = (d tau_aa / d epsilon_aa) / rho along each axis a, by central differences of the law itself at the present
    deformation: it holds for every law, also a user's, and follows hardening.
    """
    if len(state.x) == 0:
        return 0.0
    h = 1e-3  # float32 laws: rounding 1e-7 / h, truncation h^2
    with torch.no_grad():
        mass, volume = model.body(state.x)
        eye = torch.eye(3, dtype=state.F.dtype, device=state.F.device)
        modulus = torch.zeros_like(mass)
        for axis in range(3):
            stretch = torch.outer(eye[axis], eye[axis]) * h
            ahead = model.stress((eye + stretch) @ state.F, state.q)[:, axis, axis]
            behind = model.stress((eye - stretch) @ state.F, state.q)[:, axis, axis]
            modulus = torch.maximum(modulus, (ahead - behind) / (2 * h))
        return float((modulus * volume / mass).max().clamp_min(0.0).sqrt())


def cfl_numbers(model: MPMModel, state: MPMState) -> tuple[float, float]:
    """How many cells sound, relative to the body, and the fastest particle cross in one step.

    Explicit MLS-MPM is unstable above about 1; NaN where the state is not finite.

    Args:
        model: The model.
        state: The state whose stiffness and speeds count.
    """
    grid = model.grid
    speed = float(state.v.detach().norm(dim=1).max()) if len(state.x) else 0.0
    return sound_speed(model, state) * grid.dt / grid.dx, speed * grid.dt / grid.dx


def recommended_dt(model: MPMModel, state: MPMState, *, safety: float = 0.8) -> float:
    """The time step [s] at which the larger CFL number is `safety`."""
    worst = max(cfl_numbers(model, state))
    return float("inf") if worst == 0 else model.grid.dt * safety / worst


def forecast_memory(
    model: MPMModel,
    num_particles: int,
    num_steps: int,
    *,
    save_every: int = 1,
    adjoint: AbstractAdjoint | None = None,
    gradient: bool = True,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> int:
    """Bytes that a rollout with the shipped laws holds at its peak, beyond what is loaded already.

    Held states (96 B a particle in float32, 100 with a history variable), saved states and their cotangents, grid
    arrays, and the particle arrays of one step. The whole grid counts, though a system may give no memory to parts of
    it that no particle ever touches.

    Args:
        model: The model.
        num_particles: n.
        num_steps: Steps of the rollout.
        save_every: As of `rollout`.
        adjoint: As of `rollout`.
        gradient: Whether a backward follows.
        dtype: Of the state.
        threads: That share the particles, as of `MPMSolver.num_threads`; each has sums of its own.
    """
    size = torch.empty((), dtype=dtype).element_size()
    n, adjoint = num_particles, adjoint or DirectAdjoint()
    per_state = n * size * (24 + int(model.keeps_history))
    held = 2
    if gradient:
        every = min(adjoint.stretch(num_steps), max(num_steps, 1))
        held = every + 1 if every >= num_steps else -(-num_steps // every) + every + 1
    saved = len(saved_steps(num_steps, save_every)) * n * size * 25
    nodes = model.grid.size[0] * model.grid.size[1] * model.grid.size[2]
    once = n * (size * (25 + 25 + 18 + 2 + (25 + 9 if gradient else 0)) + 8 * (8 + (8 + 2 if gradient else 0)))
    return held * per_state + saved + nodes * 4 * (threads + 1) * (2 if gradient else 1) * size + once
