"""An objective of one's own: with which velocity must a jelly be thrown for its middle to be at a place at a time?

No file is read. The goal is a function of where the jelly's middle is, which the world answers; what is sought, its
prior, the search and the report are those of any fit.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import simengine as se
from simengine.scene import Tracks

TARGET = (0.62, 0.55, 0.44)  # [m]
WHEN = torch.tensor([0.08], dtype=torch.float64)  # [s], before it touches anything


def middle(answers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Where the middle of the jelly is, (3,) [m]."""
    return answers[0][0, 0]


def scene() -> se.Scene:
    """What `simengine fit examples/aim_a_throw.py` takes."""
    body = ["bodies.0.shape.size=[0.2, 0.2, 0.2]", "bodies.0.shape.counts=[6, 6, 6]"]
    world = se.load_world("jelly_drop", ["grid.num_steps=100", "grid.time_step=1e-3", *body])
    ask = Tracks(points=torch.full((1, 3), 0.5, dtype=torch.float64), times=WHEN)
    goal = se.observe.Goal(asks_for=(ask,), of=middle, target=TARGET, unit="m", sigma=1e-3)
    return se.scene_of(world, observations={"goal": goal}, unknowns={"bodies.jelly.velocity": se.Unknown()})


def main() -> dict[str, float]:
    """Find it, and compare with the parabola of a point."""
    result = se.identify(se.Problem(scene()), progress=False)
    print(result)
    t = float(WHEN)
    for axis in range(3):
        wanted = (TARGET[axis] - 0.5) / t + (9.81 * t / 2 if axis == 1 else 0.0)
        found = result.parameters[f"bodies.jelly.velocity {axis}"]
        assert abs(found - wanted) < 0.05, (axis, found, wanted)
    times = torch.linspace(0.0, 0.1, 21, dtype=torch.float64)
    world = se.load_world(Path(__file__), [f"{key.replace(' ', '.')}={v}" for key, v in result.parameters.items()])
    ask = Tracks(points=torch.full((1, 3), 0.5, dtype=torch.float64), times=times)
    path = world.prepare([ask]).solve([ask]).sample(ask)[:, 0]
    plt.plot(path[:, 0], path[:, 1], label="the middle of the jelly")
    plt.plot(TARGET[0], TARGET[1], "x", markersize=12, label="where it shall be after 0.08 s")
    plt.gca().set(xlabel="x [m]", ylabel="y [m]", title="A throw that was aimed")
    plt.legend()
    return dict(result.parameters)


if __name__ == "__main__":
    main()
    plt.savefig("aim_a_throw.png")
