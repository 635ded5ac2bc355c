"""Flame speed against mixture: a sweep by local processes, and its slope beside the derivative of a single flame."""

import csv
import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from simengine.cli import main as simengine
from simengine.flame import SimplifiedFlame, SpectralSolver

SCENE = 'kind = "flame"\nflame = { type = "free_simple", phi = 0.42 }\n'


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        scene, out = Path(name) / "flame.toml", Path(name) / "swept"
        scene.write_text(SCENE, encoding="utf-8")
        over = "flame.phi=linspace(0.38, 0.46, 5)"
        assert simengine(["sweep", str(scene), "--over", over, "--out", str(out), "--workers", "1"]) == 0
        with (out / "results.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    phi, speed = ([float(row[key]) for row in rows] for key in ("flame.phi", "flame_speed"))
    one = torch.tensor(phi[2], dtype=torch.float64, requires_grad=True)
    at = SpectralSolver().solve(SimplifiedFlame(phi=one)).value.eigenvalue
    (slope,) = torch.autograd.grad(at.sum(), one)
    swept = (speed[3] - speed[1]) / (phi[3] - phi[1])
    plt.plot(phi, speed, "o", mfc="white", label="swept")
    plt.plot(phi, [float(at.detach()) + float(slope) * (p - phi[2]) for p in phi], label="tangent of one flame")
    plt.gca().set(xlabel="equivalence ratio", ylabel="flame speed [m/s]", title="A lean flame of methane and air")
    plt.legend()
    assert abs(swept / float(slope) - 1) < 2e-3  # the chord of a curved line
    return {"slope by the sweep": swept, "derivative": float(slope)}


if __name__ == "__main__":
    print(main())
    plt.savefig("sweep_a_mixture.png")
