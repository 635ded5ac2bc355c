"""Rotation vectors."""

import torch


def rotation_matrix(turn: torch.Tensor) -> torch.Tensor:
    """The rotation by |turn| [rad] about turn, smooth at zero.

    Args:
        turn: Rotation vectors [rad], shape (..., 3).

    Returns:
        Matrices R with x' = R x, shape (..., 3, 3).
    """
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*turn.shape, 3)
    several = skew.reshape(-1, 3, 3)
    if len(several) == 1:  # of one matrix alone torch takes a series that errs by 1e-10
        several = several.expand(2, 3, 3)
    return torch.linalg.matrix_exp(several)[: turn[..., 0].numel()].reshape(skew.shape)


def nearest_rigid_motion(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rotation R and shift s that bring R a + s nearest to b in the squares (Kabsch 1976).

    Args:
        a: Points, shape (k, 3), k >= 3 and not on a line.
        b: Where they are to lie, shape (k, 3).
    """
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, _, vt = torch.linalg.svd((b - mean_b).T @ (a - mean_a))
    flip = torch.ones(3, dtype=a.dtype)
    flip[2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ torch.diag(flip) @ vt
    return rotation, mean_b - rotation @ mean_a
