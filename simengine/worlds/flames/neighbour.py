"""A solved flame as the first guess of another one under other conditions."""

import dataclasses
from collections.abc import Mapping

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.free import FreeFlame
from simengine.flame.solver.adaptive import AbstractFlameSolver
from simengine.flame.solver.solution import FlameSolution
from simengine.worlds.flames.conditions import Row


def moved_to(found: FlameSolution, flame: AbstractFlame, solver: AbstractFlameSolver) -> FlameSolution:
    """A free flame with its thickness, speed, fresh and burnt gas scaled to those of another; others as they are.

    Args:
        found: A solution of one condition.
        flame: The flame that is sought, of the same kind and mechanism.
        solver: Makes the mesh.
    """
    old, new = found.flame.detached(), flame.detached()
    if not isinstance(old, FreeFlame) or not isinstance(new, FreeFlame):
        return found
    with torch.no_grad():
        faster = new.first_flux() / old.first_flux()
        z = found.eigenvalue.detach() * faster
        thinner = new.thickness(new.first_flux()) / old.thickness(old.first_flux())
        mesh = found.problem.mesh
        problem = solver.problem(new, mesh.edges * thinner[:, None], mesh.anchor)
        y = found.problem.unpack(found.state.detach())[0]
        ends = []
        for own in (old, new):
            T_burnt, Y_burnt = own.burnt()
            fresh = torch.cat((own.T_in.expand(1)[:, None], own.Y_in), 1)
            ends.append((fresh, torch.cat((T_burnt[:, None], Y_burnt), 1)))
        (fresh, burnt), (new_fresh, new_burnt) = ends
        share = ((y[..., :1] - fresh[0, 0]) / (burnt[0, 0] - fresh[0, 0])).clamp(0.0, 1.0)
        y = y + (1 - share) * (new_fresh - fresh) + share * (new_burnt - burnt)
        y[..., 1:] = y[..., 1:].clamp_min(0.0)
        problem = problem.near(y, z)
        return dataclasses.replace(found, flame=new, problem=problem, state=problem.pack(y, z))


def neighbour_of(
    flame: AbstractFlame, row: Row, done: Mapping[Row, FlameSolution]
) -> tuple[FlameSolution, float] | None:
    """The solved flame of the nearest conditions and how far these are, as shares of their size; None for none.

    Args:
        flame: The flame that is sought.
        row: Its conditions.
        done: Conditions -> flames that were found.
    """
    own = dict(row)
    best, nearest_distance = None, 1.0
    for other, found in done.items():
        theirs = dict(other)
        if not other or theirs.keys() != own.keys() or found.flame.fields != flame.fields:
            continue
        away = 0.0
        for name, value in own.items():
            size = max(abs(value), abs(theirs[name]))
            share = abs(value - theirs[name]) / size if size else 0.0
            away += share if "." not in name else share * size / max(sum(v for k, v in own.items() if "." in k), 1e-300)
        if away < nearest_distance:
            best, nearest_distance = found, away
    return None if best is None else (best, nearest_distance)
