"""Newton steps that end an iteration: where they call a problem converged, by closed forms."""

import pytest
import torch

from simengine.solve.least_squares import LevenbergMarquardt, finish
from simengine.solve.least_squares.system import FunctionSystem


def _one_step(residual, y: float, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float, bool]:  # type: ignore[no-untyped-def]
    """y, cost and whether converged after one step at a tolerance of 1e-2."""
    monkeypatch.setattr(finish, "_NEWTON_STEPS", 1)
    system = FunctionSystem(
        lambda y, _: residual(y), None, structure=None, jacobian=None, batch=1, batched=lambda t: False, linear=None
    )
    start, which = torch.tensor([[y]], dtype=torch.float64), torch.arange(1)
    found, cost, converged = finish.newton(system, start, which, LevenbergMarquardt(tolerance=1e-2))
    return float(found), float(cost), bool(converged)


@pytest.mark.parametrize(("off", "converged"), [(0.0195, True), (0.0205, False)])
def test_a_step_is_the_last_one_where_it_is_a_share_of_the_residual_and_of_what_the_unknowns_make(
    off: float, converged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With r = (y - 1, 1) the step is 1 - y, |r| about 1 and |J y| about 1: 1e-2 (1 + 1) is the border."""
    y, cost, told = _one_step(lambda y: torch.cat([y - 1, torch.ones_like(y)]), 1 + off, monkeypatch)
    assert told == converged
    assert (y, cost) == (pytest.approx(1.0, abs=1e-12), pytest.approx(0.5, abs=1e-12))  # it is taken either way


def test_a_point_from_which_newton_climbs_is_never_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second derivative of (1 - y^2)^2 / 2 is 6 y^2 - 2: negative near 0, where the gradient nearly vanishes."""
    y, _, told = _one_step(lambda y: 1 - y**2, 1e-6, monkeypatch)
    assert not told
    assert y == 1e-6
