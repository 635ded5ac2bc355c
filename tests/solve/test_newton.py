"""Block-tridiagonal factors, damped Newton and the implicit gradient, each against a closed form or dense algebra."""

import pytest
import torch

from simengine.solve.band import BandFactors
from simengine.solve.block_tridiagonal import BlockFactors, BlockTridiagonalMatrix
from simengine.solve.implicit import implicit_root
from simengine.solve.newton import AbstractRootProblem, newton
from simengine.solve.solution import Result, SolveError


def _system(b: int = 2, count: int = 5, n: int = 3) -> BlockTridiagonalMatrix:
    lower, diagonal, upper = torch.randn(3, b, count, n, n, dtype=torch.float64)
    return BlockTridiagonalMatrix(lower, diagonal + 4 * torch.eye(n, dtype=torch.float64), upper)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("how", ["factor", "block_factor"])
def test_factors_solve_what_dense_algebra_solves(count: int, how: str) -> None:
    system = _system(count=count)
    system.diagonal[1, 0, 0] *= -1  # another sign of the determinant
    dense, factors = system.dense(), getattr(system, how)()
    x = torch.randn(2, count, 3, dtype=torch.float64)
    # float64 and a condition number below 1e3: 1e-12 is 1e4 roundings
    assert torch.allclose(system.matvec(x).flatten(1), (dense @ x.flatten(1).unsqueeze(2)).squeeze(2), atol=1e-12)
    assert torch.allclose(factors.solve(system.matvec(x)), x, atol=1e-12)
    transposed = torch.linalg.solve(dense.mT, x.flatten(1)).reshape(x.shape)
    assert torch.allclose(factors.solve_transposed(x), transposed, atol=1e-12)
    assert torch.equal(factors.sign, torch.linalg.slogdet(dense).sign)
    several = torch.randn(2, count, 3, 4, dtype=torch.float64)
    assert torch.allclose(factors.solve(several)[..., 2], factors.solve(several[..., 2].contiguous()), atol=1e-13)


def test_small_blocks_are_a_band_and_a_singular_matrix_is_not_finite() -> None:
    assert isinstance(_system().factor(), BandFactors) and isinstance(_system(n=25).factor(), BlockFactors)
    singular = BlockTridiagonalMatrix(*torch.zeros(3, 1, 2, 2, 2, dtype=torch.float64))
    assert not bool(singular.factor().solve(torch.ones(1, 2, 2, dtype=torch.float64)).isfinite().any())


def test_rows_of_very_different_units_do_not_spoil_the_pivots() -> None:
    system = _system()
    units = torch.logspace(-9, 9, 3, dtype=torch.float64)
    scaled = BlockTridiagonalMatrix(
        *(block * units[:, None] for block in (system.lower, system.diagonal, system.upper))
    )
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.allclose(scaled.factor().solve(scaled.matvec(x)), x, atol=1e-11)


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="three equal shapes"):
        BlockTridiagonalMatrix(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3))


class _Arctan(AbstractRootProblem):
    """arctan(a (y - c)) = 0: raw Newton diverges from |a (y - c)| > 1.39."""

    def __init__(self, a: torch.Tensor, c: torch.Tensor) -> None:
        self.a, self.c = a[:, None, None], c[:, None, None]
        self.scale, self.lower, self.upper = torch.tensor(1.0), torch.tensor(-1e9), torch.tensor(1e9)

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        return torch.atan(self.a * (y - self.c))

    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        slope = (self.a / (1 + (self.a * (y - self.c)) ** 2)).unsqueeze(3)
        return self.residual(y), BlockTridiagonalMatrix(0 * slope, slope, 0 * slope)


class _Fold(_Arctan):
    """y^2 + 1 = 0 has no root."""

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        return y * y + 1

    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        slope = (2 * y).unsqueeze(3)
        return self.residual(y), BlockTridiagonalMatrix(0 * slope, slope, 0 * slope)


def test_damping_finds_what_raw_newton_loses() -> None:
    a, c = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([2.0, -3.0], dtype=torch.float64)
    start = torch.full((2, 1, 1), 20.0, dtype=torch.float64)
    solution = newton(_Arctan(a, c), start)
    assert solution.result is Result.SUCCESS
    assert torch.allclose(solution.value[:, 0, 0], c, atol=1e-12)


def test_no_root_is_a_result_and_raises_only_when_asked() -> None:
    one = torch.ones(1, dtype=torch.float64)
    start = torch.full((1, 1, 1), 3.0, dtype=torch.float64)
    assert not newton(_Fold(one, one), start, max_iterations=40).success
    with pytest.raises(SolveError):
        newton(_Fold(one, one), start, max_iterations=40, throw=True)


class _Runaway(_Arctan):
    """dy/dt = y^2 of which Newton is told no slope: only steps of pseudo-time are left, and they run away at t = 1."""

    seen: list[float]

    def mass(self, y: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(y)

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        return y * y

    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        self.seen.append(float(y))
        none = torch.zeros_like(y).unsqueeze(3)
        return self.residual(y), BlockTridiagonalMatrix(none, none, none)


def test_a_step_of_pseudo_time_changes_nothing_by_more_than_its_scale() -> None:
    one = torch.ones(1, dtype=torch.float64)
    problem = _Runaway(one, one)
    problem.seen = []
    solution = newton(problem, one[:, None, None], max_iterations=120)
    moves = torch.tensor(problem.seen).diff().abs()
    assert int(solution.stats["time_steps"]) > 20 and 0.5 < float(moves.max()) <= 1.0


def test_implicit_gradient_is_that_of_the_closed_form() -> None:
    a = torch.tensor([1.0, 5.0], dtype=torch.float64)
    c = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    root = newton(_Arctan(a, c.detach()), c.detach()[:, None, None] + 0.1).value
    problem = _Arctan(a, c)
    factors = _Arctan(a, c.detach()).linearise(root)[1].factor()
    y = implicit_root(root, problem.residual(root), factors)
    (y**2).sum().backward()  # y = c, so the gradient is 2 c
    assert torch.allclose(c.grad, 2 * c.detach(), atol=1e-12)
