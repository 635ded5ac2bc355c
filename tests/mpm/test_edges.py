"""The edge of the grid, and bodies that move through the segments of a run (verification)."""

import dataclasses

import pytest
import torch

from simengine import materials, mpm, solve


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("beyond", [1e-6, 0.25, 0.499])
def test_the_stencil_ends_where_the_grid_does(axis: int, beyond: float, make_model) -> None:
    """Quadratic B-splines reach nodes floor(s - 1/2) .. + 2, so s = x/dx lies in [1/2, size - 3/2)."""
    size, dx = 20, 0.05
    model = make_model(materials.jelly(), gravity=(0.0, 0.0, 0.0), boundaries=[mpm.Walls("open")])
    for edge, sign in ((0.5, -1), (size - 1.5, 1)):
        x = torch.full((1, 3), 0.5, dtype=torch.float64)
        x[0, axis] = (edge - sign * beyond) * dx  # within
        after = solve.rollout(mpm.MPMSolver(model), mpm.MPMState.at_rest(x), 2, save_every=2)[-1]
        torch.testing.assert_close(after.x, x, rtol=0, atol=1e-12)
        x[0, axis] = (edge + sign * beyond) * dx  # in the half cell beyond
        for threads in (1, 2):
            with pytest.raises(mpm.SimulationError, match="left the grid"):
                solve.rollout(mpm.MPMSolver(model, threads=threads), mpm.MPMState.at_rest(x), 2, save_every=2)


@pytest.mark.parametrize("spin", [0.0, 5.0])
def test_a_moving_body_goes_on_where_a_run_is_cut(spin: float, make_cube, make_model) -> None:
    """40 steps at once, in two parts, and one by one are the same; a body that is back at its start is not."""
    paddle = mpm.Box(
        center=(0.15, 0.5, 0.5),
        half_size=(0.1, 0.4, 0.2),
        velocity=(4.0, 0.0, 0.0),
        angular_velocity=(0.0, 0.0, spin),
        surface=mpm.Surface("sticky"),
    )
    model = make_model(materials.jelly(), gravity=(0.0, 0.0, 0.0), boundaries=[paddle])
    start = dataclasses.replace(make_cube(5), v=torch.zeros(125, 3, dtype=torch.float64))
    solver = mpm.MPMSolver(model)
    with torch.no_grad():
        whole = solve.rollout(solver, start, 40, save_every=20)
        middle = solve.rollout(solver, start, 20, save_every=20)[-1]
        rest = solve.rollout(solver, middle, 20, save_every=20, first_step=20)[-1]
        again = solve.rollout(solver, middle, 20, save_every=20)[-1]
        single = middle
        for number in range(20, 40):
            single = solver.step(single, number)
    assert torch.equal(whole[-1].x, rest.x)
    torch.testing.assert_close(single.x, rest.x, rtol=0, atol=1e-12)
    assert float((again.x - rest.x).abs().max()) > 1e-3
    # the table itself: the frame has moved by velocity times the time of the step
    like = torch.zeros(0, dtype=torch.float64)
    moved = model.table(like, 30)[0, 1, :3] - model.table(like, 0)[0, 1, :3]
    assert moved.tolist() == pytest.approx([4.0 * 30 * 5e-4, 0.0, 0.0], abs=1e-12)
