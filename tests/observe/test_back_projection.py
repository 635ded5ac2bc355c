"""Filtered back-projection of a cloud exp(-r^2/(2 s^2)), whose integrals s sqrt(2 pi) exp(-b^2/(2 s^2)) are known."""

import math

import pytest
import torch

from simengine.observe.back_projection import filtered_back_projection

CENTRE, WIDTH = torch.tensor([0.2, -0.1], dtype=torch.float64), 0.15


@pytest.mark.parametrize(("fan", "turn"), [(False, math.pi), (False, 2 * math.pi), (True, 2 * math.pi)])
def test_a_cloud(fan: bool, turn: float) -> None:
    """Verification: 180 views and elements of a seventh of the cloud's width leave half a hundredth of its peak."""
    pitch, offset, far, to = 0.03 if fan else 0.02, 0.05, 3.0, 4.0
    angles = torch.arange(180, dtype=torch.float64) * turn / 180
    u = (torch.arange(101, dtype=torch.float64) - 50) * pitch - offset
    views = []
    for t in angles.tolist():
        across = torch.tensor([math.cos(t), math.sin(t)], dtype=torch.float64)
        along = torch.tensor([-math.sin(t), math.cos(t)], dtype=torch.float64)
        if fan:
            ray = u[:, None] * across + to * along
            ray = ray / ray.norm(dim=1, keepdim=True)
            middle = CENTRE + far * along  # from the source
            b = middle[0] * ray[:, 1] - middle[1] * ray[:, 0]
        else:
            b = u - CENTRE @ across
        views.append(torch.exp(-(b**2) / (2 * WIDTH**2)) * WIDTH * math.sqrt(2 * math.pi))
    x = torch.linspace(-0.5, 0.5, 21, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
    beam = {"source_to_axis": far, "source_to_detector": to} if fan else {}
    found = filtered_back_projection(torch.stack(views), angles, pitch, points, axis_offset=offset, **beam)
    true = torch.exp(-(points - CENTRE).square().sum(1) / (2 * WIDTH**2))
    assert float((found - true).abs().max()) < 5e-3


def test_one_view_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        filtered_back_projection(torch.ones(1, 5), torch.zeros(1), 0.1, torch.zeros(1, 2))
