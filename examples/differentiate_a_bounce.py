"""How the height of a bouncing body depends on its stiffness: a gradient through 200 steps, checked by differences."""

import torch
from matplotlib import pyplot as plt

import simengine as se


def mean_height(E: torch.Tensor) -> torch.Tensor:
    """Mean height [m] of the particles after 0.08 s, differentiable in Young's modulus E [Pa]."""
    axis = torch.linspace(0.36, 0.64, 8, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis - 0.2, axis)
    model = se.mpm.MPMModel(
        num_grids=20, dt=4e-4, materials=[se.materials.jelly(E=E, nu=0.3)], volume=0.32**3 / 512, mass=32.8 / 512
    )
    state = se.mpm.MPMState.at_rest(x, torch.tensor([0.0, -3.0, 0.0], dtype=torch.float64).expand(512, 3))
    trajectory = se.rollout(se.mpm.MPMSolver(model), state, num_steps=200, save_every=20)
    return trajectory.states.x[-1, :, 1].mean()


def main() -> dict[str, float]:
    E = torch.tensor(5e4, dtype=torch.float64, requires_grad=True)
    height = mean_height(E)
    (gradient,) = torch.autograd.grad(height, E)
    with torch.no_grad():
        h = 5.0
        difference = (mean_height(E + h) - mean_height(E - h)) / (2 * h)
    error = abs(float(gradient / difference) - 1)
    around = E.detach() * torch.linspace(0.7, 1.3, 7, dtype=torch.float64)
    with torch.no_grad():
        plt.plot(around / 1e3, [mean_height(value) for value in around], "o", mfc="white", label="seven runs")
    plt.plot(around / 1e3, height.detach() + gradient * (around - E.detach()), label="tangent of one run")
    plt.gca().set(xlabel="Young's modulus [kPa]", ylabel="mean height after 80 ms [m]", title="A soft cube bounces")
    plt.legend()
    # central differences: rounding of 1e-16 m over a change of some 1e-6 m
    assert error < 1e-5, error
    return {"height": float(height.detach()), "gradient": float(gradient), "relative_error": error}


if __name__ == "__main__":
    print(main())
    plt.savefig("differentiate_a_bounce.png")
