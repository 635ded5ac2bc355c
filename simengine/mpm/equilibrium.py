"""States of rest: a body that hangs or lies, before it is let go."""

import dataclasses
from typing import Any

import torch

from simengine.kernels.matter import contact
from simengine.materials import Identity
from simengine.mpm.increment import Increment, TangentSolves, settle
from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.solve.solution import Result, Solution

STILL = 5e-3  # of a cell: a state in which an increment moves no particle farther is at rest
SMALLEST = 1 / 64  # share of gravity that is tried alone, where it cannot act at once


def equilibrium(model: MPMModel, state: MPMState, *, rounds: int = 12, cells: bool = False) -> Solution[MPMState]:
    """The state of rest that bodies come to under gravity, with what hangs on them, differentiable.

    The first increment goes to the equilibrium on the grid as it lies around the state given, through any rotation;
    others follow from where the particles then are, until hardly one moves: that is at rest for the explicit transfers
    too. Where gravity is too much for one increment it comes in parts. Branches that relax have done so, viscosity
    plays no part. Nodes at slip walls are pushed, not pulled; clamps and sticky walls hold; hard contact is that of the
    explicit step, its friction a spring that slips at the cone.

    Args:
        model: What is constant.
        state: Where to begin, usually undeformed; its velocities do not count.
        rounds: Increments at most, beside those of gravity in parts.
        cells: Keep the volume cell by cell instead of particle by particle, against locking (`Response`).

    Returns:
        The state, with `stats`: `increments`, `num_iterations` of Newton, `products`, `factorisations`, `moved`, by
        the last increment [cells].

    Raises:
        ValueError: A material flows, or a friction or layer of contact has no single state of rest.
    """
    refuse(model)
    linear, share, part = TangentSolves(), 0.0, 1.0
    stats: dict[str, Any] = {"num_iterations": 0, "increments": 0, "moved": float("inf")}

    def ended(result: Result) -> Solution[MPMState]:
        return Solution(state, result, {**stats, "products": linear.products, "factorisations": linear.factorisations})

    room = torch.tensor(model.grid.size).to(state.x) * model.grid.dx
    while stats["increments"] < rounds:
        increment = Increment(model, state, share=min(1.0, share + part), cells=cells)
        u, found = settle(increment, linear=linear)
        stats["num_iterations"] += found.stats["num_iterations"]
        y = increment.patch.motion(u)
        ahead = (state.x + y[..., 0]).detach()
        if not found.success or not bool(((ahead > 0) & (ahead < room)).all()):
            part /= 2
            if part < SMALLEST:
                return ended(Result.SINGULAR if found.success else found.result)
            continue
        state, share = increment.response.moved(y), min(1.0, share + part)
        stats["moved"] = float(y.detach()[..., 0].abs().max()) / model.grid.dx
        stats["increments"] += share == 1.0
        if share == 1.0 and stats["moved"] < STILL:
            return ended(Result.SUCCESS)
    return ended(Result.MAX_ITERATIONS)


def refuse(model: MPMModel) -> None:
    """Say what has no state of rest that is one.

    Raises:
        ValueError: It names the material, wall or body.
    """
    for k, material in enumerate(model.materials):
        if not isinstance(material.plasticity, Identity):
            name = type(material.plasticity).__name__
            raise ValueError(
                f"material {k} flows ({name}), so its rest hangs on how it got there; let it come to rest in motion, "
                "or use an elastic material"
            )
    refuse_contact(model)


def refuse_contact(model: MPMModel) -> None:
    """Say what holds matter in explicit steps only.

    Raises:
        ValueError: It names the wall, body or coefficient.
    """
    for material in model.materials:
        critical = getattr(material.plasticity, "critical_packing", 0.0)
        if critical:
            raise ValueError(f"critical_packing {critical:g} is for explicit steps alone; leave it out (0)")
    if "friction" in model.walls.kinds.values():
        raise ValueError(
            "walls of kind friction are for explicit steps alone; use slip or sticky, or a collider with friction"
        )
    if model.contact is not None:
        raise ValueError(
            "contact: bodies that touch one another are for explicit steps alone; leave it out, or run until they rest"
        )
    for body in model.bodies:
        if body.width is not None and body.mode[1] != contact.STICKY:
            raise ValueError("a body with a layer of contact (width) is for explicit steps alone; leave the width out")


def at_rest(model: MPMModel, state: MPMState, *, cells: bool = False) -> MPMState:
    """The state of `equilibrium` with the velocities of `state`.

    Args:
        model: What is constant.
        state: The undeformed bodies, float64.
        cells: As of `equilibrium`.

    Raises:
        ValueError: There is none, or it was not found; says what to do.
    """
    found = equilibrium(model, state, cells=cells)
    if found.success:
        return dataclasses.replace(found.value, v=state.v)
    moved = found.stats["moved"]
    if found.result is Result.MAX_ITERATIONS and moved < float("inf"):
        raise ValueError(
            f"no state of rest: after {found.stats['increments']} increments particles still move {moved:.2g} cells; "
            "hold the body better, or refine the grid"
        )
    raise ValueError(
        f"no state of rest was found ({found.result.remedy.split(';')[0]}): does anything hold every body? Give it a "
        "clamp or a floor, or a stiffer material"
    )
