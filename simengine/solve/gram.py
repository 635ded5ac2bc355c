"""Structures of the normal matrix G = J^T J: how a batch of damped systems (G + damping D) x = b is stored and solved.

A linearisation is a dict of tensors whose first dimension runs over the problems, so that problems can leave the batch
and be updated one by one. Every structure holds `"gradient"` J^T r and `"diagonal"` diag(G), both (b, n).
"""

import abc

import torch

from simengine.solve.block_cholesky import solve_block_cholesky

Linearisation = dict[str, torch.Tensor]


class AbstractGram(abc.ABC):
    """A structure of G. `solve` gives NaN where a system is not positive definite, which the iteration reads."""

    @abc.abstractmethod
    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Solve (G + damping diag(G)) x = b.

        Args:
            lin: The linearisation of b problems.
            damping: Relative damping, shape (b,).
            b: Right-hand sides, shape (b, n).
        """

    @abc.abstractmethod
    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """G v for v of shape (b, n)."""

    @abc.abstractmethod
    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether G, scaled to a unit diagonal, is singular to rounding; shape (b,)."""


def damping_diagonal(diagonal: torch.Tensor) -> torch.Tensor:
    """diag(G), with a floor for columns that vanish, so that a damped system stays solvable; shape (b, n)."""
    largest = diagonal.amax(dim=-1, keepdim=True)
    return diagonal.clamp_min(torch.finfo(diagonal.dtype).tiny).maximum(largest * 1e-14)


class DenseGram(AbstractGram):
    """G as a dense matrix `"gram"` (b, n, n), factorised by Cholesky."""

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Cholesky of the system scaled to a unit diagonal."""
        scale = damping_diagonal(lin["diagonal"]).rsqrt()
        matrix = scale[:, :, None] * lin["gram"] * scale[:, None, :]
        eye = torch.eye(b.shape[1], dtype=b.dtype, device=b.device)
        factor, info = torch.linalg.cholesky_ex(matrix + damping[:, None, None] * eye)
        x = scale * torch.cholesky_solve((scale * b).unsqueeze(-1), factor).squeeze(-1)
        return torch.where((info == 0)[:, None], x, torch.nan)

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """A dense product."""
        return (lin["gram"] @ v.unsqueeze(-1)).squeeze(-1)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Smallest eigenvalue of the scaled G against n times the rounding."""
        scale = damping_diagonal(lin["diagonal"]).rsqrt()
        eigenvalues = torch.linalg.eigvalsh(scale[:, :, None] * lin["gram"] * scale[:, None, :])
        return eigenvalues[:, 0] <= eigenvalues.shape[1] * torch.finfo(scale.dtype).eps * eigenvalues[:, -1]


class BlockTridiagonalGram(AbstractGram):
    """G of K coupled blocks of N unknowns: `"blocks"` (b, K, N, N) on, `"lower"` (b, K - 1, N, N) below the diagonal.

    n = K N, block by block. Cost O(K N^3), against O(K^3 N^3) dense.
    """

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Block Cholesky of the system scaled to a unit diagonal."""
        blocks, lower, scale = self._scaled(lin)
        eye = torch.eye(blocks.shape[-1], dtype=b.dtype, device=b.device)
        rhs = b.view(scale.shape) * scale
        x = solve_block_cholesky(blocks + damping[:, None, None, None] * eye, lower, rhs)
        return (scale * x).flatten(1)

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """Diagonal blocks and both neighbours."""
        blocks, lower = lin["blocks"], lin["lower"]
        x = v.reshape(*blocks.shape[:3], 1)
        y = blocks @ x
        below, above = lower @ x[:, :-1], lower.mT @ x[:, 1:]
        y = (
            y
            + torch.cat([torch.zeros_like(y[:, :1]), below], dim=1)
            + torch.cat([above, torch.zeros_like(y[:, :1])], dim=1)
        )
        return y.reshape(v.shape)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether the scaled G less n times the rounding is no longer positive definite."""
        blocks, lower, scale = self._scaled(lin)
        shift = scale[0].numel() * torch.finfo(scale.dtype).eps
        eye = torch.eye(blocks.shape[-1], dtype=scale.dtype, device=scale.device)
        x = solve_block_cholesky(blocks - shift * eye, lower, torch.ones_like(scale))
        return ~torch.isfinite(x).flatten(1).all(dim=1)

    @staticmethod
    def _scaled(lin: Linearisation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        blocks, lower = lin["blocks"], lin["lower"]
        scale = damping_diagonal(lin["diagonal"]).rsqrt().view(blocks.shape[:3])
        return (
            scale[..., :, None] * blocks * scale[..., None, :],
            scale[:, 1:, :, None] * lower * scale[:, :-1, None, :],
            scale,
        )
