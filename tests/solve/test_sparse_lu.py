"""Sparse factors beside dense ones; gradients of first and second order; singular matrices."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, diags_array

from simengine.solve.sparse_lu import SparseFactors

D = torch.float64


def _matrix() -> csr_array:
    """Ten unknowns of units from 1e-8 to 1e8, rows of units of their own."""
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(10, 10)) * (draw.random((10, 10)) < 0.4) + np.diag(np.full(10, 3.0))
    return csr_array(np.logspace(0, 20, 10)[:, None] * dense * np.logspace(-8, 8, 10))


def test_parity_with_dense_solves_in_any_units() -> None:
    matrix = _matrix()
    scale = diags_array(np.logspace(0, -20, 10))
    factors, plain = SparseFactors(matrix), torch.from_numpy((scale @ matrix).toarray())
    right = torch.linspace(1.0, 2.0, 10, dtype=D)
    found = factors.solve(torch.from_numpy(np.logspace(0, 20, 10)) * right)
    units = torch.from_numpy(np.logspace(8, -8, 10))
    expected = units * torch.linalg.solve(plain * units, right)
    assert torch.allclose(found / units, expected / units, rtol=1e-12)
    across = factors.solve(right / units, transposed=True)
    assert torch.allclose(torch.from_numpy(matrix.T @ across.numpy()) * units, right, rtol=1e-10)


def test_gradients() -> None:
    factors = SparseFactors(csr_array(np.array([[2.0, 1.0, 0.0], [0.5, 3.0, 0.0], [0.0, 1.0, 4.0]])))
    right = torch.tensor([1.0, 2.0, 3.0], dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: factors.applied(b * b), (right,), eps=1e-5, atol=1e-9, rtol=1e-6)
    assert torch.autograd.gradgradcheck(lambda b: factors.applied(b * b), (right,), eps=1e-5, atol=1e-9, rtol=1e-6)


def test_what_is_singular_is_told() -> None:
    with pytest.raises(ArithmeticError, match="singular"):
        SparseFactors(csr_array(np.array([[1.0, 1.0], [1.0, 1.0]])))
    ring = np.diag(np.full(9, 2.0)) - np.roll(np.eye(9), 1, 0) - np.roll(np.eye(9), -1, 0)  # a constant is free
    with pytest.raises(ArithmeticError, match="singular"):
        SparseFactors(csr_array(ring))
