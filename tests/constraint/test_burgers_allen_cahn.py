"""Burgers and Allen-Cahn: the data generators against closed forms, and the layer on both."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from simengine.constraint import AbstractFamily, AllenCahn, Burgers, Decomposition, HardConstraint
from simengine.constraint.allen_cahn import travelling_front
from simengine.constraint.basis import principal_basis
from simengine.constraint.burgers import cole_hopf


def test_burgers_against_cole_hopf() -> None:
    errors = []
    for nx in (64, 128, 256):
        pde = Burgers(nt=6, nx=nx)
        x = torch.arange(nx, dtype=torch.float64) / nx
        found = pde.solve((2 * math.pi * x).sin()[None], step=2e-3)[0, -1]
        truth = cole_hopf(lambda y: -(2 * math.pi * y).cos() / (2 * math.pi), 0.5, x, viscosity=pde.viscosity)
        errors.append(float((found - truth).norm() / truth.norm()))
    # spectral: measured 2e-3, 5e-6 and 3e-8
    assert errors[0] < 5e-3 and errors[1] < 1e-5 and errors[2] < 1e-7


def test_cole_hopf_satisfies_the_equation() -> None:
    x, t, h = torch.linspace(0, 1, 9, dtype=torch.float64), 0.3, 1e-3

    def u(t: float, x: torch.Tensor) -> torch.Tensor:
        return cole_hopf(lambda y: -(2 * math.pi * y).cos() / (2 * math.pi), t, x, viscosity=0.05)

    u_t = (u(t + h, x) - u(t - h, x)) / (2 * h)
    u_x, u_xx = (u(t, x + h) - u(t, x - h)) / (2 * h), (u(t, x + h) - 2 * u(t, x) + u(t, x - h)) / h**2
    assert float((u_t + u(t, x) * u_x - 0.05 * u_xx).abs().max()) < 1e-3 * float(u_t.abs().max())


def test_allen_cahn_against_the_travelling_front() -> None:
    errors = []
    for nx in (32, 64, 128):
        pde = AllenCahn(nt=5, nx=nx)
        x = (torch.arange(nx, dtype=torch.float64) + 0.5) / nx
        start = travelling_front(0.0, x, epsilon=pde.epsilon, start=0.35)
        found = torch.tensor(pde.solve(start.numpy())[-1])
        truth = travelling_front(pde.duration, x, epsilon=pde.epsilon, start=0.35)
        middle = slice(nx // 4, 3 * nx // 4)  # the closed form knows nothing of the ends
        errors.append(float((found - truth)[middle].abs().max()))
    assert [np.log2(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([2.0, 2.0], abs=0.1)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize(
    ("pde", "order", "times"),
    [
        (Burgers(nx=128, viscosity=0.03, time_order=2), 2, (51, 101, 201)),
        (Burgers(nx=128, viscosity=0.03, time_order=4), 4, (51, 101)),  # then the reference's own error shows
        (AllenCahn(nx=64), 2, (51, 101, 201)),
    ],
)
def test_residual_of_the_truth_falls_with_the_order_of_the_rule(
    pde: AbstractFamily, order: int, times: tuple[int, ...]
) -> None:
    norms = []
    for nt in times:
        pde = dataclasses.replace(pde, nt=nt)  # type: ignore[type-var]
        u = pde.reference(pde.draw(1, torch.Generator().manual_seed(0)))
        rows, table = pde.rows(), pde.table(u.unsqueeze(-1))[..., 0]
        late = rows.position > pde.shape[1] * (nt // 2)
        r = pde.residual(table[:, rows.index], rows.data, {})[0, late]
        norms.append(float(r.square().mean().sqrt()) * (nt - 1))
    slopes = [np.log2(a / b) for a, b in itertools.pairwise(norms)]
    assert slopes == pytest.approx([order] * len(slopes), abs=0.15)


@pytest.mark.parametrize("experts", [1, 4])
@pytest.mark.parametrize("pde", [Burgers(nt=101, nx=64, viscosity=0.03), AllenCahn(nt=51, nx=64)], ids=["b", "ac"])
def test_experts_find_the_truth(pde: AbstractFamily, experts: int) -> None:
    members = pde.draw(8, torch.Generator().manual_seed(0))
    truth = pde.reference(members)
    basis = principal_basis(truth, 8).expand(2, -1, -1, -1)
    layer = HardConstraint(pde, Decomposition(counts=(1, experts), periodic=(False, isinstance(pde, Burgers))))
    with torch.no_grad():
        found = layer(basis, {"u0": members["u0"][:2]})
    assert found.solution.success and int(found.solution.stats["num_iterations"].max()) <= 20
    error = (found.field - truth[:2]).flatten(1).norm(dim=1) / truth[:2].flatten(1).norm(dim=1)
    assert float(error.max()) < 2e-3  # the time error of Crank-Nicolson, for Allen-Cahn
    jumps = layer.interface_jumps(basis, found.weights)
    assert jumps.numel() == 0 or float(jumps.abs().max()) < 1e-3 * float(truth.max() - truth.min())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="even nx >= 4, got nt=5, nx=9"):
        Burgers(nt=5, nx=9)
    with pytest.raises(ValueError, match="nx >= 3, got nt=5, nx=2"):
        AllenCahn(nt=5, nx=2)
    with pytest.raises(RuntimeError, match="shorten `step`"):
        pde = Burgers(nt=3, nx=16, duration=100.0, time_order=2)
        pde.solve(1e3 * pde.draw(1, torch.Generator().manual_seed(0))["u0"], step=1.0)
