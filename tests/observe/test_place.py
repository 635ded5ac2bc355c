"""How a file lies in the world: by hand, and there and back."""

import math

import torch

from simengine.observe.place import Place

POINTS = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]], dtype=torch.float64)


def test_axes_scale_turn_and_shift_by_hand() -> None:
    """The file's z points up the world's y, its y to -z; a quarter turn about z; millimetres."""
    place = Place(axes=("x", "-z", "y"), turn=(0.0, 0.0, math.pi / 2), shift=(10.0, 20.0, 30.0), scale=1e-3)
    expected = torch.tensor([[9.997, 20.001, 29.998], [9.9995, 20.0, 30.001]], dtype=torch.float64)
    assert torch.allclose(place.to_world(POINTS), expected, atol=1e-12)
    assert torch.allclose(place.to_file(expected), POINTS, atol=1e-9)


def test_a_turn_on_top_of_a_registration_turns_its_offset_too() -> None:
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    offset = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    half = Place(turn=(0.0, 0.0, math.pi), shift=(0.0, 0.0, 5.0)).with_registration(quarter, offset)
    # (1, 2, 3) -> registered (-2 + 1, 1, 3) -> half a turn (1, -1, 3) -> (1, -1, 8)
    expected = torch.tensor([1.0, -1.0, 8.0], dtype=torch.float64)
    assert torch.allclose(half.to_world(POINTS[0]), expected, atol=1e-12)
    assert torch.allclose(half.to_file(half.to_world(POINTS)), POINTS, atol=1e-12)
