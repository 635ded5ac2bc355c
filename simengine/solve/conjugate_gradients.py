"""Preconditioned conjugate gradients for a batch of symmetric positive definite systems."""

from collections.abc import Callable

import torch

Linear = Callable[[torch.Tensor], torch.Tensor]


def conjugate_gradients(
    product: Linear,
    b: torch.Tensor,
    *,
    precondition: Linear,
    tolerance: float = 1e-12,
    max_iterations: int = 200,
    truncated: bool = False,
) -> torch.Tensor:
    """Solve H x = b (Nocedal & Wright, algorithm 5.3), every problem with its own step lengths.

    Args:
        product: H v for v of shape (b, n).
        b: Right-hand sides, shape (b, n).
        precondition: An approximate H^-1 v, symmetric positive definite.
        tolerance: On |b - H x| / |b| in the norm of the preconditioner.
        max_iterations: Products of H at most.
        truncated: Whether the last iterate is wanted where the tolerance was not reached; it lowers x.Hx/2 - x.b too.

    Returns:
        x, shape (b, n); NaN where H or the preconditioner is not positive definite, or the tolerance was not reached
        and `truncated` is not said.
    """
    x, r = torch.zeros_like(b), b.clone()
    z = precondition(r)
    p, rz = z.clone(), (r * z).sum(dim=1)
    start, broken = rz.clone(), ~(rz >= 0)
    active = (rz > 0) & ~broken
    for _ in range(max_iterations):
        if not bool(active.any()):
            break
        q = product(p)
        curvature = (p * q).sum(dim=1)
        broken |= active & ~(curvature > 0)
        active &= ~broken
        alpha = torch.where(active, rz / curvature, 0.0).unsqueeze(1)
        x, r = x + alpha * p, r - alpha * q
        z = precondition(r)
        fresh = (r * z).sum(dim=1)
        p = z + torch.where(active, fresh / rz, 0.0).unsqueeze(1) * p
        rz = torch.where(active, fresh, rz)
        active &= rz > tolerance**2 * start
    lost = broken if truncated else broken | active
    return torch.where(lost.unsqueeze(1), torch.nan, x)
