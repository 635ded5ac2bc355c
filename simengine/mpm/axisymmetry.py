"""Motions that are the same all around an axis, without swirl, on the section through it.

x - axis is the radius r, y lies along the axis, z around it. What a particle stands for is a ring: of its mass and
volume those of one radian count, |r| times the area of its section. The rate of strain around the axis is v_r / r, and
virtual work makes it the force -V tau_zz / r along r. Sections may lie on one side of the axis, as that of a pipe; of a
body that meets the axis both sides belong to the state, so that the velocity there vanishes by symmetry.

A rigid body touches a ring as a particle that is as deep as it is wide, of which so many stand side by side.
"""

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.solver import MPMSolver
from simengine.mpm.state import MPMState
from simengine.solve.rollout import AbstractAdjoint, AbstractSolver, by_steps


class AxisymmetricSolver(MPMSolver):
    """Explicit steps of rings around an axis, one by one, differentiable as those of `MPMSolver`.

    Args:
        model: Of a grid that is periodic along z; a layer of particles there will do. `mass` and `volume` are those of
            a radian, or of another angle, the same for all. Where rigid bodies touch particles they need its `edge`,
            and must be the same all around the axis themselves.
        axis: Where it stands along x [m].

    Raises:
        ValueError: The grid is not periodic along z, or the model has what knows no rings: contact between bodies, a
            critical packing, rigid bodies that touch particles of no `edge`.
    """

    def __init__(self, model: MPMModel, axis: float = 0.0) -> None:
        super().__init__(model, threads=1)
        if not model.grid.periodic[2]:
            raise ValueError("model: rings need a grid that is periodic along z; give Walls({'-z': 'periodic', ...})")
        if model.contact is not None or model.critical_packing(1) is not None:
            raise ValueError("model: contact between bodies and critical_packing know no rings; leave them out")
        if model.is_hard and model.edge is None:
            raise ValueError("model: rigid bodies that touch rings need their width; model.set_edge(...)")
        self.axis: float = axis

    def run(self, state: MPMState, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint) -> MPMState:
        """The states after the steps `saved`, one by one."""
        found: MPMState = by_steps(_Prepared(self, state.x, first_step, saved[-1]), state, first_step, saved, adjoint)
        return found

    def rate(self, state: MPMState) -> torch.Tensor:
        """With the rate around the axis, v_r / r."""
        return state.C + _around(state.v[:, 0] / self._radius(state.x))

    def pulled(
        self, x: torch.Tensor, v: torch.Tensor, tau: torch.Tensor, *, mass: torch.Tensor, volume: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the stress around the axis does along r; nothing pulls along z."""
        pull = self.model.grid.dt * volume * tau[:, 2, 2] / (mass * self._radius(x))
        return v - pull[:, None] * v.new_tensor([1.0, 0.0, 0.0]), tau * tau.new_tensor([1.0, 1.0, 0.0])

    def stretched(self, F: torch.Tensor, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """With the stretch around the axis."""
        return F * (1 + _around(self.model.grid.dt * v[:, 0] / self._radius(x)))

    def _radius(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] - self.axis


class _Prepared(AbstractSolver):
    """The steps of a solver with what does not change in them made once.

    Args:
        solver: The solver.
        like: Places (n, 3) of the particles [m].
        first: Number of the first step.
        count: Steps.
    """

    def __init__(self, solver: MPMSolver, like: torch.Tensor, first: int, count: int) -> None:
        self._solver = solver
        self._mass, self._volume, self._stiffness, _ = solver.constants(like, first)
        self._first, self._rows = first, solver.model.table(like, first, max(count, 1))

    def step(self, state: MPMState, number: int = 0) -> MPMState:
        """As of the solver."""
        row = min(number - self._first, len(self._rows) - 1)
        table = self._rows[row : row + 1]
        return self._solver.advance(state, number, self._mass, self._volume, self._stiffness, table)


def _around(value: torch.Tensor) -> torch.Tensor:
    """Matrices (n, 3, 3) with `value` (n,) at zz, 0 elsewhere."""
    return torch.diag_embed(value[:, None] * value.new_tensor([0.0, 0.0, 1.0]))
