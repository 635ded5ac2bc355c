"""Conjugate gradients of a sparse matrix beside factors; gradients of both orders; broken promises are told."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, diags_array, eye_array, kron

from simengine.constraint.cloud import AssembledEquation
from simengine.solve.sparse_cg import SparseIterations
from simengine.solve.sparse_lu import SparseFactors

D = torch.float64


def _laplacian(n: int) -> csr_array:
    """In three dimensions, in units from cell to cell of 1 to 100."""
    line, eye = diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]), eye_array(n)
    total = kron(kron(line, eye), eye) + kron(kron(eye, line), eye) + kron(kron(eye, eye), line)
    units = diags_array(np.logspace(0, 2, n**3))
    return csr_array(units @ total @ units)


def test_parity_with_factors() -> None:
    matrix = _laplacian(6)
    right = torch.linspace(-1.0, 2.0, 216, dtype=D).reshape(6, 36)
    exact = SparseFactors(matrix).solve(right)
    for transposed in (False, True):
        found = SparseIterations(matrix).solve(right, transposed=transposed)
        assert found.shape == right.shape
        assert torch.allclose(found, exact, rtol=1e-7, atol=1e-9 * float(exact.abs().max()))


def test_an_equation_has_the_same_field_and_gradients_of_both_orders() -> None:
    left = _laplacian(3)
    own, plain = (
        AssembledEquation({"a": left, "b": eye_array(27)}, mass=eye_array(27), known=[0, 4], definite=definite)
        for definite in (True, False)
    )
    load = torch.linspace(0.5, 1.0, 27, dtype=D)
    numbers = {"a": 0.7, "b": 2.0}
    assert torch.allclose(own.solve(numbers, load, values=0.1), plain.solve(numbers, load, values=0.1), rtol=1e-9)
    assert torch.allclose(own.march(numbers, 1.0, 0.1, 3, load), plain.march(numbers, 1.0, 0.1, 3, load), rtol=1e-9)
    a, edge = (torch.tensor(value, dtype=D, requires_grad=True) for value in (0.7, 0.1))

    def solved(a: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
        return own.solve({"a": a, "b": 2.0}, load, values=edge).square().sum()

    assert torch.autograd.gradcheck(solved, (a, edge), eps=1e-5, atol=1e-9, rtol=1e-6)
    assert torch.autograd.gradgradcheck(solved, (a, edge), eps=1e-5, atol=1e-9, rtol=1e-6)


def test_what_is_not_definite_is_told() -> None:
    ring = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])  # constants are in its null space
    right = torch.tensor([1.0, 1.0, 0.5], dtype=D)
    with pytest.raises(ArithmeticError, match="conjugate gradients do not converge"):
        SparseIterations(csr_array(ring)).solve(right)
    for spoilt in ([[2.0, 1.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, -1.0]]):
        with pytest.raises(ArithmeticError, match="not symmetric and positive definite"):
            SparseIterations(csr_array(np.array(spoilt)))
