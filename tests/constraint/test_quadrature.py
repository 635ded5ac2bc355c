"""Integrals over intervals, and derivatives of residuals in closed form."""

import dataclasses

import pytest
import torch

from simengine.constraint import AbstractPDE, AllenCahn, Burgers, DiffusionSorption, NavierStokes
from simengine.constraint.quadrature import integration_matrix, interval_rule


@pytest.mark.parametrize("order", [2, 4])
def test_polynomials_below_the_order_are_exact(order: int) -> None:
    matrix, t = integration_matrix(7, order), torch.arange(7, dtype=torch.float64)
    for power in range(order + 1):
        exact = (t[1:] ** (power + 1) - t[:-1] ** (power + 1)) / (power + 1)
        assert torch.allclose(matrix[1:] @ t**power, exact, rtol=1e-12) == (power < order)


def test_bad_orders() -> None:
    with pytest.raises(ValueError, match="order 2 or 4 and at least as many times, got order=3, nt=9"):
        interval_rule(9, 3)
    with pytest.raises(ValueError, match="order=4, nt=3"):
        NavierStokes(nt=3, size=8)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("make", [NavierStokes, Burgers, AllenCahn, DiffusionSorption])
def test_closed_forms_are_those_of_reverse_mode(make: type[AbstractPDE], order: int) -> None:
    names = {f.name for f in dataclasses.fields(make)}  # type: ignore[arg-type]
    options = {"nt": 8, "nx": 8, "size": 4, "time_order": order, "implicit": order - 2}
    pde = make(**{name: value for name, value in options.items() if name in names})
    rows = pde.rows()
    values = torch.rand(2, *rows.index.shape, dtype=torch.float64) - 0.1  # concentrations below 0 too
    parameters = {"D": torch.tensor([[4e-4], [6e-4]]).double(), "k": torch.tensor([[3e-4], [4e-4]]).double()}
    ours = pde.linearised(values, rows.data, parameters)
    theirs = AbstractPDE.linearised(pde, values, rows.data, parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))
    assert torch.allclose(ours[0], pde.residual(values, rows.data, parameters), rtol=1e-12, atol=1e-14)


def test_a_residual_of_ones_own_loses_the_closed_form() -> None:
    class Doubled(DiffusionSorption):
        def residual(self, *given: object) -> torch.Tensor:
            return 2 * super().residual(*given)  # type: ignore[arg-type]

    pde, plain = Doubled(nt=6, nx=4), DiffusionSorption(nt=6, nx=4)
    rows = pde.rows()
    values = torch.rand(*rows.index.shape, dtype=torch.float64)
    for ours, theirs in zip(
        pde.linearised(values, rows.data, {}), plain.linearised(values, rows.data, {}), strict=True
    ):
        assert torch.allclose(ours, 2 * theirs, rtol=1e-12)
