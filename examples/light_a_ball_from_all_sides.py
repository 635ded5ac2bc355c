"""Which way does each point of a surface look? Ten photographs under ten lamps tell (photometric stereo)."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import simengine as se

SCENE = """
kind = "surface"
surface.mask = "mask.png"
lights.lamps = { file = "lamps.csv", columns = { direction = ["lx", "ly", "lz"] } }
[observations.photos]
type = "lamps"
file = "photo_*.png"
mask = "mask.png"
light = "lamps"
[unknowns."surface.normals"]
initial = 0.5
[inference]
iterations = 60
"""


def main() -> dict[str, float]:
    g = np.random.default_rng(0)
    x, y = np.meshgrid((np.arange(33) - 16) / 13, (16 - np.arange(33)) / 13)
    r2 = x**2 + y**2
    ball, inside = np.stack((x, y, np.sqrt(np.maximum(1 - r2, 0))), -1), r2 < 0.9
    lamps = np.column_stack((g.uniform(-0.5, 0.5, (10, 2)), np.ones(10)))
    lamps /= np.linalg.norm(lamps, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, lamp in enumerate(lamps):
            photo = 200 * np.maximum(ball @ lamp, 0) * (r2 < 1) + g.normal(0, 1, r2.shape)
            Image.fromarray(photo.clip(0, 255).round().astype(np.uint8)).save(folder / f"photo_{k}.png")
        Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(folder / "mask.png")
        np.savetxt(folder / "lamps.csv", lamps, delimiter=",", header="lx,ly,lz", comments="")
        (folder / "ball.toml").write_text(SCENE, encoding="utf-8")
        found = se.identify(se.load_scene(folder / "ball.toml"), progress=False).fields["surface.normals"]
    normal = np.full((*r2.shape, 3), np.nan)
    normal[inside] = found.numpy() / np.linalg.norm(found.numpy(), axis=1, keepdims=True)
    plt.imshow(0.5 + 0.5 * np.nan_to_num(normal))
    plt.gca().set(title="Normals, as colours", xticks=[], yticks=[])
    off = float(np.degrees(np.arccos((normal * ball).sum(-1)[inside].clip(-1, 1))).mean())
    assert off < 1.0  # 8 bits and noise of one step of 255
    return {"mean error [degrees]": off}


if __name__ == "__main__":
    print(main())
    plt.savefig("light_a_ball_from_all_sides.png")
