"""Many small rollouts in one, and a stiff body by implicit steps: CPU time over that of the plain way.

    simengine bench mpm_small_and_stiff [small|stiff]

64 members that differ in E, none of which meets a wall: a loop of rollouts; bodies with fields of their own that pass
through each other (`mpm.Contact(kind="none")`); side by side in one long grid.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from simengine import materials, mpm, solve

MEMBERS, STEPS = 64, 300
VELOCITY = torch.tensor([0.0, 0.3, 0.1], dtype=torch.float64)
OPEN = {"gravity": (0.0, 0.0, 0.0), "boundaries": [mpm.Walls("open")]}


def block(count: int) -> torch.Tensor:
    """A cube of 0.2 m amid a domain of 1 m, `count` particles along an edge."""
    axis = (torch.arange(count, dtype=torch.float64) + 0.5) * 0.2 / count + 0.4
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def end(x: torch.Tensor, E: torch.Tensor, nodes: int, members: int = 1, **more: object) -> torch.Tensor:
    """Positions after a rollout of members whose grids of `nodes` per axis follow one another along x."""
    n = len(block(round((len(x) / len(E)) ** (1 / 3))))
    model = mpm.MPMModel(
        num_grids=(nodes * members, nodes, nodes),
        length=float(members),
        dt=4e-4,
        materials=[materials.jelly(E=E.repeat_interleave(n), nu=0.3)],
        volume=0.008 / n,
        mass=8.0 / n,
        **{**OPEN, **more},
    )
    state = mpm.MPMState.at_rest(x, VELOCITY.expand_as(x))
    with torch.no_grad():
        return solve.rollout(mpm.MPMSolver(model), state, STEPS, save_every=STEPS)[-1].x


def timed(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """CPU time of the second of two runs [s], and what came of it."""
    run()
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def small() -> list[dict[str, Any]]:
    """The three ways, for grids and cubes of several sizes."""
    rows: list[dict[str, Any]] = []
    E = torch.linspace(5e3, 2e4, MEMBERS, dtype=torch.float64)
    for nodes, count in ((8, 2), (8, 3), (16, 2), (16, 4), (16, 6)):
        x = block(count)
        n = len(x)
        away = torch.zeros(MEMBERS, 1, 3, dtype=torch.float64)
        away[:, 0, 0] = torch.arange(MEMBERS)
        loop, first = timed(lambda: torch.cat([end(x, e[None], nodes) for e in E[:8]]))  # noqa: B023 - run at once
        beside, second = timed(lambda: end((x + away).reshape(-1, 3), E, nodes, MEMBERS))  # noqa: B023
        contact = mpm.Contact((n,) * MEMBERS, "none")
        through, third = timed(lambda: end(x.repeat(MEMBERS, 1), E, nodes, contact=contact))  # noqa: B023
        loop *= MEMBERS / 8
        second = (second.reshape(MEMBERS, n, 3) - away)[:8].reshape(-1, 3)
        apart = max(float((other[: 8 * n] - first).abs().max()) for other in (second, third))
        rows.append(
            {
                "name": f"{MEMBERS} members of {n} particles on {nodes}^3 nodes",
                "us a member and step, one by one": round(loop / MEMBERS / STEPS * 1e6),
                "side by side, times cheaper": round(loop / beside, 2),
                "fields of their own, times cheaper": round(loop / through, 2),
                "apart by [m]": f"{apart:.1e}",
            }
        )
    return rows


def stiff() -> list[dict[str, Any]]:
    """A free cube of rubber, E 1e9, that spins: CPU time for a time of its motion."""
    rows: list[dict[str, Any]] = []
    x = block(8)
    w = torch.linalg.cross(torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64).expand_as(x), x - 0.5)
    state = mpm.MPMState.at_rest(x, w)

    def model(dt: float) -> mpm.MPMModel:
        law = materials.rubber(E=1e9, nu=0.3)
        return mpm.MPMModel(num_grids=20, dt=dt, materials=[law], volume=0.008 / 512, mass=8.0 / 512, **OPEN)

    limit = mpm.recommended_dt(model(2e-5), state)
    with torch.no_grad():
        solver = mpm.MPMSolver(model(limit))
        explicit = timed(lambda: solve.rollout(solver, state, STEPS, save_every=STEPS)[-1].x)[0] / STEPS
        for dt in (1e-3, 4e-3, 1e-2):
            implicit, moved = mpm.ImplicitSolver(model(dt)), state
            start = time.process_time()
            for number in range(4):
                moved = implicit.step(moved, number)
            step = (time.process_time() - start) / 4
            rows.append(
                {
                    "name": f"E 1e9, implicit step of {dt:g} s (explicit {limit:.2g} s)",
                    "ms": round(step * 1e3),
                    "over an explicit step": round(step / explicit),
                    "cost of the motion over the explicit one": round(step / dt / (explicit / limit), 1),
                }
            )
    return rows


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of `small`, of `stiff`, or of both."""
    torch.set_num_threads(1)
    parts = {"small": small, "stiff": stiff}
    return [row for name, part in parts.items() if not arguments or name in arguments for row in part()]


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(row)
