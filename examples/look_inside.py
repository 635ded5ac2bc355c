"""What is in the box? Thirty projections through it, as a scanner takes them, give the attenuation of each cell."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import simengine as se

SCENE = """
kind = "volume"
[volume]
box = [[-0.8, 0.8], [-0.8, 0.8]]
cells = [40, 40]
attenuation = 0.1
[observations.scan]
type = "projections"
file = "scan.npz"
columns = { values = "values", angle = "angle [deg]" }
geometry = { type = "parallel", pitch = 0.02 }
values = "minus_log"
sigma = 0.01
[unknowns."volume.attenuation"]
lower = 0.0
prior = { normal = 1.0, length = 0.1 }
[inference]
iterations = 60
"""
DISCS = [(0.2, -0.3, 0.25, 3.0), (-0.3, 0.2, 0.3, 1.0)]  # x, y, radius [m], attenuation [1/m]


def main() -> dict[str, float]:
    angle, u = np.radians(np.arange(0, 180, 6.0))[:, None], (np.arange(80) - 39.5) * 0.02
    lines = sum(
        a * 2 * np.sqrt(np.maximum(r**2 - (u - x * np.cos(angle) - y * np.sin(angle)) ** 2, 0)) for x, y, r, a in DISCS
    )  # chords of the discs: no cells, no other program's grid
    lines = lines + 0.01 * np.random.default_rng(0).standard_normal(lines.shape)
    with tempfile.TemporaryDirectory() as name:
        np.savez(Path(name) / "scan.npz", values=lines, angle=np.degrees(angle[:, 0]))
        (Path(name) / "box.toml").write_text(SCENE, encoding="utf-8")
        found = se.identify(se.load_scene(Path(name) / "box.toml"), progress=False).fields["volume.attenuation"].numpy()
    place = np.stack(np.meshgrid(*2 * [(np.arange(40) + 0.5) * 0.04 - 0.8], indexing="ij"))
    plt.imshow(found.T, origin="lower", extent=(-0.8, 0.8, -0.8, 0.8), cmap="gray")
    plt.gca().set(xlabel="x [m]", ylabel="y [m]", title="Attenuation from thirty projections")
    plt.colorbar(label="1/m")
    means = [float(found[np.hypot(place[0] - x, place[1] - y) < r - 0.06].mean()) for x, y, r, _ in DISCS]
    assert max(abs(m / d[3] - 1) for m, d in zip(means, DISCS, strict=True)) < 0.02
    return {"first disc": means[0], "second disc": means[1]}


if __name__ == "__main__":
    print(main())
    plt.savefig("look_inside.png")
