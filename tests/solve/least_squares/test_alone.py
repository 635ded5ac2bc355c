"""Derivatives of a problem alone, by reverse mode, beside forward mode; and J of a high condition."""

import pytest
import torch
from torch.func import grad, jacfwd, jvp

from simengine.solve.least_squares import BlockDiagonal, LevenbergMarquardt, alone, least_squares
from simengine.solve.least_squares.system import load_forward_mode

D = torch.float64


def residual(y: torch.Tensor) -> torch.Tensor:
    return torch.stack([y[0] * torch.exp(-y[1] * k) + y[2] ** 3 - 0.3 * k for k in (0.1, 0.7, 1.3, 2.0)])


Y = torch.tensor([0.7, -0.4, 1.1], dtype=D)
V = torch.tensor([0.3, -1.0, 0.2], dtype=D)


def test_products_gradient_hessian_and_curvature_are_those_of_forward_mode() -> None:
    load_forward_mode()
    jacobian = jacfwd(residual)(Y)
    found = alone.products(residual, Y, torch.eye(3, dtype=D), differentiable=False)
    torch.testing.assert_close(found.T, jacobian, rtol=1e-13, atol=1e-13)
    slope = grad(lambda z: 0.5 * residual(z).square().sum())
    torch.testing.assert_close(alone.gradient(residual, Y, differentiable=False), slope(Y), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        alone.hessian(residual, Y, differentiable=False), jacfwd(slope)(Y), rtol=1e-12, atol=1e-12
    )
    bent = jvp(lambda z: jvp(residual, (z,), (V,))[1], (Y,), (V,))[1]
    torch.testing.assert_close(alone.curvature(residual, Y, V), jacobian.T @ bent, rtol=1e-12, atol=1e-12)


def test_where_the_residual_does_not_depend_on_an_unknown_or_on_any() -> None:
    eye = torch.eye(3, dtype=D)
    still = alone.products(lambda z: torch.ones(2, dtype=D), Y, eye, differentiable=False)
    assert torch.equal(still, torch.zeros(3, 2, dtype=D))
    straight = alone.curvature(lambda z: 2 * z[:2], Y, V)
    assert torch.equal(straight, torch.zeros(3, dtype=D))


def test_a_branch_hidden_by_where_does_not_spoil_the_jacobian() -> None:
    # reverse mode gives 0 times the infinite slope of the root at 0, forward mode leaves the branch out
    found = least_squares(
        lambda y, a: torch.cat([torch.where(a > 0, y[0] * torch.sqrt(a * y[1]), y[0]), y[1:] - 2]) - 1,
        torch.tensor([0.5, 1.0], dtype=D),
        torch.tensor([0.0], dtype=D),
        solver=LevenbergMarquardt(accelerated=False, finished=False),  # second derivatives take reverse mode
    )
    assert found.success
    torch.testing.assert_close(found.value, torch.tensor([1.0, 3.0], dtype=D))


def test_a_problem_alone_ends_where_it_ends_in_a_batch() -> None:
    data = torch.tensor([[0.2, -0.1], [0.4, 0.3]], dtype=D)

    def valley(y: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.stack([10 * (y[1] - y[0] ** 2), 1 - y[0], y[0] - d[0], y[1] - d[1]])

    for structure in (None, BlockDiagonal(1)):
        start = torch.tensor([-1.2, 1.0], dtype=D)
        both = least_squares(valley, start.expand(2, 2), data, structure=structure)
        for k in range(2):
            one = least_squares(valley, start, data[k], structure=structure)
            torch.testing.assert_close(one.value, both.value[k], rtol=1e-9, atol=1e-10)


def ill(exponent: int, count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """J of condition 10^exponent, and its last singular vectors."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(80, count, generator=generator, dtype=D))
    v, _ = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=D))
    return u @ torch.diag(torch.logspace(0, -exponent, count, dtype=D)) @ v.T, u[:, -1], v[:, -1]


@pytest.mark.parametrize("exponent", [7, 8, 9, 10])
def test_default_settings_solve_and_differentiate_conditions_to_1e10(exponent: int) -> None:
    matrix, u, v = ill(exponent)
    truth = torch.ones(12, dtype=D)
    right = (matrix @ truth).requires_grad_()
    found = least_squares(lambda y, args: args[0] @ y - args[1], torch.zeros_like(truth), (matrix, right))
    assert found.success
    assert float((found.value.detach() - truth).norm() / truth.norm()) < 1e-6  # condition times rounding
    (slope,) = torch.autograd.grad(found.value @ v, right)  # of the direction that J hardly sees: u times the condition
    assert float((slope - u * 10**exponent).norm()) < 1e-5 * 10**exponent


def test_second_derivatives_at_a_high_condition_are_refused() -> None:
    matrix, _, _ = ill(9)
    right = matrix.sum(dim=1).requires_grad_()
    found = least_squares(lambda y, args: args[0] @ y - args[1], torch.zeros(12, dtype=D), (matrix, right))
    (slope,) = torch.autograd.grad(found.value.square().sum(), right, create_graph=True)
    with pytest.raises(RuntimeError, match="once differentiable; scale"):
        slope.sum().backward()


def test_a_true_lack_of_rank_stays_named() -> None:
    found = least_squares(lambda y, _: torch.stack([y[0] + y[1] - 1, 2 * y[0] + 2 * y[1]]), torch.zeros(2, dtype=D))
    assert found.result.name == "RANK_DEFICIENT"
