"""Drop a ball that bounces with restitution 0.8: each bounce reaches 0.64 of the height before."""

import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "rigid"
duration = 1.6
gravity = [0.0, -9.81, 0.0]
bodies = [{ name = "ball", shape = { type = "sphere", center = [0.0, 1.05, 0.0], radius = 0.05 }, mass = 0.1 }]
colliders = [{ name = "floor", point = [0.0, 0.0, 0.0], normal = [0.0, 1.0, 0.0] }]
contact = { ball-floor = { restitution = 0.8 } }
"""


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ball.toml"
        file.write_text(SCENE, encoding="utf-8")
        world = se.load_world(file)
    fall = (2 * 1.0 / 9.81) ** 0.5  # [s], until the first blow
    top = torch.tensor([fall + 0.8 * fall], dtype=torch.float64)
    times = torch.cat((top, torch.linspace(0.0, 1.5, 301, dtype=torch.float64)))
    ask = se.scene.Tracks(points=torch.full((1, 3), float("nan"), dtype=torch.float64), times=times, body="ball")
    y = world.solve((ask,)).sample(ask)[:, 0, 1] - 0.05
    height = float(y[0])
    plt.plot(times[1:], y[1:])
    plt.plot(top, y[:1], "o")
    plt.gca().set(xlabel="time [s]", ylabel="height [m]", title="A ball that bounces")
    assert abs(height - 0.64) < 1e-4
    return {"height_of_the_first_bounce": height, "error": abs(height - 0.64)}


if __name__ == "__main__":
    print(main())
    plt.savefig("bounce_a_ball.png")
