"""How much has it stretched? Two photographs of speckles, before and after, give the strain and its error."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import simengine as se

SCENE = """
kind = "displacement"
body = { lower = [20.0, 20.0], upper = [100.0, 100.0], spacing = 40.0 }
[observations.camera]
type = "displacements"
files = ["before.png", "after.png"]
window = 21
step = 8
lower = [20.0, 20.0]
upper = [100.0, 100.0]
[unknowns."body.displacement"]
prior = { normal = 50.0, length = 100.0 }
[inference]
iterations = 150
"""


def speckles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A sum of waves, so that the stretched picture is exact, not an interpolation of the first."""
    g = np.random.default_rng(3)
    waves = ((g.normal(0, 0.45, 2), g.uniform(0, 6.28)) for _ in range(120))
    return 0.5 + 0.05 * sum(np.cos(k[0] * x + k[1] * y + phase) for k, phase in waves)


def main() -> dict[str, float]:
    x, y = np.meshgrid(np.arange(120.0), np.arange(120.0))
    pair = {"before": speckles(x, y), "after": speckles((x - 1.3) / 1.03, (y + 2.0) / 0.99)}  # 3 % across, -1 % down
    with tempfile.TemporaryDirectory() as name:
        for stem, picture in pair.items():
            Image.fromarray(np.round(255 * picture.clip(0, 1)).astype(np.uint8)).save(Path(name) / f"{stem}.png")
        (Path(name) / "pull.toml").write_text(SCENE, encoding="utf-8")
        found = se.identify(se.load_scene(Path(name) / "pull.toml"), progress=False)
    strain = found.summary["fields"]["body.displacement"]
    at, moved = found.predictions["camera"].measured.at, found.predictions["camera"].measured.values
    plt.imshow(pair["before"], cmap="gray")
    arrows = (at["x"][::2], at["y"][::2], moved[::2, 0], moved[::2, 1])
    plt.quiver(*arrows, color="tab:red", angles="xy", scale_units="xy", scale=0.4)
    plt.gca().set(xlabel="x [px]", ylabel="y [px]", title="How the speckles moved, drawn 2.5 times as long")
    error = max(abs(strain["mean strain xx"] - 0.03), abs(strain["mean strain yy"] + 0.01))
    assert error < 0.002  # windows are 0.1 px off at most, over 80 px
    return {"across": strain["mean strain xx"], "down": strain["mean strain yy"]}


if __name__ == "__main__":
    print(main())
    plt.savefig("strain_from_two_pictures.png")
