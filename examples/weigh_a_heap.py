"""Let a column of sand collapse, and read the balance beneath: it feels little, then too much, then the weight."""

import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "mpm"
walls = { kind = "friction", friction = 0.4 }
grid = { num_grids = 20, time_step = 4e-4, num_steps = 2500 }
output.save_every = 100
[[bodies]]
name = "sand"
shape = { type = "cylinder", center = [0.5, 0.325, 0.5], radius = 0.12, height = 0.3 }
material = { type = "sand", density = 1600.0, E = 5e5, nu = 0.2, friction_angle = 30.0 }
"""


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sand.toml").write_text(SCENE, encoding="utf-8")
        world = se.load_world(Path(folder) / "sand.toml")
    time = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    ask = se.scene.Series(names=("walls.-y.force.1",), against="time", values=time)
    world = world.prepare([ask])
    model, state = world.build()
    force = -world.solve([ask]).sample(ask)[:, 0]
    weight = float(model.mass.sum()) * 9.8 if model.mass.ndim else float(model.mass) * len(state.x) * 9.8
    rest = float(force[-20:].mean())
    plt.plot(time, force)
    plt.axhline(weight, ls="--", color="0.5", label="weight")
    plt.gca().set(xlabel="time [s]", ylabel="force on the floor [N]", title="A column of sand collapses")
    plt.legend()
    assert abs(rest / weight - 1) < 0.02
    return {"weight": weight, "force at rest": rest, "largest force": float(force.max())}


if __name__ == "__main__":
    print(main())
    plt.savefig("weigh_a_heap.png")
