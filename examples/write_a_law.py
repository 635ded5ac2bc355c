"""A constitutive law of one's own: ten lines of torch, differentiated and simulated like the shipped ones."""

import torch
from matplotlib import pyplot as plt
from torch import nn

import simengine as se


class Fibre(nn.Module):
    """Neo-Hookean matrix with stiff fibres along x."""

    def __init__(self, mu: float, fibre: float) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(mu))
        self.fibre = nn.Parameter(torch.tensor(fibre))

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        identity = torch.eye(3, dtype=F.dtype)
        a = F[:, :, 0]  # the deformed fibre
        stretch = a.square().sum(1)[:, None, None] - 1
        log_J = torch.logdet(F)[:, None, None]
        return self.mu * (F @ F.mT - identity + log_J * identity) + self.fibre * stretch * a[:, :, None] * a[:, None, :]


def main() -> dict[str, float]:
    axis = torch.linspace(0.4, 0.6, 6)
    x = torch.cartesian_prod(axis, axis - 0.15, axis)
    law = Fibre(mu=1e4, fibre=3e4)
    material = se.materials.Material(elasticity=law, plasticity=se.materials.Identity())
    model = se.mpm.MPMModel(num_grids=16, dt=1e-3, materials=[material], volume=0.2**3 / 216, mass=8 / 216)
    state = se.mpm.MPMState.at_rest(x, torch.tensor([0.0, -2.0, 0.0]).expand(216, 3))
    trajectory = se.rollout(se.mpm.MPMSolver(model), state, num_steps=80, save_every=10)
    last = trajectory[-1].x
    for x_, name, mark in ((x, "at the start", "."), (last.detach(), "on the floor", "o")):
        plt.plot(x_[:, 0], x_[:, 1], mark, ms=4, label=name)
    plt.gca().set(aspect="equal", xlabel="x, along the fibres [m]", ylabel="y [m]", title="A law of one's own")
    plt.legend()
    extent = (last.amax(0) - last.amin(0)).detach().tolist()
    width_x, width_z = extent[0], extent[2]
    last.square().mean().backward()
    assert law.fibre.grad is not None and float(law.fibre.grad.abs()) > 0
    assert width_x < width_z, "the fibres hold the body together along x"
    return {"width_x": width_x, "width_z": width_z}


if __name__ == "__main__":
    print(main())
    plt.savefig("write_a_law.png")
