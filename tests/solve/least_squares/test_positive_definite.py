"""Block Cholesky and conjugate gradients against a dense solve."""

import pytest
import torch

from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.least_squares.structures.block_cholesky import solve_block_banded, solve_block_cholesky


def system(
    batch: int = 2, num: int = 4, size: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    lower = torch.randn(batch, num - 1, size, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, num, size, size, generator=generator, dtype=torch.float64)
    blocks = noise @ noise.mT + 8 * torch.eye(size, dtype=torch.float64)
    dense = torch.zeros(batch, num * size, num * size, dtype=torch.float64)
    for k in range(num):
        here, after = slice(k * size, (k + 1) * size), slice((k + 1) * size, (k + 2) * size)
        dense[:, here, here] = blocks[:, k]
        if k + 1 < num:
            dense[:, after, here], dense[:, here, after] = lower[:, k], lower[:, k].mT
    b = torch.randn(batch, num, size, generator=generator, dtype=torch.float64)
    assert bool((torch.linalg.eigvalsh(dense) > 0).all())
    return blocks, lower, dense, b


def test_block_cholesky_solves_and_differentiates() -> None:
    blocks, lower, dense, b = system()
    x = solve_block_cholesky(blocks, lower, b)
    assert torch.allclose(x.flatten(1), torch.linalg.solve(dense, b.flatten(1)), rtol=1e-12, atol=1e-13)
    leaves = (blocks.requires_grad_(), lower.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda d, low, right: solve_block_cholesky(0.5 * (d + d.mT), low, right), leaves, eps=1e-5, atol=1e-9, rtol=1e-6
    )


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_bands_of_blocks_are_solved_as_the_dense_system(width: int) -> None:
    g = torch.Generator().manual_seed(width)
    batch, num, size = 2, 5, 2
    bands = [torch.randn(batch, num - d, size, size, generator=g, dtype=torch.float64) for d in range(1, width + 1)]
    blocks = (30.0 * torch.eye(size, dtype=torch.float64)).expand(batch, num, size, size).clone()
    blocks[:, :, 0, 1] = blocks[:, :, 1, 0] = 2.0
    dense = torch.zeros(batch, num, size, num, size, dtype=torch.float64)
    for k in range(num):
        dense[:, k, :, k] = blocks[:, k]
    for d, band in enumerate(bands, start=1):
        for k in range(num - d):
            dense[:, k + d, :, k], dense[:, k, :, k + d] = band[:, k], band[:, k].mT
    b = torch.randn(batch, num, size, generator=g, dtype=torch.float64)
    x = solve_block_banded(blocks, bands, b)
    expected = torch.linalg.solve(dense.reshape(batch, num * size, -1), b.flatten(1))
    assert torch.allclose(x.flatten(1), expected, rtol=1e-12, atol=1e-13)


def test_block_cholesky_marks_what_is_not_positive_definite() -> None:
    blocks, lower, _, b = system()
    blocks[1, 2] -= 100 * torch.eye(3, dtype=torch.float64)
    x = solve_block_cholesky(blocks, lower, b)
    assert bool(x[0].isfinite().all()) and bool(x[1].isnan().all())
    with pytest.raises(ValueError, match="needs lower"):
        solve_block_cholesky(blocks, lower[:, 1:], b)


def test_conjugate_gradients() -> None:
    _, _, dense, b = system()
    b = b.flatten(1)
    b[1] = 0  # a problem with nothing to do must not disturb its neighbour
    diagonal = dense.diagonal(dim1=1, dim2=2)
    x = conjugate_gradients(lambda v: (dense @ v.unsqueeze(-1)).squeeze(-1), b, precondition=lambda v: v / diagonal)
    assert torch.allclose(x, torch.linalg.solve(dense, b), rtol=1e-10, atol=1e-11)
    indefinite = conjugate_gradients(lambda v: -v, b, precondition=lambda v: v)
    assert bool(indefinite[0].isnan().all()) and bool((indefinite[1] == 0).all())
