"""Equations at scattered points: polynomials, orders beside closed forms, told errors, gradients, refusals."""

import itertools
import math
from typing import Any

import pytest
import torch

from simengine.constraint.cloud import Meshless, PointSet
from simengine.constraint.cloud.stencils import monomials, stencil_weights
from simengine.constraint.spectral import Fixed, Flux, div

D = torch.float64


def _disc(n: int, *, normals: bool = True) -> PointSet:
    """n points on the unit circle in two halves, others within along a jittered spiral, about as far apart."""
    h = 2 * math.pi / n
    angle = torch.arange(n, dtype=D) * h
    rim = torch.stack([angle.cos(), angle.sin()], 1)
    m = int(math.pi * (1 - 0.7 * h) ** 2 / h**2)
    k = torch.arange(m, dtype=D) + 0.5
    radius, turn = (k / m).sqrt() * (1 - 0.7 * h), k * math.pi * (3 - math.sqrt(5))
    jitter = 0.1 * h * (torch.rand(m, 2, generator=torch.Generator().manual_seed(0), dtype=D) - 0.5)
    points = torch.cat([rim, torch.stack([radius * turn.cos(), radius * turn.sin()], 1) + jitter])
    halves = {"upper": torch.arange(n)[rim[:, 1] >= 0], "lower": torch.arange(n)[rim[:, 1] < 0]}
    return PointSet(points, sides=halves, normals=points if normals else None)


def _wave(p: Any) -> torch.Tensor:
    return torch.sin(2 * p.x + 0.3) * torch.exp(p.y)


def _slopes(p: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.cos(2 * p.x + 0.3) * torch.exp(p.y), _wave(p)


def _varying(u: Any, p: Any) -> Any:
    """-div(k grad u) with k = 1 + x/2, of which `_wave` is the solution."""
    k = 1 + 0.5 * p.x
    return div(k * u.x, k * u.y) + 3 * k * _wave(p) - 0.5 * _slopes(p)[0]


def _outward(u: Any, p: Any) -> Any:
    a, b = _slopes(p)
    return (1 + 0.5 * p.x) * (p.x * a + p.y * b)


def _off(cloud: PointSet, found: torch.Tensor, share: float = 1.0) -> float:
    x, y = cloud.points.unbind(1)
    exact = share * torch.sin(2 * x + 0.3) * torch.exp(y)
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize(("axes", "degree"), [(1, 4), (2, 2), (2, 4), (3, 3)])
def test_polynomials_up_to_the_degree_are_reproduced(axes: int, degree: int) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(80, axes, generator=generator, dtype=D)
    cloud = PointSet(points)
    names = "xyz"[:axes]
    for exponents in monomials(axes, degree):
        values = (points ** torch.tensor(exponents, dtype=D)).prod(1)
        for letters in ("", *names, *(a + b for a, b in itertools.combinations_with_replacement(names, 2))):
            factor, rest = 1.0, list(exponents)
            for letter in letters:
                factor, rest[names.index(letter)] = factor * rest[names.index(letter)], rest[names.index(letter)] - 1
            exact = factor * (points ** torch.tensor([max(e, 0) for e in rest], dtype=D)).prod(1)
            found = cloud.derivative(values, letters, degree)
            assert torch.allclose(found, exact, atol=1e-7), (exponents, letters)  # condition of jittered stencils


def test_weights_have_a_gradient_by_the_places() -> None:
    points = torch.rand(13, 2, generator=torch.Generator().manual_seed(2), dtype=D, requires_grad=True)
    near = torch.arange(13)[None]

    def weights(points: torch.Tensor) -> torch.Tensor:
        return stencil_weights(points, points[:1] + 0.01, near, ["x", "xy"], 2)["xy"]

    assert torch.autograd.gradcheck(weights, (points,), eps=1e-6, atol=1e-4, rtol=1e-6)  # entries of hundreds


def test_poisson_with_known_values_converges_at_the_order_of_its_degree() -> None:
    for degree, least in ((2, 1.5), (4, 3.5)):
        errors = []
        for n in (32, 64):
            cloud = _disc(n)
            found = Meshless(_varying, cloud, boundary=[Fixed(_wave)]).solve(degree=degree, estimate=False).check()
            errors.append(_off(cloud, found.at("u")))
        assert math.log2(errors[0] / errors[1]) > least, (degree, errors)


def test_fluxes_and_known_values_together_and_the_told_error() -> None:
    rows = [Fixed(_wave, at="lower"), Flux(_outward, at="upper")]
    errors = []
    for n in (40, 80):
        cloud = _disc(n)
        found = Meshless(_varying, cloud, boundary=rows).solve().check()
        errors.append(_off(cloud, found.at("u")))
        assert 1 / 3 < found.error() / errors[-1] < 3
    assert math.log2(errors[0] / errors[1]) > 3, errors
    x, y = torch.tensor([0.1, 0.5], dtype=D), torch.tensor([0.2, -0.4], dtype=D)
    assert torch.allclose(found("u", x=x, y=y), torch.sin(2 * x + 0.3) * torch.exp(y), atol=3e-4)
    # the rim's normals from its points, on a curve right to the third power of their distance
    apart = [float((_disc(n, normals=False).normals - _disc(n).normals).abs().max()) for n in (40, 80)]
    assert math.log2(apart[0] / apart[1]) > 2.7, apart


def test_heat_is_of_second_order_in_time_and_closed_without_a_row() -> None:
    def equation(u: Any, p: Any) -> Any:
        return u.t - div(u.x, u.y) - 2 * _wave(p) * torch.exp(-p.t)

    cloud, errors = _disc(40), []
    for steps in (4, 8):
        rows = [Fixed(lambda p: _wave(p) * torch.exp(-p.t))]
        found = Meshless(equation, cloud, boundary=rows).march(_wave, 1.0, steps, degree=6, estimate=False).check()
        errors.append(_off(cloud, found.at("u"), math.exp(-1)))
    assert math.log2(errors[0] / errors[1]) > 1.8, errors
    # what begins even stays even where nothing flows in
    still = Meshless(lambda u, p: u.t - div(u.x, u.y), cloud).march(2.0, 1.0, 2, estimate=False).check()
    assert torch.allclose(still.at("u"), torch.full((len(cloud),), 2.0, dtype=D), atol=1e-9)


def test_two_fields_that_react_and_a_nonlinear_flux() -> None:
    """Steady u'' = v, v'' = 0 on a line, with du/dn = -u^3 at the right: u(1) solves u + u^3 = its straight part."""
    line = PointSet(torch.linspace(0.0, 1.0, 21, dtype=D)[:, None], sides={"left": [0], "right": [20]})
    rows = [
        Fixed(0.0, at="left", field="u"),
        Flux(lambda u, v, p: -(u**3), at="right", field="u"),
        Fixed(0.0, at="left", field="v"),
        Fixed(6.0, at="right", field="v"),
    ]
    problem = Meshless(lambda u, v, p: (div(u.x) - v, div(v.x)), line, fields=("u", "v"), boundary=rows)
    found = problem.solve(degree=4, start={"u": -1.0, "v": 0.0}).check()
    # u = x^3 + a x with 3 + a = -(1 + a)^3: a from the cubic
    a = -1.5
    for _ in range(50):
        a -= (3 + a + (1 + a) ** 3) / (1 + 3 * (1 + a) ** 2)
    x = line.points[:, 0]
    assert torch.allclose(found.at("u"), x**3 + a * x, atol=1e-9)
    assert torch.allclose(found.at("v"), 6 * x, atol=1e-9)


def test_gradients_by_numbers_and_by_a_coefficient_at_the_points() -> None:
    cloud = _disc(30)
    k = (1 + 0.2 * cloud.points[:, 0]).requires_grad_()
    s = torch.tensor(1.3, dtype=D, requires_grad=True)

    def mean(k: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        def equation(u: Any, p: Any) -> Any:
            return u.t - div(p.k * u.x, p.k * u.y) - p.s * u.value**2 - 1

        problem = Meshless(equation, cloud, boundary=[Fixed(0.0)], numbers={"k": k, "s": s})
        return problem.march(0.0, 0.1, 2, degree=2, estimate=False).check().at("u").square().sum()

    by_k, by_s = torch.autograd.grad(mean(k, s), (k, s))
    direction = torch.randn(len(k), generator=torch.Generator().manual_seed(3), dtype=D)
    step = 1e-6
    with torch.no_grad():
        along = (mean(k + step * direction, s) - mean(k - step * direction, s)) / (2 * step)
        by_difference = (mean(k, s + step) - mean(k, s - step)) / (2 * step)
    assert float(by_k @ direction) == pytest.approx(float(along), rel=1e-6)
    assert float(by_s) == pytest.approx(float(by_difference), rel=1e-6)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    cloud = _disc(30)
    with pytest.raises(ValueError, match="points: 0 and 3 coincide"):
        PointSet([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="lies on two of them"):
        PointSet(cloud.points, sides={"a": [0, 1], "b": [1, 2]}, normals=cloud.points)
    with pytest.raises(ValueError, match="'rim' is no side of these points; known: upper, lower"):
        Meshless(_varying, cloud, boundary=[Fixed(0.0, at="rim")]).solve()
    with pytest.raises(ValueError, match=r"u\.xxxx: points tell derivatives up to the second"):
        Meshless(lambda u, p: u.xxxx, cloud).solve()
    with pytest.raises(ValueError, match=r"a div of u\.t; a flux may hold"):
        Meshless(lambda u, p: div(u.x, p.x * u.t), cloud).solve()
    with pytest.raises(ValueError, match=r"boundary: u\.xxx: a Flux may hold"):
        Meshless(_varying, cloud, boundary=[Flux(lambda u, p: u.xxx)]).solve()
    with pytest.raises(ValueError, match="needs `div"):
        Meshless(lambda u, p: u.xx + u.yy, cloud, boundary=[Flux(lambda u, p: 0.0)]).solve()
    with pytest.raises(ValueError, match="it holds a rate"):
        Meshless(lambda u, p: u.t - u.xx, cloud, boundary=[Fixed(0.0)]).solve()
    with pytest.raises(ValueError, match="no row of u at upper, and no `div"):
        Meshless(lambda u, p: u.xx + u.yy, cloud).solve()
    with pytest.raises(ValueError, match="too few for degree 8"):
        Meshless(_varying, cloud, boundary=[Fixed(0.0)]).solve(degree=8)
    assert Meshless(lambda u, p: div(u.x, u.y), cloud).solve(degree=2).result.name != "SUCCESS"  # a constant is free
