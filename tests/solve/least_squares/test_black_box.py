"""Least squares of what is evaluated and never traced."""

import pytest
import torch

from simengine.solve.least_squares.black_box import BlackBoxSystem
from simengine.solve.least_squares.iteration import advance, begin
from simengine.solve.least_squares.solvers import LevenbergMarquardt


@pytest.mark.parametrize("misfit", [0.5, 1.5, 1.9])
def test_a_residual_that_stays_large_is_no_walk_to_and_fro(misfit: float) -> None:
    """Where J^T J lacks up to .95 of the curvature: the minimum to 1e-4 in at most ten trials, where 17 to 44 were."""

    def residual(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[0], misfit + z[0] ** 2 / 2, z[1] - 1 + 0.1 * z[0] * z[1], 10 * (z[1] - z[0])])

    system = BlackBoxSystem(residual, linearised_at_the_end=False)
    solver = LevenbergMarquardt(drop=1e-12, patience=1, max_iterations=500)
    state = begin(system, torch.tensor([[0.7, 0.3]], dtype=torch.float64), solver)
    while len(state.active):
        state = advance(system, state, solver)
    z = state.y[0].requires_grad_()
    slope = torch.autograd.grad(residual(z).square().sum() / 2, z)[0]
    assert int(state.iterations) <= 10
    assert float(slope.abs().max()) < 1e-4
