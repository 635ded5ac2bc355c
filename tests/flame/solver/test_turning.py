"""Flames at the edge of extinction: gradients of the turning point beside turning points found again."""

import dataclasses

import pytest
import torch

from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver import turning
from simengine.flame.solver.solve import GridSolver
from simengine.solve.solution import SolveError

SOLVER = GridSolver().set_refine_criteria(ratio=3, slope=0.2, curve=0.4, prune=0.05)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def methane(mu: torch.Tensor, constants: torch.Tensor | None = None) -> DiffusionFlame:
    """Mass fluxes of mu and 2 mu; constants: A, Ea and both conductivities, relative."""
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
    own = gas.rate_parameters
    scale = torch.ones(3, dtype=torch.float64) if constants is None else constants
    return DiffusionFlame(
        gas=gas,
        mixture=Mixture({"CH4": 1.0}),
        p=number(101325.0),
        T_in=number(300.0),
        mass_flux_left=mu,
        mass_flux_right=2 * mu,
        A=own.A * scale[0],
        Ea=own.Ea * scale[1],
        lam_factor=scale[2],
    )


def test_extinction_has_the_gradient_of_turning_points_found_again() -> None:
    """On one grid; from the stretched flame on, so that the path is short."""
    start = SOLVER.solve(methane(number(6.0))).value
    found = turning.extinction(start, methane, 6.0, SOLVER)
    assert 14 < found.value < 18
    singular = found.problem.linearise(found.solution.state)[1].factor()
    assert float(singular.solve(torch.ones_like(found.null)).abs().max()) > 1e5  # dF/dy is singular there
    ones, way = torch.ones(3, dtype=torch.float64), torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    step, again = 3e-4, []
    for sign in (1, -1):
        constants = ones + sign * step * way
        near = turning.again(found, lambda mu, own=constants: methane(mu, own))  # type: ignore[misc]
        assert near is not None
        again.append(near)
    exact = float(found.derivative(methane, ones) @ way)
    assert exact == pytest.approx((again[0] - again[1]) / (2 * step), rel=1e-5)  # each constant alone: 1.1e-6 at most


def test_what_does_not_turn_back_is_said() -> None:
    """The length between the nozzles cannot put the flame out by itself: the mass fluxes stay."""
    start = SOLVER.solve(methane(number(2.0))).value
    with pytest.raises(ValueError, match="solve it with GridSolver"):
        turning.extinction(dataclasses.replace(start, state=start.state.expand(2, -1, -1)), methane, 2.0, SOLVER)
    with pytest.raises(SolveError, match=r"no turning point: .* without turning back"):
        few = turning.STEPS
        turning.STEPS = 2
        try:
            turning.extinction(start, methane, 2.0, SOLVER)
        finally:
            turning.STEPS = few


def test_a_step_to_gas_below_0_K_is_no_flame(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of Newton that cools the fresh gas by 310 K is refused, not looked up in the rates."""
    start = SOLVER.solve(methane(number(6.0))).value
    row = torch.zeros_like(start.state)
    cooled = row.clone()
    cooled[..., start.flame.fields.index("T")] = -310.0
    monkeypatch.setattr(turning.Bordered, "solve", lambda self, right, further: (cooled, 0.0))
    assert turning.corrected(start.problem, start.state, 6.0, row, 1.0, 0.0, methane, 1e-6) is None
