"""One step of MPM, pure."""

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops import bridge
from simengine.ops.matter import dissipation_reference, hard_contact, loads_reference, mpm, packing_reference
from simengine.ops.matter.mpm.rollout import Laws, RolloutSchedule, rollout
from simengine.solve.rollout import AbstractAdjoint, AbstractSolver


class MPMSolver(AbstractSolver):
    """Explicit MLS-MPM with APIC and symplectic Euler.

    Args:
        model: What is constant in time.
        threads: CPU threads that share the particles of a rollout, but for laws in torch. The bits repeat from run to
            run, and depend on this number. None: one below `THREADED` particles, where more do not pay, otherwise as
            many as torch has (`torch.set_num_threads`).

    Raises:
        ValueError: `threads` is less than 1.
    """

    THREADED = 8192

    def __init__(self, model: MPMModel, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}; None chooses by the number of particles")
        self.model = model
        self.threads = threads

    def step(self, state: MPMState, number: int = 0) -> MPMState:
        """The state one time step later, differentiable in the state and in the model's parameters.

        Args:
            state: The state now.
            number: Number of the step: what an error names, and the time at which boundaries are.

        Raises:
            SimulationError: A particle left the grid or a field is not finite.
        """
        return self.advance(state, number, *self.constants(state.x, number))

    def constants(self, like: torch.Tensor, number: int = 0) -> tuple[torch.Tensor, ...]:
        """Mass [kg], volume [m^3] and stiffness of contact [N/m], (n,), and boundaries at a step, for x `like`."""
        mass, volume = self.model.body(like)
        return mass.contiguous(), volume.contiguous(), self.model.stiffness(like), self.model.table(like, number)

    def advance(
        self,
        state: MPMState,
        number: int,
        mass: torch.Tensor,
        volume: torch.Tensor,
        stiffness: torch.Tensor,
        table: torch.Tensor,
    ) -> MPMState:
        """As `step`, of what `constants` returned: on a CUDA device without a word to the host."""
        model = self.model
        tau, A = model.stress(state.F, state.q), state.A
        if model.dissipates:
            tau, A = dissipation_reference.dissipation(tau, state.F, self.rate(state), A, model.losses(len(state.x)))
        x, v, C, F = state.x, state.v, state.C, state.F
        if model.slows:
            v, C = dissipation_reference.slow(v, C, model.losses(len(x)))
        body = {"mass": mass, "volume": volume, "table": table}
        if model.is_hard:
            one = model.cubes(x)
            cube = {"mass": mass / one, "volume": volume / one, "stiffness": stiffness / one, "table": table}
            v, tau = hard_contact.hard_contact(x, v, C, F, tau, grid=model.grid, number=number, **cube)
        v, tau = self.borne(v, F, tau, mass=mass, volume=volume, row=table[min(number, len(table) - 1)])
        v, tau = self.pulled(x, v, tau, mass=mass, volume=volume)
        x, v, C, F_trial = mpm.step(x, v, C, F, tau, grid=model.grid, number=number, **body)
        F, q = model.return_map(self.stretched(F_trial, state.x, v), state.q)
        critical = model.critical_packing(len(q))
        if critical is not None:
            crowd = packing_reference.log_packing(state.x, mass=mass, volume=volume, grid=model.grid)
            q = packing_reference.pack(q, crowd, critical.to(q))
        return MPMState(x, v, C, F, q, A)

    def borne(
        self,
        v: torch.Tensor,
        F: torch.Tensor,
        tau: torch.Tensor,
        *,
        mass: torch.Tensor,
        volume: torch.Tensor,
        row: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocities and stress with what loads do in a step, whose table is `row`."""
        part = self.model.loaded(v)
        if part is None:
            return v, tau
        force, moment = loads_reference.load_pushes(F, volume, part, row)
        return v + force * (self.model.grid.dt / mass)[:, None], tau - moment

    def rate(self, state: MPMState) -> torch.Tensor:
        """Velocity gradients (n, 3, 3) [1/s]."""
        return state.C

    def pulled(
        self, x: torch.Tensor, v: torch.Tensor, tau: torch.Tensor, *, mass: torch.Tensor, volume: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocities and Kirchhoff stress that go to the grid."""
        return v, tau

    def stretched(self, F: torch.Tensor, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Trial deformation gradients, of places before and velocities after the step."""
        return F

    def num_threads(self, num_particles: int) -> int:
        """CPU threads that share a rollout of so many particles."""
        return self.threads or (torch.get_num_threads() if num_particles >= self.THREADED else 1)

    def run(
        self, state: MPMState, first_step: int, saved: tuple[int, ...], adjoint: AbstractAdjoint
    ) -> MPMState | None:
        """The states after the steps `saved` in one autograd node, by replays of captured launches.

        Laws that are not shipped ones are evaluated in torch between the replays. Returns None, so that the rollout
        goes step by step, where Warp's kernels are not those that run.
        """
        model = self.model
        if bridge.backend("warp", "taichi", on=state.x) != "warp" or model.edge is not None:
            return None
        n, steps = len(state.x), saved[-1]
        mass, volume = model.body(state.x)
        elastic, plastic = model.packed(n, "elasticity"), model.packed(n, "plasticity")
        return MPMState(
            *rollout(
                (state.x, state.v, state.C, state.F, state.q, state.A),
                mass=mass,
                volume=volume,
                stiffness=model.stiffness(state.x),
                table=model.table(state.x, first_step, max(steps, 1)),
                laws=Laws(
                    elastic[0],
                    plastic[0],
                    model.critical_packing(n),
                    model.loaded(state.x),
                    (*model.torch_laws(n, "elasticity"), *model.torch_laws(n, "plasticity")),
                ),
                coefficients=(elastic[1], plastic[1], model.losses(n)),
                grid=model.grid,
                schedule=RolloutSchedule(
                    saved=saved,
                    every=adjoint.stretch(steps),
                    first_step=first_step,
                    history=model.keeps_history,
                    dissipates=model.dissipates,
                    slows=model.slows,
                    threads=self.num_threads(n),
                ),
            )
        )
