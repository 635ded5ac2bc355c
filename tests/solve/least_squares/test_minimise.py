"""Every problem by every solver; adjoints against finite differences and one another; failures that speak."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch

from simengine.solve.least_squares import GaussNewton, LevenbergMarquardt, covariance, least_squares
from simengine.solve.least_squares.adjoint import AbstractSolveAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.system import ResidualError
from simengine.solve.solution import Result, SolveError

T = torch.linspace(0, 1, 12, dtype=torch.float64)
DATA = torch.tensor([2.0, 1.4, 1.3, 0.9, 1.0, 0.7, 0.35, 0.5, 0.3, 0.33, 0.1, 0.25], dtype=torch.float64)


def decay(y: torch.Tensor, args: Any) -> torch.Tensor:
    return y[0] * torch.exp(-y[1] * T.to(y)) + y[2] - DATA.to(y)


def rosenbrock(y: torch.Tensor, args: Any) -> torch.Tensor:
    return torch.cat([10 * (y[1:] - y[:-1].square()), 1 - y[:-1]])


def line(y: torch.Tensor, args: Any) -> torch.Tensor:
    return y[0] + y[1] * T.to(y) - DATA.to(y)


def powell(y: torch.Tensor, args: Any) -> torch.Tensor:  # singular Jacobian at the solution 0
    return torch.stack([y[0] + 10 * y[1], 5**0.5 * (y[2] - y[3]), (y[1] - 2 * y[2]) ** 2, 10**0.5 * (y[0] - y[3]) ** 2])


def circle(y: torch.Tensor, args: Any) -> torch.Tensor:  # a large residual at the optimum
    points = torch.tensor([[1.0, 0.2], [0.1, 1.3], [-0.8, 0.1], [0.3, -1.1], [0.9, 0.9]]).to(y)
    return (points - y[:2]).norm(dim=1) - y[2]


PROBLEMS: dict[str, tuple[Callable[..., torch.Tensor], list[float]]] = {
    "line": (line, [0.0, 0.0]),
    "decay": (decay, [1.0, 1.0, 0.0]),
    "rosenbrock": (rosenbrock, [-1.2, 1.0, 1.0]),
    "circle": (circle, [0.1, 0.1, 0.5]),
}
SOLVERS = {"lm": LevenbergMarquardt(), "gauss-newton": GaussNewton()}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_minimiser_is_scipys(problem: str, solver: str) -> None:
    residual, start = PROBLEMS[problem]
    oracle = scipy.optimize.least_squares(
        lambda y: residual(torch.tensor(y), None).numpy(), start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    found = least_squares(residual, torch.tensor(start, dtype=torch.float64), solver=SOLVERS[solver], throw=True)
    # two roundings of y: where the cost is flat, sqrt(eps) = 1.5e-8 of it is what either of the two can see
    assert np.allclose(found.value, oracle.x, rtol=2e-7, atol=2e-7)
    assert float(found.stats["cost"]) == pytest.approx(oracle.cost, rel=1e-10, abs=1e-25)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_float32_accumulates_in_float64(problem: str) -> None:
    residual, start = PROBLEMS[problem]
    exact = least_squares(residual, torch.tensor(start, dtype=torch.float64)).value
    single = least_squares(residual, torch.tensor(start), solver=LevenbergMarquardt(tolerance=1e-5))
    assert single.success and single.value.dtype == torch.float32
    # sqrt(float32 eps) = 3.5e-4 of the residual is the resolution of the cost; conditioning of order one
    assert torch.allclose(single.value.double(), exact, atol=2e-3)


def test_slow_convergence_to_a_singular_jacobian_is_not_called_success() -> None:
    # Powell's singular function: linear convergence, y halves in each of 100 iterations; a zero without a gradient
    start = torch.tensor([3.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    found = least_squares(powell, start)
    assert found.result is Result.RANK_DEFICIENT
    assert float(found.stats["cost"]) < 1e-20 and float(found.value.abs().max()) < 1e-6
    for far in (10.0, 100.0):  # the least damping of J^T J would hold it at 1e-7: J itself goes on
        found = least_squares(powell, far * start)
        assert not found.success and float(found.value.abs().max()) < 1e-10


def test_each_problem_of_a_batch_is_solved_as_if_alone() -> None:
    starts = torch.tensor([[-1.2, 1.0], [1.0, 1.0], [3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)
    scale = torch.tensor([1.0, 2.0, 5.0, 0.1], dtype=torch.float64)

    def scaled(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.stack([args * (y[1] - y[0] ** 2), 1 - y[0]])

    together = least_squares(scaled, starts, scale, throw=True)
    for k in range(4):
        alone = least_squares(scaled, starts[k], scale[k], throw=True)
        assert torch.allclose(together.value[k], alone.value, rtol=0, atol=1e-14)
        assert together.stats["num_iterations"][k] == alone.stats["num_iterations"]
    assert len(set(together.stats["num_iterations"].tolist())) > 1  # they stopped one by one


def test_finished_problems_leave_the_batch() -> None:
    calls: list[int] = []

    def curved(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.stack([10 * (y[1] - y[0] ** 2), 1 - y[0]])

    def jacobian(y: torch.Tensor, args: Any) -> torch.Tensor:
        calls.append(1)
        zero = torch.zeros_like(y[0])
        return torch.stack([torch.stack([-20 * y[0], zero + 10]), torch.stack([zero - 1, zero])])

    starts = torch.tensor([[1.0, 1.0], [-1.2, 1.0]], dtype=torch.float64)
    both = least_squares(curved, starts, shared=True, jacobian=jacobian)
    assert both.success and int(both.stats["num_iterations"][0]) == 1 < int(both.stats["num_iterations"][1])
    rejected = int(both.stats["num_iterations"][1]) - (len(calls) - 1)
    assert rejected > 0  # a rejected trial costs no Jacobian


def fitted(
    data: torch.Tensor, weights: torch.Tensor, adjoint: AbstractSolveAdjoint, offset: float = 0.3
) -> torch.Tensor:
    def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
        data, weights = args
        t = torch.linspace(0, 1, 5, dtype=y.dtype)
        return torch.cat([weights * (y[0] * torch.exp(-y[1] * t) - data), offset * (y[0] * y[1] - 3.0).reshape(1)])

    y0 = torch.tensor([[1.0, 1.0]], dtype=torch.float64).expand(len(data), 2)
    return least_squares(
        residual, y0, (data, weights), adjoint=adjoint, solver=LevenbergMarquardt(tolerance=1e-13), throw=True
    ).value


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    data = 2 * torch.exp(-torch.linspace(0, 1, 5, dtype=torch.float64)) + torch.rand(
        2, 5, generator=generator, dtype=torch.float64
    )
    return data.requires_grad_(), torch.rand(2, 5, generator=generator, dtype=torch.float64).add(0.5).requires_grad_()


@pytest.mark.parametrize("adjoint", [ImplicitAdjoint(), UnrolledAdjoint()], ids=["implicit", "unrolled"])
def test_gradcheck(adjoint: AbstractSolveAdjoint) -> None:
    data, weights = batch()
    assert torch.autograd.gradcheck(lambda d, w: fitted(d, w, adjoint), (data, weights), eps=1e-5, atol=1e-9, rtol=1e-6)


def test_gradgradcheck_of_the_implicit_adjoint() -> None:
    data, weights = batch()
    assert torch.autograd.gradgradcheck(
        lambda d, w: fitted(d, w, ImplicitAdjoint()), (data, weights), eps=1e-5, atol=1e-9, rtol=1e-6
    )


def test_gauss_newton_adjoint_says_when_it_is_wrong() -> None:
    data, weights = batch()
    exact = torch.autograd.grad(fitted(data, weights, ImplicitAdjoint()).sum(), data)[0]
    with pytest.warns(UserWarning, match="neglected curvature"):
        off = torch.autograd.grad(fitted(data, weights, ImplicitAdjoint(gauss_newton=True)).sum(), data)[0]
    assert float((off - exact).norm() / exact.norm()) > 1e-2
    consistent = (2 * torch.exp(-1.5 * torch.linspace(0, 1, 5, dtype=torch.float64)))[None].requires_grad_()
    ones = torch.ones(
        1, 5, dtype=torch.float64
    )  # zero residual: 2 x 1.5 = 3, so both Hessians agree, without a warning
    one = torch.autograd.grad(fitted(consistent, ones, ImplicitAdjoint()).sum(), consistent)[0]
    two = torch.autograd.grad(fitted(consistent, ones, ImplicitAdjoint(gauss_newton=True)).sum(), consistent)[0]
    assert torch.allclose(one, two, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*neglected curvature")
def test_gauss_newton_adjoint_refuses_second_derivatives() -> None:
    data, weights = batch()
    with pytest.raises(RuntimeError, match="once differentiable"):
        fitted(data, weights, ImplicitAdjoint(gauss_newton=True)).sum().backward(create_graph=True)


def test_gradient_that_would_be_lost_is_refused() -> None:
    hidden = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="not in args"):
        least_squares(lambda y, args: y - hidden, torch.zeros(3, dtype=torch.float64))


def test_status_per_problem() -> None:
    def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.stack([(args * y[0]).sqrt() - 2, y[0] + args * 0 - 1])

    y0 = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    found = least_squares(residual, y0, torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert found.stats["status"].tolist() == [Result.SUCCESS, Result.NONFINITE]
    assert found.result is Result.NONFINITE and not found.success
    assert float(found.value[1, 0]) == 1.0  # untouched, and no NaN
    with pytest.raises(SolveError, match=r"problems \[1\] of 2 after \[0\] iterations: NONFINITE: the residual or its"):
        least_squares(residual, y0, torch.tensor([1.0, -1.0], dtype=torch.float64), throw=True)


def test_a_failed_problem_does_not_spoil_the_gradient_of_others() -> None:
    def residual(y: torch.Tensor, a: Any) -> torch.Tensor:
        return torch.stack([(a * y[0]).sqrt() - 2, y[0] - 1])

    args = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    found = least_squares(residual, torch.ones(2, 1, dtype=torch.float64), args)
    assert found.stats["status"].tolist() == [Result.SUCCESS, Result.NONFINITE]
    alone = least_squares(residual, torch.ones(1, dtype=torch.float64), args[0])
    expected = torch.autograd.grad(alone.value.sum(), args)[0]
    assert torch.allclose(torch.autograd.grad(found.value[0].sum(), args, retain_graph=True)[0], expected)
    with pytest.raises(SolveError, match=r"problems \[1\]: NONFINITE"):
        found.value.sum().backward()


def test_a_dead_branch_raises_instead_of_giving_nan() -> None:
    # the value of where is right, its derivative by what the dead branch holds is 0 times infinity
    def hidden(y: torch.Tensor, args: Any) -> torch.Tensor:
        return y - torch.where(args["a"] > 0, args["a"].sqrt(), 0.0)

    def open_(y: torch.Tensor, args: Any) -> torch.Tensor:
        used = args["a"] > 0
        return y - torch.where(used, torch.where(used, args["a"], 1.0).sqrt(), 0.0)

    a = torch.tensor([[4.0, 0.0]], dtype=torch.float64, requires_grad=True)
    start = torch.zeros(1, 2, dtype=torch.float64)
    solution = least_squares(hidden, start, {"a": a})
    assert solution.success
    with pytest.raises(RuntimeError, match=r"tensor 0 of args, shape \(1, 2\): 1 entries are not finite, .* domain"):
        solution.value.sum().backward()
    least_squares(open_, start, {"a": a}).value.sum().backward()
    assert torch.allclose(a.grad, torch.tensor([[0.25, 0.0]], dtype=torch.float64))  # type: ignore[arg-type]


def test_limit_of_iterations() -> None:
    found = least_squares(
        rosenbrock,
        torch.tensor([-1.2, 1.0], dtype=torch.float64),
        solver=LevenbergMarquardt(max_iterations=3, finished=False),
    )
    assert found.result is Result.MAX_ITERATIONS and "raise max_iterations" in found.result.remedy


def test_rank_deficiency_is_reported_and_has_no_gradient() -> None:
    target = torch.tensor([2.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = least_squares(lambda y, t: y.sum() - t, torch.zeros(2, dtype=torch.float64), target)
    assert found.result is Result.RANK_DEFICIENT
    assert float(found.value.detach().sum()) == pytest.approx(2.0)  # a minimiser all the same
    with pytest.raises(SolveError, match="RANK_DEFICIENT"):
        found.value.sum().backward()
    newton = least_squares(lambda y, t: y.sum() - t, torch.zeros(2, dtype=torch.float64), target, solver=GaussNewton())
    assert newton.result in (Result.SINGULAR, Result.RANK_DEFICIENT)


def test_wrong_jacobian_stagnates() -> None:
    found = least_squares(
        lambda y, args: y.square() + 1, torch.ones(2, dtype=torch.float64), jacobian=lambda y, args: torch.diag(-2 * y)
    )
    assert found.result is Result.STAGNATED and "Jacobian" in found.result.remedy


@pytest.mark.parametrize(
    ("residual", "message"),
    [
        (lambda y, args: y.sum(), r"expected shape \(m,\) .* got \(\)"),
        (lambda y, args: y.reshape(1, -1), r"got \(1, 2\)"),
        (lambda y, args: y.float(), "expected dtype torch.float64"),
        (lambda y, args: 3.0, "expected a tensor of shape .* got float"),
        (lambda y, args: y @ torch.zeros(3, dtype=y.dtype), r"iteration 0, problems \[0\], y of shape \(2,\)"),
    ],
)
def test_what_is_no_residual(residual: Any, message: str) -> None:
    with pytest.raises(ResidualError, match=message):
        least_squares(residual, torch.zeros(2, dtype=torch.float64))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="y0: expected a float tensor"):
        least_squares(line, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="y0: expected a float tensor"):
        least_squares(line, torch.zeros(0))
    with pytest.raises(ValueError, match="first dimension of 2"):
        least_squares(line, torch.zeros(2, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="tolerance > 0"):
        LevenbergMarquardt(tolerance=0)
    with pytest.raises(ResidualError, match=r"jacobian: expected shape \(2, 2\), got \(2, 1\)"):
        least_squares(lambda y, a: y, torch.zeros(2), jacobian=lambda y, a: y[:, None])


def test_covariance_of_a_line() -> None:
    # closed form of a straight line through m points: var(slope) = sigma^2 / sum (t - mean)^2
    j = torch.stack([torch.ones_like(T), T], dim=1)
    spread = covariance(j, torch.zeros_like(T), sigma=0.1)
    assert float(spread[1, 1]) == pytest.approx(0.01 / float((T - T.mean()).square().sum()), rel=1e-12)
    assert torch.isinf(covariance(torch.cat([j, j[:, :1]], dim=1), T, sigma=1.0)).all()
    with pytest.raises(ValueError, match="give sigma"):
        covariance(j[:2], T[:2])


def test_covariance_of_a_weighted_line_with_unknown_noise() -> None:
    """Against numpy's polyfit, whose weights multiply residuals: sqrt(w) here; sigma^2 = |r|^2 / (m - n)."""
    w = torch.linspace(0.2, 3.0, 12, dtype=torch.float64)
    J = torch.stack((torch.ones_like(T), T), 1)
    for weights in (None, w):
        root = torch.ones_like(T) if weights is None else weights.sqrt()
        y, theirs = np.polyfit(T.numpy(), DATA.numpy(), 1, w=root.numpy(), cov=True)
        r = line(torch.tensor([y[1], y[0]]), None)
        ours = covariance(J, r, weights=weights)
        np.testing.assert_allclose(ours.numpy(), theirs[::-1, ::-1], rtol=1e-10)
        known = covariance(J, r, sigma=0.1, weights=weights)
        exact = 0.01 * torch.linalg.inv((root[:, None] * J).T @ (root[:, None] * J))
        torch.testing.assert_close(known, exact, rtol=1e-10, atol=0)


def test_damping_grows_ever_faster_and_falls_by_the_gain() -> None:
    solver, growth = LevenbergMarquardt(), torch.tensor([2.0], dtype=torch.float64)
    damping, bad = torch.tensor([1e-3], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    seen = []
    for _ in range(4):
        damping, growth = solver.next_damping(damping, growth, bad)
        seen.append(float(damping))
    assert seen == pytest.approx([1e-3 * factor for factor in (2, 2 * 4, 2 * 4 * 8, 2 * 4 * 8 * 16)])
    # Nielsen: 1 - (2 gain - 1)^3, here 1 - (1/2)^3, and the growth starts from 2 again
    damping, growth = solver.next_damping(damping, growth, torch.tensor([0.75], dtype=torch.float64))
    assert float(damping) == pytest.approx(1.024 * 0.875) and float(growth) == 2.0
    assert float(solver.next_damping(damping, growth, torch.tensor([1.0]))[0]) == pytest.approx(0.0896)  # a tenth


def test_verification_a_minimum_where_columns_are_parallel_is_one() -> None:
    """Freudenstein and Roth's second minimum: J has rank 1 there, the Hessian rank 2, so it has a gradient."""

    def residual(z: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        x, y = z
        return torch.stack([x - 13 + ((5 - y) * y - 2) * y, x - 29 + ((y + 1) * y - 14) * y]) - shift

    start, shift = torch.tensor([0.5, -2.0]).double(), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    found = least_squares(residual, start, shift, throw=True)
    assert 2 * float(found.stats["cost"]) == pytest.approx(48.98425, rel=1e-6)
    (slope,) = torch.autograd.grad(found.value[0], shift)
    h = 1e-3 * torch.tensor([1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        ends = [float(least_squares(residual, start, shift + side * h).value[0]) for side in (1, -1)]
    assert float(slope[0]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-5)
