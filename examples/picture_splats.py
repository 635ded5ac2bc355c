"""Write a ball of two thousand Gaussian splats as other programs do, read it again, and picture it."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt

from simengine.io import read_splats, write_splats
from simengine.render import PinholeCamera, Splats, render_splats


def main() -> dict[str, float]:
    n = 2000
    k = np.arange(n) + 0.5
    z, turn = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k  # evenly over the sphere
    place = np.stack((np.sqrt(1 - z**2) * np.cos(turn), z, np.sqrt(1 - z**2) * np.sin(turn)), -1)
    cloud = {
        "positions": place,
        "harmonics": (0.4 * place + 0.2)[:, None],  # one colour for all directions, by place
        "opacities": np.full(n, 6.0),  # before the logistic function
        "scales": np.full((n, 3), np.log(0.04)),
        "rotations": np.tile([1.0, 0.0, 0.0, 0.0], (n, 1)),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ball.ply"
        write_splats(file, {name: value.astype(np.float32) for name, value in cloud.items()})
        splats = Splats.of(read_splats(file))
    camera = PinholeCamera.look_at((0.0, 0.5, 5.0), width=96, height=96, dtype=torch.float64)
    picture, bright = render_splats(splats, camera), render_splats(splats, camera, background=1.0)
    seen = float((1 - (bright - picture)[..., 0]).sum())  # pixels that let no light through
    focal, far = float(camera.intrinsics[0]), (5.0**2 + 0.5**2) ** 0.5
    ball, reach = (np.pi * focal**2 / (far**2 / r**2 - 1) for r in (1.0, 1.0 + 3 * 0.04))  # outlines [px]
    plt.imshow(picture.clamp(0, 1).numpy())
    plt.gca().set(title="Two thousand Gaussian splats", xticks=[], yticks=[])
    assert ball < seen < reach  # splats stick out of the sphere by up to three standard deviations
    return {"covered pixels": seen, "outline of the ball": ball}


if __name__ == "__main__":
    print(main())
    plt.savefig("picture_splats.png")
