"""What a prediction through the protocol costs over calling the solver: asks, the run, clock and place of instruments.

    simengine bench overhead [SCENE ...] [--rounds N]

Scenes of kind `mpm` with observations; `identify_jelly` unless named. `Problem.predict` is called for numbers that it
has not seen. What a direct call would do as well, to sample the bodies, to build the model and to run the solver over
the same steps, is timed within that prediction, so that both halves saw the same machine; the rest is the protocol.
Medians of CPU time. At most 3 % is asked.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from simengine.fit.problem import Problem
from simengine.mpm import ImplicitSolver, MPMSolver
from simengine.scene import load_scene
from simengine.worlds.motion.world import MPMWorld


class _Clock:
    """CPU seconds spent in calls of a method, those within another such call told once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.depth = 0

    def wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, its calls timed."""

        def timed(*args: Any, **named: Any) -> Any:
            self.depth += 1
            start = time.process_time()
            try:
                return method(*args, **named)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.process_time() - start

        return timed


def _row(name: str, rounds: int) -> dict[str, Any]:
    problem = Problem(load_scene(name))
    z = problem.start()
    problem.predict(z)  # code and kernels are loaded
    clock = _Clock()
    direct, around = [], []
    with contextlib.ExitStack() as stack:
        for owner, method in (
            (MPMWorld, "build"),
            (MPMWorld, "particles"),
            (MPMSolver, "run"),
            (ImplicitSolver, "run"),
        ):
            timed = clock.wrapped(getattr(owner, method))
            stack.enter_context(mock.patch.object(owner, method, timed))
        for k in range(rounds):
            clock.seconds = 0.0
            start = time.process_time()
            problem.predict(z + 1e-6 * (k + 1))
            direct.append(clock.seconds)
            around.append(time.process_time() - start - clock.seconds)
    return {
        "name": name,
        "runs": len(problem.worlds),
        "solver [s]": f"{statistics.median(direct):.3f}",
        "around it [s]": f"{statistics.median(around):.3f}",
        "overhead [%]": f"{100 * statistics.median(a / d for a, d in zip(around, direct, strict=True)):.1f}",
    }


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each scene."""
    parser = argparse.ArgumentParser(prog="simengine bench overhead")
    parser.add_argument("scenes", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args(list(arguments))
    return [_row(name, chosen.rounds) for name in chosen.scenes or ("identify_jelly",)]
