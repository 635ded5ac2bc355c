"""Normal matrices of blocks coupled in any pattern: blocks that do not touch are eliminated, the rest is dense."""

from collections.abc import Sequence

import torch

from simengine.solve.least_squares.structures.gram import AbstractGram, Linearisation, damping_diagonal


class SchurGram(AbstractGram):
    """G of K blocks of N unknowns, of which given pairs are coupled: `"blocks"` (b, K, N, N), `"off"` (b, C, N, N).

    off_c is the block of row j and column i of pair c = (i, j). A largest set of blocks of which no two are coupled,
    found greedily (every other one on a grid, as on a chess board), is eliminated block by block; what remains is the
    Schur complement of half the size, solved densely. n = K N, block by block.

    Args:
        num_blocks: K.
        pairs: Pairs (i, j) with i < j, none twice.

    Raises:
        ValueError: A pair is out of order, or named twice.
    """

    def __init__(self, num_blocks: int, pairs: Sequence[tuple[int, int]]) -> None:
        if len(set(pairs)) < len(pairs) or any(not 0 <= i < j < num_blocks for i, j in pairs):
            raise ValueError(f"pairs: expected distinct (i, j) with 0 <= i < j < {num_blocks}, got {list(pairs)}")
        self.pairs: list[tuple[int, int]] = list(pairs)
        neighbours: list[set[int]] = [set() for _ in range(num_blocks)]
        for i, j in pairs:
            neighbours[i].add(j)
            neighbours[j].add(i)
        free: list[int] = []
        for k in sorted(range(num_blocks), key=lambda k: len(neighbours[k])):  # stable: in order on a regular grid
            if not neighbours[k] & set(free):
                free.append(k)
        self.eliminated: list[int] = sorted(free)
        self.kept: list[int] = [k for k in range(num_blocks) if k not in free]

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Cholesky of the eliminated blocks and of the Schur complement, scaled to a unit diagonal."""
        blocks, off, scale = self._scaled(lin)
        eye = torch.eye(blocks.shape[-1], dtype=b.dtype, device=b.device)
        x = self._factored(blocks + damping[:, None, None, None] * eye, off, b.view(scale.shape) * scale)
        return (scale * x).flatten(1)

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        """Diagonal blocks and every pair."""
        x = v.reshape(*lin["blocks"].shape[:3], 1)
        y = lin["blocks"] @ x
        if self.pairs:
            low, high = (torch.tensor(side, device=v.device) for side in zip(*self.pairs, strict=True))
            y = y.index_add(1, high, lin["off"] @ x[:, low]).index_add(1, low, lin["off"].mT @ x[:, high])
        return y.reshape(v.shape)

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether the scaled G less n times the rounding is no longer positive definite."""
        blocks, off, scale = self._scaled(lin)
        shift = scale[0].numel() * torch.finfo(scale.dtype).eps
        eye = torch.eye(blocks.shape[-1], dtype=scale.dtype, device=scale.device)
        return ~self._factored(blocks - shift * eye, off, torch.ones_like(scale)).isfinite().flatten(1).all(dim=1)

    def _scaled(self, lin: Linearisation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        blocks, off = lin["blocks"], lin["off"]
        scale = damping_diagonal(lin["diagonal"]).rsqrt().view(blocks.shape[:3])
        if self.pairs:
            low, high = (torch.tensor(side, device=off.device) for side in zip(*self.pairs, strict=True))
            off = scale[:, high, :, None] * off * scale[:, low, None, :]
        return scale[..., :, None] * blocks * scale[..., None, :], off, scale

    def _factored(self, blocks: torch.Tensor, off: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        batch, _, n, _ = blocks.shape
        kept, out = len(self.kept), len(self.eliminated)
        factor, info = torch.linalg.cholesky_ex(blocks[:, self.eliminated])
        failed = (info != 0).any(dim=1)
        # W = L^-1 G_eliminated,kept and the Schur complement S = G_kept,kept - W^T W
        coupling = blocks.new_zeros(batch, out, kept, n, n)
        complement = blocks.new_zeros(batch, kept, n, kept, n)
        for k, block in enumerate(self.kept):
            complement[:, k, :, k] = blocks[:, block]
        for c, (i, j) in enumerate(self.pairs):
            if i in self.eliminated:
                coupling[:, self.eliminated.index(i), self.kept.index(j)] += off[:, c].mT
            elif j in self.eliminated:
                coupling[:, self.eliminated.index(j), self.kept.index(i)] += off[:, c]
            else:
                row, column = self.kept.index(j), self.kept.index(i)
                complement[:, row, :, column] += off[:, c]
                complement[:, column, :, row] += off[:, c].mT
        wide = coupling.transpose(2, 3).reshape(batch, out, n, kept * n)
        weighted = torch.linalg.solve_triangular(factor, wide, upper=False)
        first = torch.linalg.solve_triangular(factor, b[:, self.eliminated].unsqueeze(-1), upper=False)
        schur = complement.reshape(batch, kept * n, kept * n) - (weighted.mT @ weighted).sum(dim=1)
        right = b[:, self.kept].reshape(batch, kept * n, 1) - (weighted.mT @ first).sum(dim=1)
        root, info = torch.linalg.cholesky_ex(schur)
        failed = failed | (info != 0)
        inner = torch.cholesky_solve(right, root)
        outer = torch.linalg.solve_triangular(factor.mT, first - weighted @ inner.unsqueeze(1), upper=True)
        order = torch.tensor(self.eliminated + self.kept, device=b.device).argsort()
        x = torch.cat([outer.squeeze(-1), inner.reshape(batch, kept, n)], dim=1)[:, order]
        return torch.where(failed[:, None, None], torch.nan, x)
