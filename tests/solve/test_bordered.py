"""Bordered systems beside dense solves, however near the large block is to singular."""

import pytest
import torch

from simengine.solve.block_tridiagonal import BlockTridiagonalMatrix
from simengine.solve.bordered import Bordered


@pytest.mark.parametrize("smallest", [1.0, 1e-8, 1e-13])
def test_a_bordered_system_is_solved_where_its_block_is_not(smallest: float) -> None:
    """Parity with a dense solve: the block is made singular but for `smallest` in the direction of its null vector."""
    generator = torch.Generator().manual_seed(0)
    lower, diagonal, upper = torch.randn(3, 1, 6, 3, 3, generator=generator, dtype=torch.float64)
    matrix = BlockTridiagonalMatrix(lower, diagonal, upper)
    dense = matrix.dense()[0]
    # the corner entry that makes the determinant `smallest` of what it was
    inverse = torch.linalg.inv(dense)
    diagonal = diagonal.clone()
    diagonal[0, 0, 0, 0] -= (1 - smallest) / inverse[0, 0]
    matrix = BlockTridiagonalMatrix(lower, diagonal, upper)
    b, c, f = torch.randn(3, 1, 6, 3, generator=generator, dtype=torch.float64)
    whole = torch.zeros(19, 19, dtype=torch.float64)
    whole[:18, :18], whole[:18, 18], whole[18, :18], whole[18, 18] = matrix.dense()[0], b.flatten(), c.flatten(), 0.7
    right = torch.cat((f.flatten(), torch.tensor([0.3], dtype=torch.float64)))
    bordered = Bordered(matrix.factor(), b, c, 0.7)
    for solved, dense in ((bordered.solve(f, 0.3), whole), (bordered.solve_transposed(f, 0.3), whole.T)):
        found = torch.cat((solved[0].flatten(), torch.tensor([solved[1]], dtype=torch.float64)))
        exact = torch.linalg.solve(dense, right)
        assert float((found - exact).abs().max() / exact.abs().max()) < 1e-11
