"""Press a rubber block between plates without inertia: one balance a step, and the force that the plate feels."""

import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "mpm"
gravity = [0.0, 0.0, 0.0]
walls.kind = "open"
output.save_every = 1
[grid]
lower = [-0.05, -0.02, -0.05]
upper = [0.05, 0.07, 0.05]
spacing = 0.01
integrator = "quasistatic"
time_step = 1.0
num_steps = 2
[[bodies]]
name = "block"
shape = { type = "box", center = [0.001, 0.0163, 0.0], size = [0.03, 0.03, 0.03] }
material = { type = "rubber", E = 3e5, nu = 0.3 }
[[colliders]]
name = "bottom"
type = "plane"
point = [0.0, 0.0013, 0.0]
normal = [0.0, 1.0, 0.0]
[[colliders]]
name = "top"
type = "plane"
point = [0.0, 0.0313, 0.0]
normal = [0.0, -1.0, 0.0]
velocity = [0.0, -0.0012, 0.0]
"""
LAW = 'kind = "specimen"\nmaterial = { type = "rubber", E = 3e5, nu = 0.3 }\ntest.type = "uniaxial"\n'


def ask(text: str, name: str, against: str, values: torch.Tensor) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scene.toml").write_text(text, encoding="utf-8")
        world = se.load_world(Path(folder) / "scene.toml")
    asked = se.scene.Series(names=(name,), against=against, values=values)
    return world.prepare([asked]).solve([asked]).sample(asked)[:, 0]


def main() -> dict[str, float]:
    time = torch.arange(1, 3, dtype=torch.float64)  # [s]; it only orders the steps
    stretch = 1 - 0.04 * time
    force = ask(SCENE, "colliders.top.force.1", "time", time)
    right = -ask(LAW, "nominal_stress", "stretch", stretch) * 0.03**2
    error = float((force / right - 1).abs().max())
    plt.plot(100 * (1 - stretch), right, label="the law alone")
    plt.plot(100 * (1 - stretch), force, "o", mfc="white", label="block of 3 cells")
    plt.gca().set(xlabel="pressed by [%]", ylabel="force [N]", title="A block between two plates")
    plt.legend()
    assert error < 0.02  # measured: 1.2 %
    return {"force at 8 %": float(force[-1]), "relative error": error}


if __name__ == "__main__":
    print(main())
    plt.savefig("press_a_block.png")
