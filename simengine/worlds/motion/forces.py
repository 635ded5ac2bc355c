"""Forces of matter on what stops it: faces of the domain, colliders and clamps, as scalars of a motion.

Read off the impulses that the nodes, or in hard contact the particles, get from each of them in a step, so that with
gravity they balance the momentum of the particles to rounding. The sign is that of a load cell in the support: what
matter exerts on it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.mpm import ImplicitSolver, MPMSolver, MPMState
from simengine.mpm.boundaries import FACES
from simengine.mpm.patch import Patch
from simengine.mpm.response import Response
from simengine.ops.matter import dissipation_reference, hard_contact_reference
from simengine.ops.matter.mpm import transfer_reference
from simengine.worlds.motion.pull.hung import Hung

if TYPE_CHECKING:
    from simengine.worlds.motion.world import MPMWorld


def is_force(name: str) -> bool:
    """Whether a scalar is a force on a support, as `walls.-y.force.1` or `clamps.block.force.2`."""
    parts = name.split(".")
    return len(parts) == 4 and parts[0] in ("walls", "colliders", "clamps") and parts[2] == "force"


def is_shift(name: str) -> bool:
    """Whether a scalar is how far a support has moved, as `colliders.plate.shift.1`."""
    parts = name.split(".")
    return len(parts) == 4 and parts[0] in ("colliders", "clamps") and parts[2] == "shift"


def _supports(world: "MPMWorld") -> list[str]:
    """Names in the order of the contacts of a node."""
    return [
        *(f"walls.{face}" for face in FACES),
        *(f"colliders.{collider.name or index}" for index, collider in enumerate(world.colliders)),
        *(f"clamps.{clamp.name}" for clamp in world.clamps),
    ]


def bodies_of(world: "MPMWorld") -> list[str]:
    """Names of the bodies of the model: colliders, clamps, and walls where they are hard."""
    names = _supports(world)
    return [*names[6:], *(names[k] for k in world.walls.numbers(flat=world.grid.flat))]


def scalars(world: "MPMWorld") -> Mapping[str, str]:
    """Forces on the supports of a world, and how far those move that can, with their units."""
    found = {f"{support}.force.{axis}": "N" for support in _supports(world) for axis in range(3)}
    moved = {f"{support}.shift.{axis}": "m" for support in _supports(world)[6:] for axis in range(3)}
    return {**found, **moved}


def number_of(world: "MPMWorld", name: str) -> tuple[int, int]:
    """Number of the support among the contacts, and the axis."""
    support, _, axis = name.rpartition(".force.")
    return _supports(world).index(support), int(axis)


def forces(
    solver: MPMSolver | ImplicitSolver,
    states: MPMState,
    row: int,
    step: int,
    hung: Hung,
    hard: Sequence[int] = (),
    *,
    still: bool = False,
    cells: bool = False,
) -> torch.Tensor:
    """Mean force of matter on each support over a step, (6 + bodies, 3) [N]; that on hard walls in the first six.

    Args:
        solver: What made the steps.
        states: Saved states, in the coordinates of the lattice.
        row: That before the step.
        step: Number of the step.
        hung: Masses of the particles.
        hard: Numbers of the faces whose walls are the last bodies of the model.
        still: Whether the state is a balance without inertia; the forces are then those in it.
        cells: Whether the volume was kept cell by cell.
    """
    model = solver.model
    steps = solver if isinstance(solver, MPMSolver) else MPMSolver(model)
    x, v, C, F, q, A = (getattr(states, name)[row] for name in ("x", "v", "C", "F", "q", "A"))
    tau = model.stress(F, q)
    if cells:
        state = states.map(lambda tensor: tensor[row])
        F, tau = Response(model, state, mean=Patch(model, state, whole=True).cell).kept()
    if model.dissipates:
        rate = steps.rate(MPMState(x, v, C, F, q, A))
        tau, _ = dissipation_reference.dissipation(tau, F, rate, A, model.losses(len(x)))
    mass, volume = hung.at(step).to(x), model.body(x)[1]
    v = hung.joined(v, step)
    table = model.table(x, step, ahead=0.0 if still else 1.0)
    if model.slows:
        v, C = dissipation_reference.slow(v, C, model.losses(len(x)))
    if still:  # velocities that only order the balances carry no momentum
        v, C = torch.zeros_like(v), torch.zeros_like(C)
        table = table * (torch.arange(table.shape[-1]) // 6 != 2)
    body: dict[str, Any] = {"mass": mass, "volume": volume, "table": table, "grid": model.grid}
    pushed = torch.zeros(6 + len(model.bodies), 3, dtype=x.dtype)
    if model.is_hard:
        one = model.cubes(x)
        cube = {**body, "mass": mass / one, "volume": volume / one, "stiffness": model.stiffness(x) / one}
        force, arm = hard_contact_reference.pushes(x, v, C, F, tau, **cube)
        force = force * (one if isinstance(one, float) else one[:, None])
        pushed = torch.cat((pushed[:6], force.sum(1)))
        v, tau = hard_contact_reference.applied(v, tau, force, arm, mass=mass, volume=volume, dt=model.grid.dt)
    v, tau = steps.borne(v, states.F[row], tau, mass=mass, volume=volume, row=table[0])
    v, tau = steps.pulled(x, v, tau, mass=mass, volume=volume)
    found = -transfer_reference.impulses(x, v, C, tau, **body) / model.grid.dt - pushed
    if hard:
        found = found.index_add(0, torch.tensor(list(hard)), found[-len(hard) :])
    return found
