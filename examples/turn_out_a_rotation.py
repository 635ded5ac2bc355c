"""Take a rotation out of a deformation, with its derivative: exact also where the stretches are equal."""

import torch

from simengine.ops.matter.svd import polar_svd


def main() -> dict[str, float]:
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    c, s, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one]).reshape(3, 3)
    rotation, stretches = polar_svd(1.5 * turn[None])
    (slope,) = torch.autograd.grad(rotation[0, 1, 0], angle)  # d sin(angle) / d angle
    error = float((rotation[0] - turn).abs().max().detach()) + float((stretches - 1.5).abs().max().detach())
    slope_error = abs(float(slope) - float(c.detach()))
    assert error < 1e-12 and slope_error < 1e-12
    return {"error": error, "slope_error": slope_error}


if __name__ == "__main__":
    print(main())
