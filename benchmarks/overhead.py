"""What a prediction through the protocol costs over calling the solver: asks, the run, clock and place of instruments.

    simengine bench overhead [SCENE ...] [--rounds N]

Scenes of kind `mpm` with observations and without loads; `identify_jelly` unless named. Directly, the world is built
and its solver runs over the same steps and saves the same; through the protocol, `Problem.predict` is called for
numbers that it has not seen. Rounds alternate; the least CPU time of each counts, which another process on the machine
disturbs least. At most 3 % is asked.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from simengine.fit.problem import Problem
from simengine.scene import load_scene
from simengine.solve import CheckpointAdjoint


def _cpu(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _row(name: str, rounds: int) -> dict[str, Any]:
    problem = Problem(load_scene(name))
    z = problem.start()
    problem.predict(z)  # code and kernels are loaded
    steps = {run: problem.run_at(z, run, []).steps for run in problem.worlds}  # those saved

    def directly() -> None:
        for run, world in problem.worlds.items():
            model, state = world.build(device="cpu", double=True)
            world.solver(model).run(state, 0, tuple(steps[run].tolist()), CheckpointAdjoint())

    directly()
    direct, through = [], []
    for k in range(rounds):
        direct.append(_cpu(directly))
        through.append(_cpu(lambda k=k: problem.predict(z + 1e-6 * (k + 1))))
    return {
        "name": name,
        "runs": len(problem.worlds),
        "solver [s]": f"{min(direct):.2f}",
        "prediction [s]": f"{min(through):.2f}",
        "overhead [%]": f"{100 * (min(through) / min(direct) - 1):.1f}",
    }


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each scene."""
    parser = argparse.ArgumentParser(prog="simengine bench overhead")
    parser.add_argument("scenes", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(list(arguments))
    return [_row(name, chosen.rounds) for name in chosen.scenes or ("identify_jelly",)]
