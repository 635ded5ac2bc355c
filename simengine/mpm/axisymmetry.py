"""Motions that are the same all around an axis, without swirl, on the section through it.

x - axis is the radius r, y lies along the axis, z around it. What a particle stands for is a ring: of its mass and
volume those of one radian count, |r| times the area of its section. The rate of strain around the axis is v_r / r, and
virtual work makes it the force -V tau_zz / r along r. Sections may lie on one side of the axis, as that of a pipe; of a
body that meets the axis both sides belong to the state, so that the velocity there vanishes by symmetry.
"""

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.solver import MPMSolver
from simengine.mpm.state import MPMState
from simengine.ops.matter import dissipation_reference, mpm
from simengine.solve.rollout import AbstractAdjoint


class AxisymmetricSolver(MPMSolver):
    """Explicit steps of rings around an axis, one by one, differentiable as those of `MPMSolver`.

    Args:
        model: Of a grid that is periodic along z; a layer of particles there will do. `mass` and `volume` are those of
            a radian.
        axis: Where it stands along x [m].

    Raises:
        ValueError: The grid is not periodic along z, or the model has what knows no rings: contact, rigid bodies that
            touch particles, a critical packing.
    """

    def __init__(self, model: MPMModel, axis: float = 0.0) -> None:
        super().__init__(model, threads=1)
        if not model.grid.periodic[2]:
            raise ValueError("model: rings need a grid that is periodic along z; give Walls({'-z': 'periodic', ...})")
        if model.contact is not None or model.is_hard or model.critical_packing(1) is not None:
            raise ValueError(
                "model: contact, rigid bodies that touch particles and critical_packing know no rings; leave them out, "
                "or give rigid bodies a width"
            )
        self.axis: float = axis

    def run(self, state: MPMState, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint) -> None:
        """None: rollouts go step by step."""

    def advance(
        self,
        state: MPMState,
        number: int,
        mass: torch.Tensor,
        volume: torch.Tensor,
        stiffness: torch.Tensor,
        table: torch.Tensor,
    ) -> MPMState:
        """As of `MPMSolver`; `stiffness` is that of contact, which rings have not."""
        model, dt, (x, v, C, F) = self.model, self.model.grid.dt, (state.x, state.v, state.C, state.F)
        around = torch.zeros_like(C)
        around[:, 2, 2] = 1.0
        r = x[:, 0] - self.axis
        tau, A = model.stress(F, state.q), state.A
        if model.dissipates:
            whole = C + around * (v[:, 0] / r)[:, None, None]
            tau, A = dissipation_reference.dissipation(tau, F, whole, A, model.losses(len(x)))
        if model.slows:
            v, C = dissipation_reference.slow(v, C, model.losses(len(x)))
        pull = dt * volume * tau[:, 2, 2] / (mass * r)
        v = v - pull[:, None] * torch.tensor([1.0, 0.0, 0.0]).to(v)
        flat = tau * torch.tensor([1.0, 1.0, 0.0]).to(tau)  # nothing pulls along z
        body = {"mass": mass, "volume": volume, "table": table}
        x, v, C, F_trial = mpm.step(x, v, C, F, flat, grid=model.grid, number=number, **body)
        F, q = model.return_map(F_trial * (1 + around * (dt * v[:, 0] / r)[:, None, None]), state.q)
        return MPMState(x, v, C, F, q, A)
