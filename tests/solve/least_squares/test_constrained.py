"""Least squares with constraints: against scipy, against closed forms, and gradients against finite differences."""

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch

from simengine.solve.least_squares import LevenbergMarquardt, MatrixFree, least_squares
from simengine.solve.least_squares.adjoint import ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.system import ResidualError
from simengine.solve.solution import Result, SolveError

SOLVER = LevenbergMarquardt(tolerance=1e-12)


def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
    return torch.stack([y[0] ** 2 + y[1] - args["a"], y[0] + y[1] ** 2 - 7.0, 0.5 * (y[2] - y[0] * y[1]), y[2] - 1.0])


def equality(y: torch.Tensor, args: Any) -> torch.Tensor:
    return (y[0] * y[2] - args["e"]).reshape(1)


def inequality(y: torch.Tensor, args: Any) -> torch.Tensor:
    return torch.stack([y.square().sum() - args["h"], y[1] - 40.0])  # the second is never active


def given(batch: int | None = None) -> dict[str, torch.Tensor]:
    values = {"a": [11.0, 9.0, 5.0], "e": [1.5, 2.0, 0.5], "h": [6.0, 9.0, 100.0]}
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return {name: value[0] if batch is None else value[:batch] for name, value in tensors.items()}


START = torch.ones(3, dtype=torch.float64)


def test_minimisers_are_scipys() -> None:
    found = least_squares(
        residual, START.expand(3, 3), given(3), equality=equality, inequality=inequality, solver=SOLVER, throw=True
    )
    for k in range(3):
        args = {name: float(value[k]) for name, value in given(3).items()}
        oracle = scipy.optimize.minimize(
            lambda y, args=args: 0.5 * residual(torch.tensor(y), args).square().sum().item(),
            np.ones(3),
            method="SLSQP",
            constraints=[
                {"type": "eq", "fun": lambda y, args=args: equality(torch.tensor(y), args).numpy()},
                {"type": "ineq", "fun": lambda y, args=args: -inequality(torch.tensor(y), args).numpy()},
            ],
            options={"ftol": 1e-10, "maxiter": 500},
        )
        assert oracle.success
        # SLSQP differences its gradients: 1e-8 of the cost is what it can see, its square root of y
        assert np.allclose(found.value[k], oracle.x, atol=2e-4)
        assert float(found.stats["cost"][k]) <= oracle.fun + 1e-6
    assert float(found.stats["violation"].max()) < 1e-12  # Newton steps on the conditions finish
    active = found.stats["multipliers"][:, 1] > 0
    assert active.tolist() == [True, True, False]
    assert bool((found.stats["multipliers"][:, 2] == 0).all())


def test_projection_onto_a_ball_has_its_closed_form() -> None:
    # min 1/2 |y - p|^2 subject to |y|^2 <= 1: y = p/|p|, u = (|p| - 1)/2; inside the ball y = p
    p = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    found = least_squares(
        lambda y, p: y - p,
        torch.zeros(2, 2, dtype=torch.float64),
        p,
        inequality=lambda y, p: y.square().sum().reshape(1) - 1,
        throw=True,
    )
    assert torch.allclose(found.value, torch.tensor([[0.6, 0.8], [0.3, 0.4]], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(
        found.stats["multipliers"].flatten(), torch.tensor([2.0, 0.0], dtype=torch.float64), atol=1e-10
    )
    cotangent = torch.tensor([1.0, 2.0], dtype=torch.float64)
    outside, inside = torch.autograd.grad((found.value * cotangent).sum(), p)[0]
    unit = torch.tensor([0.6, 0.8], dtype=torch.float64)
    assert torch.allclose(outside, (cotangent - unit * (unit @ cotangent)) / 5, atol=1e-12)
    assert torch.allclose(inside, cotangent, atol=1e-12)


def solve(a: torch.Tensor, e: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return least_squares(
        residual, START, {"a": a, "e": e, "h": h}, equality=equality, inequality=inequality, solver=SOLVER, throw=True
    ).value


def test_gradient_along_a_direction() -> None:
    leaves = [value.requires_grad_() for value in given().values()]
    found = solve(*leaves)
    cotangent = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    gradient = torch.autograd.grad((found * cotangent).sum(), leaves)
    h, direction = 1e-5, (1.0, 0.5, -0.7)
    with torch.no_grad():
        ends = [solve(*(p + s * h * d for p, d in zip(leaves, direction, strict=True))) @ cotangent for s in (1, -1)]
    along = sum(float(g) * d for g, d in zip(gradient, direction, strict=True))
    assert along == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-6)  # h^2 and rounding/h


@pytest.mark.slow
def test_gradcheck_and_gradgradcheck() -> None:
    leaves = [value.requires_grad_() for value in given().values()]
    assert torch.autograd.gradcheck(solve, leaves, eps=1e-5, atol=1e-9, rtol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(solve, leaves, eps=1e-5, atol=1e-9, rtol=1e-6, fast_mode=True)


def test_shared_arguments_and_one_problem_agree() -> None:
    starts = torch.stack([START, 1.5 * START])
    shared = least_squares(residual, starts, given(), equality=equality, inequality=inequality, shared=True, throw=True)
    alone = least_squares(residual, START, given(), equality=equality, inequality=inequality, throw=True)
    assert torch.allclose(shared.value, alone.value.expand(2, 3), atol=1e-9)
    assert alone.stats["multipliers"].shape == (3,)


def test_equations_alone() -> None:
    # more constraints than residuals pin the solution; without a residual that tells, it is their nearest point
    found = least_squares(
        lambda y, args: 1e-3 * y,
        torch.tensor([1.0, 2.0], dtype=torch.float64),
        equality=lambda y, args: torch.stack([y[0] ** 2 + y[1] ** 2 - 4, y[0] - y[1]]),
        throw=True,
    )
    assert torch.allclose(found.value, torch.full((2,), 2**0.5, dtype=torch.float64), atol=1e-12)


def test_constraints_that_contradict_one_another() -> None:
    target = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    found = least_squares(
        lambda y, t: y - t, torch.zeros(1, dtype=torch.float64), target, equality=lambda y, t: torch.cat([y, y - 1])
    )
    assert found.result is Result.INFEASIBLE and "contradict" in found.result.remedy
    assert float(found.stats["violation"]) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(SolveError, match="INFEASIBLE"):
        found.value.sum().backward()
    with pytest.raises(SolveError, match=r"problems \[0\] of 1 after .* INFEASIBLE"):
        least_squares(
            lambda y, t: y - t,
            torch.zeros(1, dtype=torch.float64),
            target.detach(),
            equality=lambda y, t: torch.cat([y, y - 1]),
            throw=True,
        )


def test_constraints_named_twice_have_no_multipliers_of_their_own() -> None:
    target = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = least_squares(
        lambda y, t: y - t,
        torch.zeros(2, dtype=torch.float64),
        target,
        equality=lambda y, t: torch.stack([y[0] - y[1], 2 * (y[0] - y[1])]),
    )
    assert torch.allclose(found.value, torch.full((2,), 1.5, dtype=torch.float64), atol=1e-7)
    assert found.result is Result.RANK_DEFICIENT


def test_status_per_problem_with_constraints() -> None:
    args = torch.tensor([1.0, torch.nan], dtype=torch.float64)
    found = least_squares(
        lambda y, t: y - t,
        torch.zeros(2, 1, dtype=torch.float64),
        args,
        inequality=lambda y, t: y - 0.5,
    )
    assert found.stats["status"].tolist() == [Result.SUCCESS, Result.NONFINITE]
    assert float(found.value[0, 0]) == pytest.approx(0.5, abs=1e-12) and float(found.value[1, 0]) == 0.0


def test_linear_rows_go_with_constraints() -> None:
    found = least_squares(
        lambda y, args: 0.1 * y.square(),
        torch.ones(2, dtype=torch.float64),
        linear=lambda args: (torch.eye(2, dtype=torch.float64), torch.tensor([2.0, 3.0], dtype=torch.float64)),
        equality=lambda y, args: (y.sum() - 1).reshape(1),
        throw=True,
    )
    together = least_squares(
        lambda y, args: torch.cat([0.1 * y.square(), y - torch.tensor([2.0, 3.0]).to(y)]),
        torch.ones(2, dtype=torch.float64),
        equality=lambda y, args: (y.sum() - 1).reshape(1),
        throw=True,
    )
    assert torch.allclose(found.value, together.value, atol=1e-10)


def test_bad_constraints() -> None:
    y0 = torch.zeros(2, dtype=torch.float64)

    def line(y: torch.Tensor, args: Any) -> torch.Tensor:
        return y - 1

    with pytest.raises(ResidualError, match=r"equality: expected shape \(p,\) .* got \(\)"):
        least_squares(line, y0, equality=lambda y, args: y.sum())
    with pytest.raises(ResidualError, match=r"iteration 0, problems \[0\], y of shape \(2,\): RuntimeError"):
        least_squares(line, y0, inequality=lambda y, args: y @ torch.zeros(3).to(y))
    with pytest.raises(ValueError, match="take a dense Jacobian by forward mode"):
        least_squares(line, y0, equality=line, structure=MatrixFree())
    with pytest.raises(ValueError, match="adjoint: constrained problems take ImplicitAdjoint"):
        least_squares(line, y0, equality=line, adjoint=UnrolledAdjoint())
    with pytest.raises(ValueError, match="adjoint: constrained problems take ImplicitAdjoint"):
        least_squares(line, y0, equality=line, adjoint=ImplicitAdjoint(gauss_newton=True))
    hidden = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="not in args"):
        least_squares(line, y0, equality=lambda y, args: y - hidden)
