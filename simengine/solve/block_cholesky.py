"""Symmetric positive definite block-tridiagonal systems, by block Cholesky factorisation (Golub & Van Loan, 4.5.1)."""

import torch


def solve_block_cholesky(blocks: torch.Tensor, lower: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solve A x = b for batched, symmetric positive definite, block-tridiagonal A.

    With A = L L^T the factors are L_kk L_kk^T = A_kk - L_k,k-1 L_k,k-1^T and L_k+1,k = A_k+1,k L_kk^-T.

    Args:
        blocks: Diagonal blocks A_kk, shape (b, K, N, N); only their symmetric part matters.
        lower: Blocks A_k+1,k below the diagonal, shape (b, K - 1, N, N).
        b: Right-hand sides, shape (b, K, N).

    Returns:
        x, shape (b, K, N); NaN for those problems of the batch whose A is not positive definite. Differentiable.

    Raises:
        ValueError: The shapes do not fit one another.
    """
    batch, num, size, _ = blocks.shape
    if lower.shape != (batch, num - 1, size, size) or b.shape != (batch, num, size):
        raise ValueError(
            f"blocks {tuple(blocks.shape)} needs lower {(batch, num - 1, size, size)} and b {(batch, num, size)}; "
            f"got lower {tuple(lower.shape)} and b {tuple(b.shape)}"
        )
    failed = torch.zeros(batch, dtype=torch.bool, device=blocks.device)
    factors: list[torch.Tensor] = []
    couplings: list[torch.Tensor] = []
    forward: list[torch.Tensor] = []
    for k in range(num):
        pivot, rhs = blocks[:, k], b[:, k, :, None]
        if k > 0:
            pivot = pivot - couplings[-1] @ couplings[-1].mT
            rhs = rhs - couplings[-1] @ forward[-1]
        factor, info = torch.linalg.cholesky_ex(pivot)
        failed = failed | (info != 0)
        factors.append(factor)
        forward.append(torch.linalg.solve_triangular(factor, rhs, upper=False))
        if k + 1 < num:
            couplings.append(torch.linalg.solve_triangular(factor, lower[:, k].mT, upper=False).mT)
    x = [torch.linalg.solve_triangular(factors[-1].mT, forward[-1], upper=True)]
    for k in range(num - 2, -1, -1):
        rhs = forward[k] - couplings[k].mT @ x[-1]
        x.append(torch.linalg.solve_triangular(factors[k].mT, rhs, upper=True))
    return torch.where(failed[:, None, None], torch.nan, torch.stack(x[::-1], dim=1).squeeze(-1))
