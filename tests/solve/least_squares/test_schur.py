"""Blocks coupled in any pattern against dense solves."""

import pytest
import torch

from simengine.solve.least_squares.structures.schur import SchurGram

GRID = [(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)]  # 2 x 3 blocks


def system(pairs: list[tuple[int, int]], num: int, n: int = 3) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, num, n, n, generator=generator, dtype=torch.float64)
    blocks = noise @ noise.mT + 10 * torch.eye(n, dtype=torch.float64)
    off = torch.randn(2, len(pairs), n, n, generator=generator, dtype=torch.float64)
    dense = torch.zeros(2, num * n, num * n, dtype=torch.float64)
    for k in range(num):
        dense[:, k * n : k * n + n, k * n : k * n + n] = blocks[:, k]
    for c, (i, j) in enumerate(pairs):
        dense[:, j * n : j * n + n, i * n : i * n + n] = off[:, c]
        dense[:, i * n : i * n + n, j * n : j * n + n] = off[:, c].mT
    return {"blocks": blocks, "off": off, "diagonal": dense.diagonal(dim1=1, dim2=2)}, dense


@pytest.mark.parametrize(
    ("pairs", "num", "kept"),
    [
        (GRID, 6, 3),  # a chess board
        ([(0, 1), (1, 2), (0, 2)], 3, 2),  # a ring of three: two touch one another
        ([(0, 1), (1, 2), (2, 3), (0, 3)], 4, 2),
        ([], 3, 0),
    ],
)
def test_solve_and_product_are_the_dense_ones(pairs: list[tuple[int, int]], num: int, kept: int) -> None:
    lin, dense = system(pairs, num)
    gram = SchurGram(num, pairs)
    assert len(gram.kept) == kept
    b, damping = torch.randn(2, num * 3, dtype=torch.float64), torch.tensor([0.0, 0.3], dtype=torch.float64)
    damped = dense + damping[:, None, None] * torch.diag_embed(lin["diagonal"])
    assert torch.allclose(gram.solve(lin, damping, b), torch.linalg.solve(damped, b), rtol=1e-12, atol=1e-13)
    assert torch.allclose(gram.product(lin, b), (dense @ b.unsqueeze(-1)).squeeze(-1), rtol=1e-12, atol=1e-12)
    assert gram.rank_deficient(lin).tolist() == [False, False]


@pytest.mark.parametrize("block", [0, 1])  # one that is eliminated, one that is kept
def test_what_is_not_positive_definite_is_marked(block: int) -> None:
    lin, _ = system(GRID, 6)
    lin["blocks"][1, block] -= 40 * torch.eye(3, dtype=torch.float64)
    lin["diagonal"] = lin["blocks"].diagonal(dim1=2, dim2=3).flatten(1)
    x = SchurGram(6, GRID).solve(lin, torch.zeros(2, dtype=torch.float64), torch.ones(2, 18, dtype=torch.float64))
    assert bool(x[0].isfinite().all()) and bool(x[1].isnan().all())


def test_bad_pairs() -> None:
    with pytest.raises(ValueError, match="distinct"):
        SchurGram(3, [(1, 0)])
    with pytest.raises(ValueError, match="distinct"):
        SchurGram(3, [(0, 1), (0, 1)])
    with pytest.raises(ValueError, match="distinct"):
        SchurGram(3, [(0, 3)])
