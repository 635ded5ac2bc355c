"""The router: it learns where the residual is and gives each block the same share of it."""

import pytest
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint
from simengine.constraint.router import Router, squared_residuals


def bump(nt: int = 10, nx: int = 100, centre: float = 0.2) -> torch.Tensor:
    x = (torch.arange(nx, dtype=torch.float64) + 0.5) / nx
    return torch.exp(-(((x - centre) / 0.08) ** 2)).expand(2, nt, nx)


@torch.no_grad()
def test_cuts_gather_where_the_residual_is() -> None:
    router = Router((1, 4))
    before = router.cuts((10, 100))
    entropies = [router.update(bump(), steps=100) for _ in range(4)]
    cuts = router.cuts((10, 100))
    assert entropies[-1] < entropies[0]
    assert before[0] == cuts[0] == [0, 10] and len(cuts[1]) == 5 and cuts[1][0] == 0 and cuts[1][-1] == 100
    widths = torch.tensor(cuts[1]).diff()
    centre_blocks = (torch.tensor(cuts[1][1:-1]).double() - 20).abs()
    assert int(widths.min()) >= 4 and float(centre_blocks[:2].max()) < 15  # the first two cuts lie about the bump
    shares = [float(router.density(1, 100)[a:b].sum()) for a, b in zip(cuts[1], cuts[1][1:], strict=False)]
    assert max(shares) - min(shares) < 0.1  # equal to the resolution of the grid
    assert float(router.density(1, 100).sum()) == pytest.approx(1.0) and float(router.density(1, 100).min()) >= 0.002


def test_a_share_goes_as_the_root_of_the_squares() -> None:
    """Squares of 4 in one half and 1 in the other: roots of 2 and 1, so two thirds; four fifths are of the squares."""
    router = Router((1, 2))
    squares = torch.ones(1, 3, 40)
    squares[..., :20] = 4.0
    router.update(squares, steps=300)
    assert float(router.density(1, 40)[:20].sum().detach()) == pytest.approx(2 / 3, abs=0.02)  # a net's edge is no step


def test_cuts_leave_room_and_serve_the_layer() -> None:
    router = Router((1, 5))
    router.update(bump(nx=24, centre=0.0), steps=300)
    cuts = router.cuts((12, 24))
    assert min(torch.tensor(cuts[1]).diff().tolist()) >= 4
    layer = HardConstraint(DiffusionSorption(nt=12, nx=24), Decomposition(cuts=cuts))
    assert layer.blocks.num_blocks == 5


def test_squares_are_summed_where_they_belong() -> None:
    squares = squared_residuals((2, 3), torch.tensor([4, 1, 4]), torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    assert squares.tolist() == [[[0.0, 4.0, 0.0], [0.0, 10.0, 0.0]]]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="4 blocks of at least 4 points do not fit an axis of 12"):
        Router((4,)).cuts((12,))
    with pytest.raises(ValueError, match="not all zero"):
        Router((1, 2)).update(torch.zeros(1, 4, 8))
    with pytest.raises(ValueError, match="uniform: expected a share"):
        Router((2,), uniform=0.0)
