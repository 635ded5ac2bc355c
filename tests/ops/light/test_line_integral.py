"""Integrals along lines: against another algorithm, a closed form, and as a linear map with its transpose."""

import math

import pytest
import torch

from simengine.ops.light.line_integral import line_integrals
from simengine.ops.light.line_integral_reference import line_integrals as reference

LOWER, UPPER = (-1.0, -0.5, 0.2), (1.0, 0.7, 0.9)


def _rays(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=g, dtype=torch.float64), dim=1)
    directions[: count // 4, 2] = 0.0  # within a slice
    directions[: count // 8, 1] = 0.0  # along an axis
    directions = torch.nn.functional.normalize(directions, dim=1)
    target = torch.rand(count, 3, generator=g, dtype=torch.float64) * 1.2 - 0.4
    return target - 3.0 * directions, directions


def _reference(field: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    low, high = torch.tensor(LOWER, dtype=torch.float64), torch.tensor(UPPER, dtype=torch.float64)
    size = (high - low) / torch.tensor(field.shape)
    return reference(field, (origins - low) / size, directions / size)


def test_parity_with_sorted_crossings() -> None:
    field = torch.rand(7, 5, 6, dtype=torch.float64)
    origins, directions = _rays(400)
    ours, theirs = line_integrals(field, LOWER, UPPER, origins, directions), _reference(field, origins, directions)
    assert float((theirs > 0.1).double().mean()) > 0.3
    assert float((ours - theirs).abs().max()) < 1e-12
    # a line has no sense and no beginning
    turned = line_integrals(field, LOWER, UPPER, origins + 5.0 * directions, -directions)
    assert float((turned - theirs).abs().max()) < 1e-12
    assert float((line_integrals(field.float(), LOWER, UPPER, origins, directions) - theirs).abs().max()) < 1e-6


def test_the_gradient_is_the_transpose() -> None:
    field = torch.rand(7, 5, 6, dtype=torch.float64, requires_grad=True)
    origins, directions = _rays(300, 1)
    weight = torch.rand(300, dtype=torch.float64)
    values = line_integrals(field, LOWER, UPPER, origins, directions)
    (adjoint,) = torch.autograd.grad(values @ weight, field)
    other = torch.rand_like(field)
    assert math.isclose(
        float((adjoint * other).sum()),
        float(line_integrals(other, LOWER, UPPER, origins, directions) @ weight),
        rel_tol=1e-12,
    )
    (theirs,) = torch.autograd.grad(_reference(field, origins, directions) @ weight, field)
    assert float((adjoint - theirs).abs().max()) < 1e-12


def test_a_ball_by_its_chords() -> None:
    """The integral through a ball of value 1 is its chord; cells of h leave an error of the order of h."""
    n, radius = 96, 0.8
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    r = torch.stack(torch.meshgrid(x, x, x, indexing="ij")).square().sum(0).sqrt()
    ball = (r < radius).double()
    origins, directions = _rays(500, 2)
    b = torch.linalg.cross(origins, directions, dim=1).norm(dim=1)
    chord = 2 * (radius**2 - b**2).clamp_min(0).sqrt()
    ours = line_integrals(ball, (-1, -1, -1), (1, 1, 1), origins, directions)
    assert float((ours - chord).square().mean().sqrt()) < 2.0 / n
    assert float(chord.mean()) > 0.3


def test_wrong_arguments_are_named() -> None:
    rays = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="box"):
        line_integrals(torch.ones(2, 2, 2), (0, 0, 0), (1, 0, 1), rays, rays)
    with pytest.raises(ValueError, match="field"):
        line_integrals(torch.ones(2, 2), (0, 0, 0), (1, 1, 1), rays, rays)
