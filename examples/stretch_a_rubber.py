"""Stretch a strip of rubber, and ask how its stress changes with the modulus: neo-Hooke's closed form says the same."""

import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "specimen"
material = { type = "ogden", mu = [3e5], alpha = [2.0], nu = 0.5 }
test = { type = "uniaxial" }
"""


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "strip.toml"
        file.write_text(SCENE, encoding="utf-8")
        strip = se.load_world(file)
    stretch = torch.linspace(0.7, 4.0, 12, dtype=torch.float64)
    ask = se.scene.Series(names=("nominal_stress",), against="stretch", values=stretch)
    stress = strip.solve((ask,)).sample(ask)[:, 0]
    plt.plot(stretch, 0.3 * (stretch - stretch**-2), label="closed form")
    plt.plot(stretch, stress / 1e6, "o", mfc="white", label="simengine")
    plt.gca().set(xlabel="stretch", ylabel="nominal stress [MPa]", title="A strip of rubber")
    plt.legend()
    error = float((stress - 3e5 * (stretch - stretch**-2)).abs().max() / 3e5)
    assert error < 1e-6
    return {"stress_at_4": float(stress[-1]), "error": error}


if __name__ == "__main__":
    print(main())
    plt.savefig("stretch_a_rubber.png")
