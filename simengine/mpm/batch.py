"""Several motions as one: members that differ in materials, masses, places and speeds, each on a copy of one grid.

Where a member is small, most of a step's time goes to replaying its launches; a batch shares that among its members.
"""

from collections.abc import Sequence

import torch

from simengine.materials import Material
from simengine.mpm.contact import Contact
from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState


def batch(members: Sequence[tuple[MPMModel, MPMState]]) -> tuple[MPMModel, MPMState]:
    """One model and one state of members that pass by each other; `members` takes its states apart again.

    A member moves as it does alone, to the rounding of its sums, and each has its gradient. What is one for all: grid,
    time step, gravity, walls and rigid bodies.

    Args:
        members: Model and state at the start of each.

    Raises:
        ValueError: There is none, or a member differs in what is one for all, or has contact between its own bodies,
            loads or a tilt.
    """
    if not members:
        raise ValueError("members: a batch needs one at least")
    first, state = members[0]
    if len(members) == 1:
        return first, state
    for k, (model, start) in enumerate(members):
        if model.contact is not None or model.loads is not None or model.tilt is not None:
            raise ValueError(f"members: {k} has contact between its own bodies, loads or a tilt; run it by itself")
        if model.grid != first.grid or not _same_boundaries(model, first):
            raise ValueError(f"members: grid, time step, gravity, walls and rigid bodies of {k} are not those of 0")
        if start.A.shape[1] != state.A.shape[1] or start.x.dtype != state.x.dtype:
            raise ValueError(f"members: the state of {k} has other branches or another dtype than that of 0")
    materials, ids, bodies = list[Material](), list[torch.Tensor](), list[tuple[torch.Tensor, torch.Tensor]]()
    for model, start in members:
        n = len(start.x)
        own = torch.zeros(n, dtype=torch.int64) if model.material_ids is None else model.material_ids
        ids.append(own.to(start.x.device) + len(materials))
        materials += list(model.materials)  # type: ignore[arg-type]
        bodies.append(model.body(start.x.double()))
    mass, volume = (torch.cat(parts) for parts in zip(*bodies, strict=True))
    joined = MPMModel(
        num_grids=first.grid.size,
        dt=first.grid.dt,
        materials=materials,
        volume=volume,
        mass=mass,
        material_ids=torch.cat(ids),
        length=first.grid.dx * first.grid.size[0],
        gravity=first.gravity,
        release=first.release,
        boundaries=list(first.boundaries),
        contact=Contact([len(start.x) for _, start in members], "none"),
        epsilon=first.grid.epsilon,
    )
    fields = (torch.cat([getattr(start, name) for _, start in members]) for name in vars(state))
    return joined, MPMState(*fields)


def members(states: MPMState, counts: Sequence[int]) -> list[MPMState]:
    """The states of each member of a batch.

    Args:
        states: A state, or several with a leading dimension, as a trajectory has them.
        counts: Particles of each member, as `model.contact.bodies` of the batch.

    Raises:
        ValueError: There are not as many particles.
    """
    axis = states.x.ndim - 2
    if sum(counts) != states.x.shape[axis]:
        raise ValueError(f"counts: {sum(counts)} particles together, the state has {states.x.shape[axis]}")
    parts = [getattr(states, name).split(list(counts), axis) for name in vars(states)]
    return [MPMState(*own) for own in zip(*parts, strict=True)]


def _same_boundaries(model: MPMModel, first: MPMModel) -> bool:
    """Whether gravity, a hand that lets go, walls and rigid bodies have the same numbers."""
    own, other = ({"gravity": m.gravity, "release": m.release, **m.boundaries.state_dict()} for m in (model, first))
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
