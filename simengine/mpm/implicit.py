"""Steps that forces balance at their end or in their middle, in place of explicit ones."""

import dataclasses
from typing import Literal

import torch

from simengine.mpm.equilibrium import STILL, refuse_contact
from simengine.mpm.increment import Increment, TangentSolves, settle
from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops.matter.mpm.grid import SimulationError
from simengine.solve.rollout import AbstractAdjoint, AbstractSolver, by_steps

ROUNDS = 6  # increments of a quasi-static step, the first beside those that follow the particles


class ImplicitSolver(AbstractSolver):
    """Quasi-static steps, or steps of a motion by the implicit midpoint rule.

    `quasistatic`: no inertia; at the end of each step all forces balance, with rigid bodies and clamps where they then
    are. Time orders the steps and gives the rates of viscosity and relaxation; v and C are means over the step.

    `implicit`: the balance with inertia holds in the middle of the step, which keeps the energy of small vibrations and
    is stable for any stiffness (Newmark's rule with 1/4 and 1/2); what is faster than the step rings, undamped. What a
    wall or clamp holds has its velocity at the end.

    Args:
        model: What is constant in time; `dt` is the length of the steps.
        kind: Which of the two.
        cells: Keep the volume cell by cell, against locking; see `simengine.mpm.response`.
        tolerance: On what is left of the forces over their size. Differences between two runs know no more than it over
            what was changed; gradients are exact to rounding with the default.

    Raises:
        ValueError: A wall's friction, or contact in a layer, is explicit only; or what has no inertia has damping.
    """

    def __init__(
        self,
        model: MPMModel,
        kind: Literal["quasistatic", "implicit"] = "implicit",
        *,
        cells: bool = False,
        tolerance: float = 1e-9,
    ) -> None:
        refuse_contact(model)
        if kind == "quasistatic" and model.damps:
            raise ValueError("damping is of a motion, and quasistatic steps have none; use implicit or leave it out")
        self.model: MPMModel = model
        self.kind = kind
        self.cells: bool = cells
        self.tolerance: float = tolerance

    def step(self, state: MPMState, number: int = 0) -> MPMState:
        """The state one step later, differentiable in the state and in the model's parameters.

        Args:
            state: The state now, float64.
            number: Number of the step.

        Raises:
            SimulationError: No balance was found, or a particle left the grid.
        """
        state = state.to(torch.float64)
        linear = TangentSolves()  # of this step alone, so that a run goes on from a state to the last bit
        step = self._balanced if self.kind == "quasistatic" else self._moved
        return step(state, number, linear)

    def run(self, state: MPMState, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint) -> MPMState:
        """The states after the steps `saved`, one by one."""
        found: MPMState = by_steps(self, state.to(torch.float64), first_step, saved, adjoint)
        return found

    def _settled(self, increment: Increment, number: int, linear: TangentSolves) -> torch.Tensor:
        u, found = settle(increment, tolerance=self.tolerance, linear=linear)
        if not found.success:
            message = f"step {number}: no balance of forces was found ({found.result.name}); use a smaller time step"
            raise SimulationError(message, step=number, particle=0, field="F")
        return u

    def _inside(self, x: torch.Tensor, number: int) -> None:
        room = torch.tensor(self.model.grid.size, dtype=x.dtype) - 1.5
        s = x.detach() / self.model.grid.dx
        if bool(((s < 0.5) | (s > room)).any()):
            particle = int(((s < 0.5) | (s > room)).any(1).nonzero()[0, 0])
            message = f"step {number}, particle {particle}: the particle left the grid; use a larger one, or hold it"
            raise SimulationError(message, step=number, particle=particle, field="grid")

    def _balanced(self, state: MPMState, number: int, linear: TangentSolves) -> MPMState:
        dt, start = self.model.grid.dt, state
        for k in range(ROUNDS):
            increment = Increment(
                self.model, state, number=number + 1, span=0.0 if k else dt, cells=self.cells, relaxed=False
            )
            y = increment.patch.motion(self._settled(increment, number, linear))
            state = increment.response.moved(y)
            self._inside(state.x, number)
            if k and float(y.detach()[..., 0].abs().max()) < STILL * self.model.grid.dx:
                break
        grad = (state.F - start.F) @ torch.linalg.inv(start.F) / dt
        return dataclasses.replace(state, v=(state.x - start.x) / dt, C=grad)

    def _moved(self, state: MPMState, number: int, linear: TangentSolves) -> MPMState:
        half = self.model.grid.dt / 2
        increment = Increment(self.model, state, number=number + 0.5, span=half, cells=self.cells, relaxed=False)
        before = increment.throw(state, half)
        u = self._settled(increment, number, linear)
        patch = increment.patch
        middle = u / half
        held = patch.held | ((patch.stop != 0) & (u == 0))
        after = torch.where(held, middle, 2 * middle - before)
        new = increment.response.moved(2 * patch.motion(u))
        self._inside(new.x, number)
        rate = patch.motion(after)
        return dataclasses.replace(new, v=rate[..., 0], C=rate[..., 1:])
