"""Symmetric positive definite block-banded systems, by block Cholesky factors (Golub & Van Loan, 4.3 and 4.5.1)."""

from collections.abc import Sequence

import torch


def solve_block_banded(blocks: torch.Tensor, below: Sequence[torch.Tensor], b: torch.Tensor) -> torch.Tensor:
    """Solve A x = b for batched, symmetric positive definite A with blocks on the diagonal and w bands below it.

    A = L L^T with L_jk = (A_jk - sum_i L_ji L_ki^T) L_kk^-T and L_kk L_kk^T = A_kk - sum_i L_ki L_ki^T, i within the
    band.

    Args:
        blocks: Diagonal blocks A_kk, shape (b, K, N, N); only their symmetric part matters.
        below: Per distance d = 1 .. w the blocks A_k+d,k, shape (b, K - d, N, N).
        b: Right-hand sides, shape (b, K, N).

    Returns:
        x, shape (b, K, N); NaN for those problems of the batch whose A is not positive definite. Differentiable.

    Raises:
        ValueError: The shapes do not fit one another.
    """
    batch, num, size, _ = blocks.shape
    for d, band in enumerate(below, start=1):
        if band.shape != (batch, max(num - d, 0), size, size) or b.shape != (batch, num, size):
            raise ValueError(
                f"blocks {tuple(blocks.shape)} needs lower {(batch, max(num - d, 0), size, size)} at distance {d} and "
                f"b {(batch, num, size)}; got lower {tuple(band.shape)} and b {tuple(b.shape)}"
            )
    width = len(below)
    failed = torch.zeros(batch, dtype=torch.bool, device=blocks.device)
    factors: dict[tuple[int, int], torch.Tensor] = {}
    forward: list[torch.Tensor] = []
    for k in range(num):
        near = range(max(k - width, 0), k)
        pivot, rhs = blocks[:, k], b[:, k, :, None]
        for j in near:
            block = below[k - j - 1][:, j]
            for i in range(near.start, j):
                block = block - factors[k, i] @ factors[j, i].mT
            factors[k, j] = torch.linalg.solve_triangular(factors[j, j], block.mT, upper=False).mT
            pivot = pivot - factors[k, j] @ factors[k, j].mT
            rhs = rhs - factors[k, j] @ forward[j]
        factors[k, k], info = torch.linalg.cholesky_ex(pivot)
        failed = failed | (info != 0)
        forward.append(torch.linalg.solve_triangular(factors[k, k], rhs, upper=False))
    x: dict[int, torch.Tensor] = {}
    for k in range(num - 1, -1, -1):
        rhs = forward[k]
        for j in range(k + 1, min(k + width, num - 1) + 1):
            rhs = rhs - factors[j, k].mT @ x[j]
        x[k] = torch.linalg.solve_triangular(factors[k, k].mT, rhs, upper=True)
    solution = torch.stack([x[k] for k in range(num)], dim=1).squeeze(-1)
    return torch.where(failed[:, None, None], torch.nan, solution)


def solve_block_cholesky(blocks: torch.Tensor, lower: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solve A x = b for batched, symmetric positive definite, block-tridiagonal A; see `solve_block_banded`.

    Args:
        blocks: Diagonal blocks A_kk, shape (b, K, N, N).
        lower: Blocks A_k+1,k below the diagonal, shape (b, K - 1, N, N).
        b: Right-hand sides, shape (b, K, N).
    """
    return solve_block_banded(blocks, (lower,), b)
