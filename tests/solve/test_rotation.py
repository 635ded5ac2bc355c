"""Rotations: there and back, and never a mirror."""

import pytest
import torch

from simengine.solve.rotation import nearest_rigid_motion, rotation_matrix


@pytest.mark.parametrize("seed", range(4))
def test_a_motion_is_found_again(seed: int) -> None:
    torch.manual_seed(seed)
    points = torch.randn(6, 3, dtype=torch.float64)
    turn, shift = rotation_matrix(2 * torch.randn(3, dtype=torch.float64)), torch.randn(3, dtype=torch.float64)
    found, offset = nearest_rigid_motion(points, points @ turn.T + shift)
    assert torch.allclose(found, turn, atol=1e-9) and torch.allclose(offset, shift, atol=1e-9)


def test_a_mirrored_body_is_turned_and_not_mirrored_back() -> None:
    """The mirror at z = 0 would fit without a rest; among the turns none moves the box's thin side least."""
    corners = torch.tensor([[x, y, z] for x in (-3.0, 3.0) for y in (-2.0, 2.0) for z in (-0.1, 0.1)])
    points = corners.double() + 0.01 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double()
    found, _ = nearest_rigid_motion(points, points * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    assert float(torch.linalg.det(found)) == pytest.approx(1)
    assert torch.allclose(found, torch.eye(3, dtype=torch.float64), atol=0.05)


def test_a_quarter_turn_by_hand() -> None:
    turn = rotation_matrix(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.allclose(turn @ x, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-12)
