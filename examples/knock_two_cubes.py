"""Throw a rubber cube at another one: momentum is handed over to rounding, and a part of the speed stays as ringing."""

import torch
from matplotlib import pyplot as plt

import simengine as se

H = 0.025  # [m], between particles; two to a cell


def main() -> dict[str, float]:
    axis = (torch.arange(8, dtype=torch.float64) + 0.5) * H
    cube = torch.cartesian_prod(axis, axis, axis)
    n, y = len(cube), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    x = torch.cat((cube + 0.3 - 0.1 * y, cube + 0.3 + 0.12 * y))
    v = torch.cat((torch.zeros_like(cube), (-y).expand_as(cube)))  # the upper one comes down at 1 m/s
    model = se.mpm.MPMModel(
        num_grids=20,
        dt=4e-4,
        materials=[se.materials.rubber(E=1e5, nu=0.3)],
        volume=H**3,
        mass=1000 * H**3,
        gravity=(0.0, 0.0, 0.0),
        boundaries=[se.mpm.Walls("open")],
        contact=se.mpm.Contact((n, n), friction=0.2),
    )
    states = se.rollout(se.mpm.MPMSolver(model), se.mpm.MPMState.at_rest(x, v), 300, save_every=5).states
    struck, thrown = states.v[:, :n, 1].mean(1), states.v[:, n:, 1].mean(1)
    lost = float((struck + thrown + 1).abs().max())
    time = 5 * 4e-4 * torch.arange(len(struck))
    plt.plot(1e3 * time, thrown, label="thrown")
    plt.plot(1e3 * time, struck, label="struck")
    plt.gca().set(xlabel="time [ms]", ylabel="mean velocity [m/s]", title="One rubber cube hits another")
    plt.legend()
    parts_at = float(thrown[-1] - struck[-1])
    assert lost < 1e-12 and 0.6 < parts_at < 1.0  # a cube that hits a rigid plane leaves it at 0.73 of its speed
    return {"part at [m/s]": parts_at, "momentum lost": lost}


if __name__ == "__main__":
    print(main())
    plt.savefig("knock_two_cubes.png")
