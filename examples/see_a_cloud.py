"""Picture a cloud in front of a bright wall, and ask how the picture changes with its density."""

import math

import torch
from matplotlib import pyplot as plt

from simengine.render import PinholeCamera, Volume, render_volume


def main() -> dict[str, float]:
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=33, height=33, dtype=torch.float64)
    density = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    cloud = Volume(density=density.expand(4, 4, 4), source=torch.zeros(4, 4, 4, 1, dtype=torch.float64))
    picture = render_volume(cloud, camera, background=1.0).rgb
    middle = picture[16, 16, 0]
    (slope,) = torch.autograd.grad(middle, density)

    plt.imshow(picture[..., 0].detach().numpy(), cmap="gray", vmin=0, vmax=1)
    plt.gca().set(title="A cube of cloud before a bright wall", xticks=[], yticks=[])
    plt.colorbar(label="light that comes through")
    expected = math.exp(-0.8 * 2)  # the ray through the middle passes 2 m of it
    error = abs(float(middle.detach()) - expected)
    slope_error = abs(float(slope) + 2 * expected)
    assert error < 1e-12 and slope_error < 1e-12
    return {"transmitted": float(middle.detach()), "error": error, "slope_error": slope_error}


if __name__ == "__main__":
    print(main())
    plt.savefig("see_a_cloud.png")
