"""Photograph a flame, and ask how the picture changes with its mixture: the gradient goes through the whole flame."""

import torch
from matplotlib import pyplot as plt

from simengine.flame.emission import Emission
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.solver.solve import SpectralSolver
from simengine.render import PinholeCamera, Volume, render_volume

WIDTH = 1.4e-3  # [m], of what is pictured


def picture(phi: torch.Tensor) -> torch.Tensor:
    """Linear RGB (16, 48, 3) of a flat flame of equivalence ratio phi, seen from its side."""
    flame = SpectralSolver(resolution=1e-5).solve(SimplifiedFlame(phi=phi)).value
    x = WIDTH * (torch.arange(60, dtype=torch.float64) + 0.5) / 60
    profiles = flame.profiles(x)
    light = Emission(kappa=1e-5)(profiles["T"][0], profiles["heat"][0])
    sheet = Volume(
        density=torch.zeros(60, 1, 1, dtype=torch.float64),
        source=light[:, None, None],
        lower=(0.0, -5e-4, -5e-4),
        upper=(WIDTH, 5e-4, 5e-4),
        emission=True,
    )
    eye, middle = (WIDTH / 2, 1e-3, 10e-3), (WIDTH / 2, 0.0, 0.0)
    camera = PinholeCamera.look_at(eye, middle, fov_y=0.05, width=48, height=16, dtype=torch.float64)
    return render_volume(sheet, camera).rgb


def main() -> dict[str, float]:
    phi = torch.tensor(0.42, dtype=torch.float64, requires_grad=True)
    seen = picture(phi)
    brightness = seen.mean()
    plt.imshow((seen / seen.max()).detach().clamp(0, 1).numpy() ** 0.45, extent=(0, 1e3 * WIDTH, 0, 1e3 * WIDTH / 3))
    plt.gca().set(xlabel="place [mm]", yticks=[], title="A flat flame from its side")
    (slope,) = torch.autograd.grad(brightness, phi)
    with torch.no_grad():
        difference = (picture(phi + 1e-3).mean() - picture(phi - 1e-3).mean()) / 2e-3
    error = float((slope - difference).abs() / difference.abs())
    assert error < 1e-3, error  # differences of 1e-3 in phi leave 1e-5
    return {"brightness": float(brightness.detach()), "d brightness / d phi": float(slope), "relative error": error}


if __name__ == "__main__":
    print(main())
    plt.savefig("photograph_a_flame.png")
