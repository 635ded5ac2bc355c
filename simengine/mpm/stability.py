"""What to know before a run: stability numbers and the time step that would do."""

import math

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState

RINGS = 1.25  # rings at the axis with two to four particles a cell: all held at .70, most came apart at .81


def sound_speed(model: MPMModel, state: MPMState) -> float:
    """Largest longitudinal wave speed of any particle now [m/s].

    c^2 = (d tau_aa / d epsilon_aa) / rho along each axis a, by central differences of the law itself at the present
    deformation: it holds for every law, also a user's, and follows hardening. Maxwell
    branches stiffen it by their shares; damping in proportion to the stiffness by 2 damping / dt, since a step feels it
    one step late (stable while (c dt / h)^2 (1 + 2 damping / dt) < 1).
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
        if model.dissipates:
            modulus = modulus * (1 + model.shares(len(mass), damped=2.0)).to(modulus)
        return float((modulus * volume / mass).max().clamp_min(0.0).sqrt())


def cfl_numbers(model: MPMModel, state: MPMState) -> tuple[float, float]:
    """How many cells sound, relative to the body, and the fastest particle cross in one step.

    Explicit MLS-MPM is unstable above about 1; NaN where the state is not finite. The first number counts viscosity
    too: a step is stable while (c dt / h)^2 + 8/3 (eta / rho) dt / h^2 < 1, the root of which it is. It counts the
    springs of hard contact as well.

    Args:
        model: The model.
        state: The state whose stiffness and speeds count.
    """
    grid = model.grid
    speed = float(state.v.detach().norm(dim=1).max()) if len(state.x) else 0.0
    sound = sound_speed(model, state) * grid.dt / grid.dx * (1.0 if model.edge is None else RINGS)
    if model.is_hard and len(state.x):
        # a mass on the spring of its contact: stable while dt sqrt(k / m) < 2
        k, (mass, _) = model.stiffness(state.x).detach(), model.body(state.x)
        sound = max(sound, grid.dt * float((k / mass).max().sqrt()) / 2)
    if model.contact is not None and len(state.x):
        # of two such bodies a node of little mass on its spring, omega^2 = 3 k / (rho dx^2)
        rows = model.pair_rows(state.x).detach()
        mass, volume = model.body(state.x)
        density = float((mass / volume).min().detach())
        sound = max(sound, grid.dt / grid.dx * math.sqrt(3 * float(rows[2 * len(rows) // 3 :].max()) / density) / 2)
    if model.dissipates and len(state.x):
        mass, volume = model.body(state.x)
        viscous = float((model.losses(len(mass)).detach()[:, 0].to(mass) * volume / mass).max())
        sound = math.sqrt(sound**2 + 8 / 3 * viscous * grid.dt / grid.dx**2)
    return sound, speed * grid.dt / grid.dx


def recommended_dt(model: MPMModel, state: MPMState, *, safety: float = 0.8) -> float:
    """The time step [s] at which the larger CFL number of `model` in `state` is `safety`."""
    worst = max(cfl_numbers(model, state))
    return float("inf") if worst == 0 else model.grid.dt * safety / worst


def swept_numbers(model: MPMModel, state: MPMState) -> list[float]:
    """What the fastest particle goes through in a step and until it is stopped, over what there is, of each rigid body.

    Above 1 matter comes out behind it. With a particle coming straight at the body at relative speed v:

        (v dt + 3 m v^2 / (2 k s)) / (s/2 + min(thickness, s)/2)

    s the edge of a particle and k s the largest force of its spring; 3 for what pushes from behind (plates of 0.26 and
    1 cells at 2 to 80 m/s through jelly and water: all above 1.4 went through, none below 0.8). Bodies with a `width`,
    which act on nodes, are not judged: 0.

    Args:
        model: The model.
        state: Whose speeds count; bodies are as fast as at time 0, and as ever along a path.
    """
    if not len(state.x):
        return [0.0] * len(model.bodies)
    with torch.no_grad():
        mass = model.body(state.x)[0].double()
        edge, k = model.edges(state.x), model.stiffness(state.x).double()
        found = []
        for body in model.bodies:
            if body.width is not None:
                found.append(0.0)
                continue
            turning = body.angular_velocity.double().cpu().norm() * max(body.size())
            along = body.path.fastest() if body.path is not None else 0.0
            speed = state.v.double().norm(dim=1) + float(body.velocity.double().norm() + turning + along)
            way = speed * model.grid.dt
            room = (edge + edge.clamp(max=body.thickness)) / 2
            found.append(float(((way + 3 * mass * speed**2 / (2 * k * edge)) / room).max()))
    return found
