"""The buffers of one rollout of MPM.

The time-varying arrays have a slot per held state; the clock in device memory tells a replay which slots it works on.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from simengine.kernels.matter import dissipation, elasticity, hard_contact, loads, packing, plasticity
from simengine.ops import bridge
from simengine.ops.matter.hard_contact import is_hard
from simengine.ops.matter.mpm.grid import Grid, Workspace
from simengine.ops.matter.mpm.laws import Laws

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # x, v, C, F, q, A


@dataclasses.dataclass(frozen=True)
class RolloutSchedule:
    """What a rollout computes and holds.

    Attributes:
        saved: Steps after which the state is returned, ascending, the first 0, the last the end.
        every: Steps between held states; at least the number of steps to hold all of them.
        first_step: Number of the first step, for the messages of errors.
        history: Whether a law uses the history variable.
        dissipates: Whether a material has viscosity, branches or damping.
        slows: Whether one has damping in proportion to its mass.
        threads: How many threads share the particles on a CPU; the bits depend on it, and repeat.
    """

    saved: tuple[int, ...]
    every: int
    first_step: int = 0
    history: bool = False
    threads: int = 1
    dissipates: bool = False
    slows: bool = False


class Buffers:
    """What the steps of a rollout read and write; each thread works on its own rows of them.

    Args:
        grid: Grid, time step, gravity and boundaries.
        like: Positions, for their number, dtype and device.
        slots: States held at a time.
        laws: The laws of the particles.
        constants: mass, volume, table, elastic, plastic and dissipative coefficients, stiffness of hard contact.
        schedule: What is computed.
    """

    def __init__(
        self,
        grid: Grid,
        like: torch.Tensor,
        slots: int,
        laws: Laws,
        constants: Sequence[torch.Tensor],
        schedule: RolloutSchedule,
    ) -> None:
        n, real = len(like), bridge.scalar(like)
        self.slots, self.like, self.laws, self.schedule = slots, like, laws, schedule
        self.threads: int = 1 if like.is_cuda else max(1, min(schedule.threads, n))
        self.space: Workspace = Workspace(grid, like, self.threads)
        self.k, self.e, self.p = self.space.kernels, elasticity.kernels(real), plasticity.kernels(real)
        shipped = laws.plastic[laws.plastic >= 0]
        self.elastic: bool = bool((laws.elastic >= 0).any())
        self.plastic: bool = bool((shipped != plasticity.IDENTITY).any()) or (schedule.history and len(shipped) > 0)
        self.slots_q: int = slots if schedule.history else 1
        self.dissipates, self.d = schedule.dissipates, dissipation.kernels(real)
        self.hard, self.h = is_hard(grid), hard_contact.kernels(real)
        self.loaded, self.l = laws.part is not None, loads.kernels(real)
        self.packs, self.c = laws.critical is not None and schedule.history, packing.kernels(real)
        branches = constants[5].shape[1] // 2 - 1
        self.slots_A: int = slots if branches else 1

        def new(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

        self.states: State = (
            new(slots, n, 3), new(slots, n, 3), new(slots, n, 3, 3), new(slots, n, 3, 3), new(self.slots_q, n),
            new(self.slots_A, n, branches, 3, 3),
        )  # fmt: skip
        self.tau, self.trial, self.whole = new(n, 3, 3), new(1, n, 3, 3), new(n if self.dissipates else 0, 3, 3)
        self.crowd, self.crowd_bar = new(slots, n if self.packs else 0, 4), new(n if self.packs else 0, 4)
        self.critical = None if laws.critical is None else laws.critical.to(like).contiguous()
        self.sent, self.acting = (new(n if self.hard else 0, *shape) for shape in ((3,), (3, 3)))
        self.part = None if laws.part is None else laws.part.to(like.device).contiguous()
        self.pulled = tuple(new(n if self.loaded else 0, *shape) for shape in ((3,), (3, 3)))
        self.slowed = tuple(new(n if schedule.slows else 0, *shape) for shape in ((3,), (3, 3)))
        self.clocks: torch.Tensor = torch.zeros(self.threads, 3, dtype=torch.int32, device=like.device)
        self.constants: list[torch.Tensor] = [t.contiguous() for t in constants]

    def kernels(self, *, backward: bool = False) -> list[Any]:
        """One kernel of each module that a step launches; a module must be loaded before a capture."""
        laws = [self.e.stress] * self.elastic + [self.d.dissipation] * self.dissipates
        laws += [self.h.hard_contact] * self.hard + [self.c.pack] * self.packs + [self.l.load] * self.loaded
        if not backward:
            return [self.k.p2g, *laws, *[self.p.return_map] * self.plastic]
        laws += [self.e.stress_adjoint] * self.elastic + [self.d.dissipation_adjoint] * self.dissipates
        laws += [self.h.hard_contact_adjoint] * self.hard + [self.p.return_map_adjoint] * self.plastic
        laws += [self.c.pack_adjoint] * self.packs + [self.l.load_adjoint] * self.loaded
        return [self.k.p2g, self.space.adjoint.gather_adjoint, *laws]

    def state(self, slot: int) -> State:
        """Views of the state in a slot."""
        x, v, C, F, q, A = self.states
        slot %= self.slots
        return x[slot], v[slot], C[slot], F[slot], q[slot % self.slots_q], A[slot % self.slots_A]
