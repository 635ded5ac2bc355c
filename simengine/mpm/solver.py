"""One step of MPM, pure."""

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops import mpm
from simengine.solve.rollout import AbstractSolver


class MPMSolver(AbstractSolver):
    """Explicit MLS-MPM with APIC and symplectic Euler.

    Args:
        model: What is constant in time.
    """

    def __init__(self, model: MPMModel) -> None:
        self.model = model

    def step(self, state: MPMState, number: int = 0) -> MPMState:
        """The state one time step later, differentiable in the state and in the model's parameters.

        Args:
            state: The state now.
            number: Number of the step: what an error names, and the time at which boundaries are.

        Raises:
            SimulationError: A particle left the grid or a field is not finite.
        """
        model = self.model
        mass, volume = model.body(state.x)
        tau = model.stress(state.F, state.q)
        x, v, C, F_trial = mpm.step(
            state.x,
            state.v,
            state.C,
            state.F,
            tau,
            mass=mass,
            volume=volume,
            table=model.table(state.x, number),
            grid=model.grid,
            number=number,
        )
        F, q = model.return_map(F_trial, state.q)
        return MPMState(x, v, C, F, q)
