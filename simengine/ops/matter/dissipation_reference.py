"""Viscosity, branches and damping in plain torch; the formulas are in `simengine.kernels.matter.dissipation`."""

import torch


def dissipation(
    tau: torch.Tensor, F: torch.Tensor, C: torch.Tensor, A: torch.Tensor, coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole stress now, and what the branches have relaxed a step later.

    Args:
        tau: Kirchhoff stress of the elastic law [Pa], shape (n, 3, 3).
        F: Deformation gradient [1], shape (n, 3, 3).
        C: Velocity gradient [1/s], shape (n, 3, 3).
        A: What the branches have relaxed of the second Piola-Kirchhoff stress [Pa], shape (n, branches, 3, 3).
        coefficients: Viscosity [Pa s], shares [1], 1 - exp(-dt / time), and that of `slow`, shape (n, 2 + 2 branches).

    Returns:
        tau [Pa], shape (n, 3, 3), and A [Pa], shape (n, branches, 3, 3).
    """
    n = A.shape[1]
    coefficients = coefficients.to(F.dtype)
    viscosity, share, k = coefficients[:, 0], coefficients[:, 1 : 1 + n, None, None], coefficients[:, 1 + n : -1]
    twice = C + C.mT
    rate = twice - torch.eye(3).to(F) * (twice.diagonal(dim1=1, dim2=2).sum(1) / 3)[:, None, None]
    whole = tau + rate * (viscosity * torch.linalg.det(F))[:, None, None]
    if not n:
        return whole, A
    G = torch.linalg.inv(F)
    pushed = F[:, None] @ A @ F[:, None].mT
    whole = whole + (share * (tau[:, None] - pushed)).sum(1)
    return whole, A + k[..., None, None] * ((G @ tau @ G.mT)[:, None] - A)


def slow(v: torch.Tensor, C: torch.Tensor, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What mass-proportional damping leaves of the motion that a particle hands to the grid in a step.

    Args:
        v: Velocity [m/s], shape (n, 3).
        C: Velocity gradient [1/s], shape (n, 3, 3).
        coefficients: As of `dissipation`; the last is 1 - exp(-damping dt).

    Returns:
        v [m/s], shape (n, 3), and C [1/s], shape (n, 3, 3).
    """
    left = 1 - coefficients[:, -1].to(v.dtype)
    return v * left[:, None], C * left[:, None, None]
