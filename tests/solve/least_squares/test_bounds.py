"""Bounds: verification against scipy and closed forms, gradients against differences and closed forms."""

import pytest
import scipy.optimize
import torch

from simengine.solve.least_squares import Dense, LevenbergMarquardt, least_squares
from simengine.solve.solution import Result

D = torch.float64
INF = float("inf")


def rosenbrock(y, shift):
    return torch.stack([10 * (y[1] - y[0] ** 2), 1 - y[0] + shift])


def random_line(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 5, generator=generator, dtype=D), torch.randn(12, generator=generator, dtype=D)


def line(y, args):
    return args[0] @ y - args[1]


@pytest.mark.parametrize("seed", range(6))
def test_linear_problem_as_scipys_bounded_least_squares(seed):
    a, b = random_line(seed)
    found = least_squares(line, torch.zeros(5, dtype=D), (a, b), bounds=(-0.2, 0.2))
    truth = scipy.optimize.lsq_linear(a.numpy(), b.numpy(), (-0.2, 0.2), tol=1e-14)
    assert found.success and (truth.active_mask != 0).any()  # else the case shows nothing
    torch.testing.assert_close(found.value, torch.tensor(truth.x), rtol=0, atol=1e-7)  # scipy's own tolerance


@pytest.mark.parametrize("upper", [0.3, 0.8, 2.0])
def test_rosenbrock_ends_at_the_bound_or_the_minimum(upper):
    found = least_squares(
        rosenbrock,
        torch.tensor([-1.2, 1.0], dtype=D),
        torch.zeros((), dtype=D),
        bounds=(-INF, torch.tensor([upper, INF], dtype=D)),
    )
    x = min(upper, 1.0)
    assert found.success
    torch.testing.assert_close(found.value, torch.tensor([x, x * x], dtype=D), rtol=0, atol=1e-9)
    # the multiplier of y0 <= upper is the descent that it stops: with y1 = y0^2, 1 - y0
    assert float(found.stats["multipliers"][2]) == pytest.approx(1 - x, abs=1e-8)


def test_a_residual_that_has_no_value_outside_is_solved_from_the_border():
    found = least_squares(
        lambda y, a: torch.stack([y[0].sqrt() - 2.0, y[1].log() + 1.0]),
        torch.tensor([10.0, 10.0], dtype=D),
        bounds=(1e-3, 10.0),
    )
    assert found.success
    torch.testing.assert_close(found.value, torch.tensor([4.0, 1 / torch.e], dtype=D), rtol=1e-9, atol=0)


def test_gradient_through_active_and_free_unknowns_and_of_the_bounds_themselves():
    a, b = random_line(0)
    lower = torch.full((5,), -0.15, dtype=D)

    def solve(b, lower):
        return least_squares(line, torch.zeros(5, dtype=D), (a, b), bounds=(lower, 0.2)).value

    stopped = solve(b, lower) == -0.15
    assert bool(stopped.any()) and not bool(stopped.all())
    torch.autograd.gradcheck(solve, (b.requires_grad_(), lower.requires_grad_()), eps=1e-5, atol=1e-9, rtol=1e-6)


def test_a_batch_is_its_problems_one_by_one():
    args = [random_line(seed) for seed in range(3)]
    a, b = (torch.stack(part) for part in zip(*args, strict=True))
    lower = torch.tensor([[-0.1], [-0.2], [-0.3]], dtype=D).expand(3, 5)
    together = least_squares(line, torch.zeros(3, 5, dtype=D), (a, b), bounds=(lower, 0.2)).value
    for k, one in enumerate(args):
        alone = least_squares(line, torch.zeros(5, dtype=D), one, bounds=(lower[k], 0.2)).value
        torch.testing.assert_close(together[k], alone, rtol=0, atol=1e-12)


def test_a_start_outside_is_moved_inside_and_an_unknown_can_leave_its_bound():
    a, b = random_line(1)
    free = torch.linalg.lstsq(a, b[:, None]).solution[:, 0]
    wide = float(free.abs().max()) + 1.0
    found = least_squares(line, torch.full((5,), 100.0, dtype=D), (a, b), bounds=(-wide, wide))
    torch.testing.assert_close(found.value, free, rtol=0, atol=1e-9)


def test_the_others_go_on_beside_an_unknown_that_arrives_at_its_bound():
    # held back one by one, the steps of all three crept along the valley: 401 and 500 trials
    t = torch.linspace(0, 2, 20, dtype=D)
    data = 1.2 * torch.exp(-1.1 * t) + 0.3 + 0.02 * torch.sin(7 * t)

    def decay(y, args):
        return y[0] * torch.exp(-y[1] * args[0]) + y[2] - args[1]

    for most in (0.2, 0.28):
        upper = torch.tensor([9.0, 9.0, most], dtype=D)
        found = least_squares(decay, torch.tensor([1.0, 1.0, 0.0], dtype=D), (t, data), bounds=(-9.0, upper))
        assert found.success and int(found.stats["num_iterations"]) < 20
        assert float(found.value[2]) == most
        held = least_squares(lambda y, a, most=most: decay(torch.cat([y, y.new_tensor([most])]), a),
                             torch.ones(2, dtype=D), (t, data))  # fmt: skip
        torch.testing.assert_close(found.value[:2], held.value, rtol=1e-7, atol=1e-9)


def test_bad_bounds_are_named():
    y, args = torch.zeros(5, dtype=D), random_line(0)
    with pytest.raises(ValueError, match="lower < upper"):
        least_squares(line, y, args, bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"bounds: expected numbers or shape \(5,\)"):
        least_squares(line, y, args, bounds=(torch.zeros(4, dtype=D), 1.0))
    with pytest.raises(ValueError, match="not beside"):
        least_squares(line, y, args, bounds=(-1.0, 1.0), equality=lambda y, a: y[:1])
    with pytest.raises(ValueError, match="dense"):
        least_squares(line, y, args, bounds=(-1.0, 1.0), structure=Dense(qr=True))


def test_tolerances_in_the_unit_of_the_residual_and_of_the_gradient():
    start = torch.tensor([-1.2, 1.0], dtype=D)
    shift = torch.zeros((), dtype=D)
    full = least_squares(rosenbrock, start, shift)
    loose = least_squares(rosenbrock, start, shift, solver=LevenbergMarquardt(absolute=0.5))
    flat = least_squares(rosenbrock, start, shift, solver=LevenbergMarquardt(gradient=0.2))
    assert full.result is loose.result is flat.result is Result.SUCCESS
    assert int(loose.stats["num_iterations"]) < int(full.stats["num_iterations"])
    assert int(flat.stats["num_iterations"]) < int(full.stats["num_iterations"])
    with pytest.raises(ValueError, match="absolute and gradient"):
        LevenbergMarquardt(absolute=-1.0)
