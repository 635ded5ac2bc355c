"""Masses of particles with what hangs on them, some of it only from a time on."""

import dataclasses
import math
from typing import TYPE_CHECKING

import torch

from simengine.mpm import ImplicitSolver, MPMSolver, MPMState
from simengine.scene.base import SceneError
from simengine.solve.rollout import AbstractAdjoint
from simengine.worlds.motion.pull.loads import loaded

if TYPE_CHECKING:
    from simengine.worlds.motion.world import MPMWorld, Values


@dataclasses.dataclass(frozen=True)
class Hung:
    """What the particles weigh over the steps.

    Attributes:
        own: With what hangs from the start, (n,) [kg].
        late: Of each other load when it is hung on [steps], 0-d, and what it adds, (n,) [kg].
    """

    own: torch.Tensor
    late: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    def at(self, step: int) -> torch.Tensor:
        """During a step, (n,) [kg]; of a load that comes within it the share of the step that it is there."""
        mass = self.own
        for begins, more in self.late:
            mass = mass + more * (step + 1 - begins).clamp(0.0, 1.0)
        return mass

    def changes(self, first: int, last: int) -> list[int]:
        """Steps between these two at whose beginning it changes."""
        found = {math.floor(float(begins.detach())) + k for begins, _ in self.late for k in (0, 1)}
        return sorted(step for step in found if first < step < last)

    def joined(self, v: torch.Tensor, step: int) -> torch.Tensor:
        """Velocities (n, 3) at the beginning of a step: what is hung on was at rest, and momentum is kept."""
        if step == 0 or not self.late:
            return v
        return v * (self.at(step - 1) / self.at(step)).to(v)[:, None]


def hung_on(world: "MPMWorld", values: "Values") -> Hung:
    """The masses of the particles of a world, with tensors in place of some of its numbers."""
    x, volume, ids = world.unturned()
    volume, kinds = torch.as_tensor(volume), torch.as_tensor(ids)
    mass = volume * torch.tensor([body.material.density for body in world.bodies], dtype=volume.dtype)[kinds]
    late: list[tuple[torch.Tensor, torch.Tensor]] = []
    for index, load in enumerate(world.loads):
        part = torch.as_tensor(loaded(world, index, x, ids))
        whole = values.get(f"loads.{index}.mass", torch.tensor(load.mass, dtype=torch.float64)).to(mass)
        begins = values.get(f"loads.{index}.begins", torch.tensor(load.begins, dtype=torch.float64)).to(mass)
        more = whole * volume * part / volume[part].sum()
        if float(begins.detach()) > 0:
            late.append((begins / world.grid.time_step, more))
        else:
            mass = mass + more
    return Hung(mass, tuple(late))


def run(
    solver: MPMSolver | ImplicitSolver,
    hung: Hung,
    state: MPMState,
    saved: tuple[int, ...],
    adjoint: AbstractAdjoint,
    *,
    first_step: int = 0,
) -> MPMState:
    """The states after the steps `saved` beyond the first, as of `MPMSolver.run`, while masses come.

    Raises:
        SceneError: Other kernels than Warp's are chosen.
    """
    last = first_step + saved[-1]
    changes = hung.changes(first_step, last)
    if not changes:  # one rollout: its states are not copied piece by piece
        return _rolled(solver, hung, state, first_step, saved, adjoint)
    start, pieces = first_step, list[MPMState]()
    for end in [*changes, last]:
        own = [
            k + first_step - start
            for k in saved
            if start < k + first_step <= end or k + first_step == start == first_step
        ]
        steps = sorted({0, end - start, *own})
        states = _rolled(solver, hung, state, start, tuple(steps), adjoint)
        rows = torch.tensor([steps.index(k) for k in own], dtype=torch.int64)
        pieces.append(states.map(lambda tensor, rows=rows: tensor[rows.to(tensor.device)]))  # type: ignore[misc]
        state, start = states.map(lambda tensor: tensor[-1]), end
    return MPMState(*(torch.cat([getattr(p, f.name) for p in pieces]) for f in dataclasses.fields(MPMState)))


def _rolled(
    solver: MPMSolver | ImplicitSolver,
    hung: Hung,
    state: MPMState,
    start: int,
    steps: tuple[int, ...],
    adjoint: AbstractAdjoint,
) -> MPMState:
    """The states after `steps` beyond `start`, between which no mass changes."""
    solver.model.mass = hung.at(start).to(solver.model.volume)
    states = solver.run(dataclasses.replace(state, v=hung.joined(state.v, start)), start, steps, adjoint)
    if states is None:
        raise SceneError("this world needs Warp's kernels; unset SIMENGINE_KERNELS")
    return states
