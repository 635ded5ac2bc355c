"""GMRES against the dense solution, its count of products, restarts and what is left."""

import pytest
import torch

from simengine.solve.gmres import gmres


def system(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    A = torch.eye(n, dtype=torch.float64) * 4 + 0.4 * torch.randn(n, n, generator=g, dtype=torch.float64)
    return A, torch.randn(n, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("restart", [80, 7])
def test_the_solution_is_that_of_the_dense_system(restart: int) -> None:
    A, b = system(30)
    calls = []

    def product(v: torch.Tensor) -> torch.Tensor:
        calls.append(v)
        return A @ v

    x, count = gmres(product, b, precondition=lambda v: v / A.diagonal(), restart=restart, tolerance=1e-10)
    torch.testing.assert_close(x, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-9)
    assert float((b - A @ x).norm()) <= 1.01e-10 * float(b.norm())
    assert len(calls) == count + (count - 1) // restart  # each restart asks once for what is left


def test_a_perfect_preconditioner_takes_one_product_and_n_directions_always_do() -> None:
    A, b = system(12)
    inverse = torch.linalg.inv(A)
    x, count = gmres(lambda v: A @ v, b, precondition=lambda v: inverse @ v)
    assert count == 1 and torch.allclose(A @ x, b)
    x, count = gmres(lambda v: A @ v, b, precondition=lambda v: v)
    assert count <= 12 and torch.allclose(A @ x, b, rtol=1e-10)


def test_products_are_limited_and_the_residual_falls_with_them() -> None:
    A, b = system(30)
    left = []
    for most in (1, 3, 5, 9):
        x, count = gmres(lambda v: A @ v, b, precondition=lambda v: v, max_iterations=most, restart=4)
        assert count == most
        left.append(float((b - A @ x).norm()))
    assert left == sorted(left, reverse=True) and left[0] < float(b.norm())
    # one direction: the least residual along b itself
    w = A @ b
    assert left[0] == pytest.approx(float((b - w * (w @ b) / (w @ w)).norm()))
    zero, count = gmres(lambda v: A @ v, torch.zeros(30, dtype=torch.float64), precondition=lambda v: v)
    assert count == 0 and not bool(zero.any())
