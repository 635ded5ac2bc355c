"""Rotations: there and back, and never a mirror."""

import pytest
import torch

from simengine.solve.rotation import nearest_rigid_motion, rotation_matrix


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("flat", [False, True])
def test_a_motion_is_found_again(seed: int, flat: bool) -> None:
    """Points of a plane leave the mirrored motion as good as the right one in the squares: a turn it must be."""
    torch.manual_seed(seed)
    points = torch.randn(6, 3, dtype=torch.float64)
    if flat:
        points[:, 2] = 0.3
    turn, shift = rotation_matrix(2 * torch.randn(3, dtype=torch.float64)), torch.randn(3, dtype=torch.float64)
    found, offset = nearest_rigid_motion(points, points @ turn.T + shift)
    assert torch.allclose(found, turn, atol=1e-9) and torch.allclose(offset, shift, atol=1e-9)
    assert float(torch.linalg.det(found)) == pytest.approx(1)


def test_a_quarter_turn_by_hand() -> None:
    turn = rotation_matrix(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.allclose(turn @ x, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-12)
