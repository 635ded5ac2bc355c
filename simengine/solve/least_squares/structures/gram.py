"""Structures of the normal matrix G = J^T J: how a batch of damped systems (G + damping D) x = b is stored and solved.

A linearisation is a dict of tensors whose first dimension runs over the problems, so that problems can leave the batch
and be updated one by one. Every structure holds `"gradient"` J^T r and `"diagonal"` diag(G), both (b, n).
"""

import abc

import torch

from simengine.solve.least_squares.structures.block_cholesky import solve_block_banded

Linearisation = dict[str, torch.Tensor]
_BLUNT = 1e-12  # a solve there is right to four digits


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


def blunt(matrix: torch.Tensor) -> torch.Tensor:
    """Where a symmetric matrix (b, n, n) has a condition, scaled, at which solves keep few digits; bool, (b,)."""
    diagonal = matrix.diagonal(dim1=1, dim2=2).abs()
    scale = damping_diagonal(diagonal).rsqrt()
    scaled = scale[:, :, None] * matrix * scale[:, None, :]
    factor, info = torch.linalg.cholesky_ex(scaled)
    found = (info != 0) | (factor.diagonal(dim1=1, dim2=2).amin(dim=1).square() < 1e6 * _BLUNT)
    unsure = (found & scaled.isfinite().all(dim=2).all(dim=1)).nonzero().flatten()
    if len(unsure):  # an indefinite one may be well conditioned, and pivots say but little
        values = torch.linalg.eigvalsh(scaled[unsure]).abs()
        found[unsure] = values.amin(dim=1) < _BLUNT * values.amax(dim=1)
    return found


class DenseGram(AbstractGram):
    """G as a dense matrix `"gram"` (b, n, n), factorised by Cholesky; or by `"root"` R (b, k, n) with G = R^T R."""

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Cholesky of the system scaled to a unit diagonal; with a root, QR of it above the root of the damping."""
        scale = damping_diagonal(lin["diagonal"]).rsqrt()
        if "root" in lin:
            return scale * self._by_root(lin["root"] * scale[:, None, :], damping, scale * b)
        matrix = scale[:, :, None] * lin["gram"] * scale[:, None, :]
        eye = torch.eye(b.shape[1], dtype=b.dtype, device=b.device)
        factor, info = torch.linalg.cholesky_ex(matrix + damping[:, None, None] * eye)
        x = scale * torch.cholesky_solve((scale * b).unsqueeze(-1), factor).squeeze(-1)
        return torch.where((info == 0)[:, None], x, torch.nan)

    @staticmethod
    def _by_root(root: torch.Tensor, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """(R^T R + damping) x = b by the triangle of [R, sqrt(damping) I], refined once with R itself (Björck 1987)."""
        eye = torch.eye(b.shape[1], dtype=b.dtype, device=b.device)
        triangle = torch.linalg.qr(torch.cat([root, damping.sqrt()[:, None, None] * eye], dim=1), mode="r").R
        small = triangle.diagonal(dim1=1, dim2=2).abs()
        singular = (small <= torch.finfo(b.dtype).eps * small.amax(dim=1, keepdim=True)).any(dim=1)

        def solved(right: torch.Tensor) -> torch.Tensor:
            half = torch.linalg.solve_triangular(triangle.mT, right, upper=False)
            return torch.linalg.solve_triangular(triangle, half, upper=True)

        right = b.unsqueeze(-1)
        x = solved(right)
        x = x + solved(right - root.mT @ (root @ x) - damping[:, None, None] * x)
        return torch.where(singular[:, None], torch.nan, x.squeeze(-1))

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """A dense product."""
        return (lin["gram"] @ v.unsqueeze(-1)).squeeze(-1)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Smallest eigenvalue of the scaled G, or singular value of the scaled root, against n times the rounding."""
        scale = damping_diagonal(lin["diagonal"]).rsqrt()
        if "root" in lin:
            values = torch.linalg.svdvals(lin["root"] * scale[:, None, :])
            few = values.shape[1] < scale.shape[1]
            return (values[:, -1] <= scale.shape[1] * torch.finfo(scale.dtype).eps * values[:, 0]) | few
        eigenvalues = torch.linalg.eigvalsh(scale[:, :, None] * lin["gram"] * scale[:, None, :])
        return eigenvalues[:, 0] <= eigenvalues.shape[1] * torch.finfo(scale.dtype).eps * eigenvalues[:, -1]


class BlockDiagonalGram(AbstractGram):
    """G of K blocks of N unknowns that know nothing of one another: `"blocks"` (b, K, N, N), and n = K N."""

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Every block as a dense problem of its own."""
        blocks = lin["blocks"]
        x = DenseGram().solve(
            _one_by_one(lin), damping.repeat_interleave(blocks.shape[1]), b.reshape(-1, blocks.shape[-1])
        )
        failed = ~x.reshape(b.shape).isfinite().all(dim=1, keepdim=True)
        return torch.where(failed, torch.nan, x.reshape(b.shape))

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """Block by block."""
        return (lin["blocks"] @ v.reshape(*lin["blocks"].shape[:3], 1)).reshape(v.shape)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether any block is."""
        return DenseGram().rank_deficient(_one_by_one(lin)).reshape(lin["blocks"].shape[:2]).any(dim=1)


def _one_by_one(lin: Linearisation) -> Linearisation:
    blocks = lin["blocks"]
    return {"gram": blocks.flatten(0, 1), "diagonal": lin["diagonal"].reshape(-1, blocks.shape[-1])}


class BlockBandedGram(AbstractGram):
    """G of K blocks of N unknowns, each coupled to the next, or to the next two.

    `"blocks"` (b, K, N, N) on the diagonal, `"lower"` (b, K - 1, N, N) below it and, where blocks reach two neighbours,
    `"second"` (b, K - 2, N, N) below that. n = K N, block by block. Cost O(K N^3), against O(K^3 N^3) dense.
    """

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Block Cholesky of the system scaled to a unit diagonal."""
        blocks, below, scale = self._scaled(lin)
        eye = torch.eye(blocks.shape[-1], dtype=b.dtype, device=b.device)
        rhs = b.view(scale.shape) * scale
        x = solve_block_banded(blocks + damping[:, None, None, None] * eye, below, rhs)
        return (scale * x).flatten(1)

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """Diagonal blocks and neighbours."""
        blocks = lin["blocks"]
        x = v.reshape(*blocks.shape[:3], 1)
        y = blocks @ x
        for d, band in enumerate(_below(lin), start=1):
            gap = torch.zeros_like(y[:, :d])
            y = y + torch.cat([gap, band @ x[:, :-d]], dim=1) + torch.cat([band.mT @ x[:, d:], gap], dim=1)
        return y.reshape(v.shape)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether the scaled G less n times the rounding is no longer positive definite."""
        blocks, below, scale = self._scaled(lin)
        shift = scale[0].numel() * torch.finfo(scale.dtype).eps
        eye = torch.eye(blocks.shape[-1], dtype=scale.dtype, device=scale.device)
        x = solve_block_banded(blocks - shift * eye, below, torch.ones_like(scale))
        return ~torch.isfinite(x).flatten(1).all(dim=1)

    @staticmethod
    def _scaled(lin: Linearisation) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        blocks = lin["blocks"]
        scale = damping_diagonal(lin["diagonal"]).rsqrt().view(blocks.shape[:3])
        below = [scale[:, d:, :, None] * band * scale[:, :-d, None, :] for d, band in enumerate(_below(lin), start=1)]
        return scale[..., :, None] * blocks * scale[..., None, :], below, scale


def _below(lin: Linearisation) -> list[torch.Tensor]:
    return [lin[name] for name in ("lower", "second") if name in lin]
