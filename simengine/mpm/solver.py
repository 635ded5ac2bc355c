"""One step of MPM, pure."""

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops import bridge, mpm, mpm_rollout
from simengine.solve.rollout import AbstractAdjoint, AbstractSolver


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

    def run(
        self, state: MPMState, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint
    ) -> MPMState | None:
        """The states after the steps `saved` in one autograd node, by replays of captured launches.

        Returns None, so that the rollout goes step by step, where a law is not one of the shipped ones or Warp's
        kernels are not those that run.
        """
        model = self.model
        if not model.fused or bridge.backend("warp", "taichi", on=state.x) != "warp":
            return None
        n, steps = len(state.x), saved[-1]
        mass, volume = model.body(state.x)
        elastic, plastic = model.packed(n, "elasticity"), model.packed(n, "plasticity")
        return MPMState(
            *mpm_rollout.rollout(
                (state.x, state.v, state.C, state.F, state.q),
                mass=mass,
                volume=volume,
                table=model.table(state.x, first_step, max(steps, 1)),
                laws=(elastic[0], plastic[0]),
                coefficients=(elastic[1], plastic[1]),
                grid=model.grid,
                schedule=mpm_rollout.Schedule(
                    saved=saved, every=adjoint.stretch(steps), first_step=first_step, history=model.uses_history
                ),
            )
        )
