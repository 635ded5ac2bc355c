"""Take a rotation out of a deformation, with its derivative: exact also where the stretches are equal."""

import torch
from matplotlib import pyplot as plt

from simengine.ops.matter.svd import polar_svd


def main() -> dict[str, float]:
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    c, s, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one]).reshape(3, 3)
    rotation, stretches = polar_svd(1.5 * turn[None])
    (slope,) = torch.autograd.grad(rotation[0, 1, 0], angle)  # d sin(angle) / d angle
    square = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=torch.float64)
    turned = (1.5 * square @ turn[:2, :2].mT).detach()
    plt.plot(*turned.mT, label="as it is deformed")
    plt.plot(*(turned @ rotation[0, :2, :2].detach()).mT, "--", label="the rotation taken out")
    plt.plot(*square.mT, color="0.6", label="undeformed")
    plt.gca().set(aspect="equal", title="A square, stretched and turned")
    plt.legend()
    error = float((rotation[0] - turn).abs().max().detach()) + float((stretches - 1.5).abs().max().detach())
    slope_error = abs(float(slope) - float(c.detach()))
    assert error < 1e-12 and slope_error < 1e-12
    return {"error": error, "slope_error": slope_error}


if __name__ == "__main__":
    print(main())
    plt.savefig("turn_out_a_rotation.png")
