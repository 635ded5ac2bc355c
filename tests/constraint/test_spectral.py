"""Equations of one's own on functions without training: verification by closed forms, gradients, the told error."""

import math

import pytest
import torch

from simengine.constraint.spectral import Circle, Domain, Fixed, Flux, Interval, Spectral, div
from simengine.constraint.spectral.discrete import Discrete
from simengine.constraint.spectral.march import SpectralMarch
from simengine.constraint.spectral.space import Space
from simengine.solve.solution import Result


def _points(n: int = 41, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return torch.linspace(low, high, n, dtype=torch.float64)


def test_verification_a_ring_between_two_circles_and_its_told_error() -> None:
    def within(p):  # type: ignore[no-untyped-def]
        r2 = p.x**2 + p.y**2
        return (r2 - 0.25) * (1 - r2)

    problem = Spectral(
        lambda u, p: -u.xx - u.yy - 4, Domain(x=(-1.0, 1.0), y=(-1.0, 1.0), inside=within), boundary=[Fixed(0.0)]
    )
    r, angle = torch.meshgrid(_points(20, 0.5, 1.0), _points(24, 0.0, 6.0), indexing="ij")
    truth = 1 - r**2 + 0.75 * torch.log(r) / math.log(2)  # -Laplacian = 4, 0 at 1/2 and at 1
    root = r.sqrt()  # of the area that a point stands for
    before = None
    for size in (5, 9):
        found = problem.solve(size).check()
        missed = found("u", x=r * torch.cos(angle), y=r * torch.sin(angle)) - truth
        error = float((root * missed).norm() / (root * truth).norm())
        assert error / 3 < found.error() < 3 * error
        assert before is None or error < before / 2  # log r is singular in the hole: slowly
        before = error


def test_verification_values_at_sides_are_lifted_and_fluxes_may_hang_on_the_field() -> None:
    line = Domain(x=(0.0, 1.0))
    ramp = Spectral(
        lambda u, p: div(u.x), line, boundary=[Fixed(2.0, at="left"), Fixed(lambda p: 0 * p.x + 3, at="right")]
    )
    assert torch.allclose(ramp.solve(3)("u", x=_points()), 2 + _points(), atol=1e-12)
    # du/dx = -u^4 at the right end: u = 1 - a x with a = (1 - a)^4
    wall = Spectral(
        lambda u, p: div(u.x), line, boundary=[Fixed(1.0, at="left"), Flux(lambda u, p: -(u**4), at="right")]
    )
    a = 1 - float(wall.solve(3).check()("u", x=1.0))
    assert a == pytest.approx((1 - a) ** 4, abs=1e-12)


def test_verification_coefficients_may_jump_at_a_break() -> None:
    def equation(u, p):  # type: ignore[no-untyped-def]
        return div(torch.where(p.x < 0.5, 1.0, 4.0) * u.x)

    line = Domain(x=Interval(0.0, 1.0, breaks=(0.5,)))
    ends = [Fixed(0.0, at="left"), Fixed(1.0, at="right")]
    found = Spectral(equation, line, boundary=ends).solve(24).check()
    truth = torch.where(_points() < 0.5, 1.6 * _points(), 0.8 + 0.4 * (_points() - 0.5))
    error = float((found("u", x=_points()) - truth).norm() / truth.norm())
    assert error < 0.02  # a kink by polynomials of degree 23
    assert error / 3 < found.error() < 3 * error


def test_verification_functions_that_bend_where_a_coefficient_jumps_converge_as_of_a_smooth_one() -> None:
    def equation(u, p):  # type: ignore[no-untyped-def]
        return div(torch.where(p.x < 0.5, 1.0, 4.0) * u.x)

    ends = [Fixed(0.0, at="left"), Fixed(1.0, at="right")]
    truth = torch.where(_points() < 0.5, 1.6 * _points(), 0.8 + 0.4 * (_points() - 0.5))
    bent = Domain(x=Interval(0.0, 1.0, breaks=(0.5,)), enrichments=[lambda p: (p.x - 0.5).abs()])
    # polynomials alone: 3e-2, 2e-2, 1e-2
    for size, bound in ((4, 3e-3), (6, 1e-4), (12, 1e-6)):
        found = Spectral(equation, bent, boundary=ends).solve(size, estimate=False).check()
        assert float((found("u", x=_points()) - truth).norm() / truth.norm()) < bound
    # derivatives of enriched functions, beside differences of them, in two dimensions with a hole
    square = Domain(
        x=(-1.0, 1.0),
        y=(-1.0, 1.0),
        inside=lambda p: p.x**2 + p.y**2 - 0.09,
        enrichments=[lambda p: torch.exp(p.x * p.y), lambda p: (p.x + 2).sqrt()],
    )
    space = Space(square, [Fixed(0.0)], [3, 4], [8, 8], 1)
    at = {"x": torch.tensor([0.4, -0.7], dtype=torch.float64), "y": torch.tensor([0.6, 0.2], dtype=torch.float64)}
    for letters, axis in (("x", "x"), ("xy", "y"), ("yy", "y")):
        beside = [space.functions({**at, axis: at[axis] + step}, letters[:-1]) for step in (1e-5, -1e-5)]
        assert torch.allclose(space.functions(at, letters), (beside[0] - beside[1]) / 2e-5, rtol=1e-6, atol=1e-6)


def test_verification_waves_and_their_derivatives_in_double_precision() -> None:
    # wave numbers of single precision moved a run of Kuramoto and Sivashinsky's equation along the circle by 1e-5
    x = _points(7, 0.0, 22.0)
    functions = Circle(0.0, 22.0).values(x, 9, 1, (False, False))
    k = 2 * math.pi / 22 * 4
    truth = torch.stack([-k * torch.sin(k * x), k * torch.cos(k * x)], 1)
    assert torch.allclose(functions[:, -2:], truth, rtol=0, atol=1e-13)


def test_verification_three_dimensions_and_four_derivatives() -> None:
    box = Domain(x=(0.0, 1.0), y=(0.0, 1.0), z=(0.0, 1.0))

    def mode(x, y, z):  # type: ignore[no-untyped-def]
        return torch.sin(math.pi * x) * torch.sin(math.pi * y) * torch.sin(math.pi * z)

    problem = Spectral(
        lambda u, p: -u.xx - u.yy - u.zz - 3 * math.pi**2 * mode(p.x, p.y, p.z), box, boundary=[Fixed(0.0)]
    )
    x = _points(7)
    assert torch.allclose(
        problem.solve(5, estimate=False)("u", x=x, y=0.4, z=0.3), mode(x, 0 * x + 0.4, 0 * x + 0.3), atol=1e-4
    )
    ring = Domain(x=Circle(0.0, 2 * math.pi))
    beam = Spectral(lambda u, p: u.xxxx + u - 17 * torch.sin(2 * p.x), ring).solve(9, estimate=False)
    assert torch.allclose(beam("u", x=x), torch.sin(2 * x), atol=1e-12)


def test_verification_a_mode_that_cools_through_a_wall() -> None:
    h, k = 1.5, 0.98824  # k tan k = h
    for _ in range(30):
        k -= (k * math.tan(k) - h) / (math.tan(k) + k / math.cos(k) ** 2)
    problem = Spectral(
        lambda u, p: u.t - div(u.x), Domain(x=(0.0, 1.0)), boundary=[Flux(lambda u, p: -h * u, at="right")]
    )
    found = problem.march(lambda p: torch.cos(k * p.x), 1.0, 6, tolerance=1e-6).check()
    for t in (0.37, 1.0):
        truth = math.exp(-(k**2) * t) * torch.cos(k * _points())
        error = float((found("u", t=t, x=_points()) - truth).norm() / truth.norm())
        assert error < 1e-5
        assert error / 3 < found.error(t=t) < 3 * error


def test_verification_a_soliton_keeps_its_shape() -> None:
    # Korteweg and de Vries: u = c/2 sech^2(sqrt(c)/2 (x - c t)), here c = 4, on a circle much longer than it
    def soliton(x, t):  # type: ignore[no-untyped-def]
        return 2 / torch.cosh(x - 10 - 4 * t) ** 2

    problem = Spectral(lambda u, p: u.t + 6 * u * u.x + u.xxx, Domain(x=Circle(0.0, 20.0)))
    found = problem.march(lambda p: soliton(p.x, 0.0), 0.5, 61, tolerance=1e-4, estimate=False).check()
    x = _points(81, 0.0, 20.0)
    assert float((found("u", x=x) - soliton(x, 0.5)).abs().max()) < 2e-3


@pytest.mark.parametrize(("stages", "windows"), [(1, 64), (2, 16), (3, 2)])
def test_verification_the_order_of_the_windows(stages: int, windows: int) -> None:
    equation = Spectral(lambda u, p: u.t + 2 * u, Domain(x=Circle(0.0, 1.0))).equation
    errors = []
    for count in (windows, 2 * windows):
        march = SpectralMarch(Discrete(equation, [1], {}), stages=stages, tolerance=1e-8)
        y = torch.ones(1, dtype=torch.float64)
        for k in range(count):
            whole = march.window(y, k / count, 1 / count)
            assert whole is not None
            y = whole[-1]
        errors.append(abs(float(y) - math.exp(-2)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2 * stages - 1, abs=0.3)


def _central(function, at: float, step: float = 1e-5) -> float:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        ends = [float(function(torch.tensor(at + s, dtype=torch.float64))) for s in (step, -step)]
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("estimate", [False, True])
def test_gradcheck_of_numbers_in_equation_source_and_walls(estimate: bool) -> None:
    def solved(k: torch.Tensor) -> torch.Tensor:
        problem = Spectral(
            lambda u, p: -div(p.k * u.x * (1 + u**2)) - p.k**2 * p.x,
            Domain(x=(0.0, 1.0)),
            boundary=[Fixed(lambda p: p.k * (1 - p.x), at="left"), Flux(lambda u, p: -p.k * u, at="right")],
            numbers={"k": k},
        )
        return problem.solve(4 if estimate else 8, estimate=estimate)("u", x=0.7)

    k = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(solved(k), k)
    assert float(slope) == pytest.approx(_central(solved, 0.8), rel=1e-6)


@pytest.mark.parametrize("estimate", [False, True])
def test_gradcheck_through_time(estimate: bool) -> None:
    def marched(nu: torch.Tensor) -> torch.Tensor:
        problem = Spectral(lambda u, p: u.t + u * u.x - p.nu * u.xx, Domain(x=Circle(0.0, 6.0)), numbers={"nu": nu})
        start = {"u": lambda p: torch.sin(math.pi * p.x / 3)}
        return problem.march(start, 0.5, 7 if estimate else 15, tolerance=1e-3, estimate=estimate)("u", x=1.1)

    nu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(marched(nu), nu)
    assert float(slope) == pytest.approx(_central(marched, 0.3, 1e-4), rel=1e-6)  # windows may differ by a hair


def test_what_has_no_answer_says_so() -> None:
    line = Domain(x=(0.0, 1.0))
    free = Spectral(lambda u, p: div(u.x) - 1, line).solve(4, estimate=False)
    assert free.result in (Result.SINGULAR, Result.STAGNATED)
    none = Spectral(lambda u, p: div(u.x) + u**2 + 50, line, boundary=[Fixed(0.0)]).solve(8, estimate=False)
    assert none.result is not Result.SUCCESS
    blow = Spectral(lambda u, p: u.t - u**2, Domain(x=Circle(0.0, 1.0))).march(1.0, 2.0, 1, estimate=False)
    assert blow.result is Result.STAGNATED
    assert float(blow.coefficients.starts[-1]) == pytest.approx(1.0, abs=1e-2)  # where 1/(1 - t) ends


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Domain(y=(0.0, 1.0)), "domain: expected axes x, or x and y"),
        (lambda: Domain(x=(1.0, 0.0)), "axis: expected low < high"),
        (lambda: Interval(0.0, 1.0, breaks=(2.0,)), "breaks: expected places within"),
        (lambda: Domain(x=(0.0, 1.0), inside=lambda p: p.x - 2).quadrature([4]), "inside: it is positive nowhere"),
        (lambda: Spectral(lambda u, p: u.x, Domain(x=(0.0, 1.0)), boundary=[Fixed(0.0, at="top")]), "'top' is no side"),
        (lambda: Spectral(lambda u, p: u, Domain(x=(0.0, 1.0)), numbers={"x": 1.0}), "numbers: 'x' names an axis"),
        (lambda: Spectral(lambda u, p: u.y, Domain(x=(0.0, 1.0))).solve(3), "a derivative 'y', in a domain of x"),
        (lambda: Spectral(lambda u, p: u.t, Domain(x=(0.0, 1.0))).solve(3), "it holds a rate, u.t; use march"),
        (
            lambda: Spectral(lambda u, p: u.x, Domain(x=(0.0, 1.0))).march(0.0, 1.0, 3),
            "it holds no rate, u.t; use solve",
        ),
        (lambda: Spectral(lambda u, v, p: u, Domain(x=(0.0, 1.0)), fields="uv").solve(3), "expected 2 residuals"),
        (
            lambda: Spectral(lambda u, p: u.xx, Domain(x=(0.0, 1.0)), boundary=[Flux(lambda u, p: u)]).solve(3),
            "needs `div",
        ),
        (
            lambda: Spectral(lambda u, p: p.x * div(u.x), Domain(x=(0.0, 1.0))).solve(3),
            "div: only a number may multiply",
        ),
        (
            lambda: Spectral(lambda u, p: div(u.x) - u, Domain(x=(0.0, 1.0), inside=lambda p: 0.7 - p.x)).solve(3),
            "u is free at the curve of `inside`",
        ),
        (
            lambda: Domain(x=(0.0, 1.0), inside=lambda p: 0.7 - p.x).side("right", [4]),
            "inside: it is positive nowhere on the side right",
        ),
        (
            lambda: Spectral(lambda u, p: u.xx, Domain(x=(0.0, 1.0)), boundary=[Fixed(0.0), Fixed(1.0)]).solve(3),
            "two values are known at left",
        ),
    ],
)
def test_refusals(make, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=told):
        make()


def test_unknown_names_are_told() -> None:
    line = Domain(x=(0.0, 1.0))
    with pytest.raises(AttributeError, match=r"p\.k: no number and no axis of that name"):
        Spectral(lambda u, p: p.k * u.xx, line).solve(3)
    with pytest.raises(AttributeError, match=r"u\.w: a field has t"):
        Spectral(lambda u, p: u.w, line).solve(3)
    found = Spectral(lambda u, p: u - 1, line).solve(3, estimate=False)
    assert repr(found) == "Expansion(SUCCESS, u by 3 functions)"
    with pytest.raises(ValueError, match="'v' is no field"):
        found("v", x=0.5)
    with pytest.raises(ValueError, match="places: expected x"):
        found("u", y=0.5)
    with pytest.raises(ValueError, match="estimate=False"):
        found.error()


def test_parity_the_same_function_on_cells_and_on_polynomials(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import simengine as se

    @se.equation("fisher_of_a_test", fields={"n": "1"}, numbers={"D": "m^2/s", "rate": "1/s"})
    def fisher(n, p):  # type: ignore[no-untyped-def]
        return n.t - p.D * n.xx - p.rate * n * (1 - n)

    file = tmp_path / "fisher.toml"
    file.write_text(
        'kind = "pde"\n[pde]\nequation = "fisher_of_a_test"\nD = 0.05\nrate = 1.0\ninitial = 0.1\nduration = 2.0\n'
        'domain = [[0.0, 1.0]]\ncells = [40, 80]\n[[pde.boundary]]\nat = "left"\ntype = "dirichlet"\nvalue = 0.8\n'
        '[[pde.boundary]]\nat = "right"\ntype = "dirichlet"\nvalue = 0.1\n'
    )
    x = _points(9, 0.05, 0.95)
    ask = se.scene.Fields(names=("n",), x=x[:, None], times=torch.full_like(x, 2.0))
    cells = se.load_world(file).solve((ask,)).sample(ask)[:, 0]
    ends = [Fixed(0.8, at="left"), Fixed(0.1, at="right")]
    line = Spectral(fisher, Domain(x=(0.0, 1.0)), fields=("n",), boundary=ends, numbers={"D": 0.05, "rate": 1.0})
    smooth = line.march(lambda p: 0.1 + 0 * p.x, 2.0, 12, tolerance=1e-3, estimate=False).check()("n", x=x)
    assert float((smooth - cells).abs().max()) < 5e-4  # second order: (cell of 0.0125 over a layer of 0.2)^2 / 8


def test_few_functions_take_the_nearest_field_from_what_told_their_error() -> None:
    """A pulse between two walls by d'Alembert: of few functions Galerkin's is late, the nearest ones are not."""

    def start(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-20 * (x - 1.2) ** 2) * torch.sin(x)

    def odd(x: torch.Tensor) -> torch.Tensor:
        turned = torch.remainder(x + math.pi, 2 * math.pi) - math.pi
        return turned.sign() * start(turned.abs())

    walls = Domain(x=(0.0, math.pi))
    problem = Spectral(lambda u, v, p: (u.t - v, v.t - u.xx), walls, fields=("u", "v"), boundary=[Fixed(0.0)])
    found = problem.march({"u": lambda p: start(p.x), "v": 0.0}, 2.0, 24, tolerance=1e-3).check()
    assert found.galerkin is not None
    late, x = found.galerkin, torch.linspace(0.0, math.pi, 201, dtype=torch.float64)
    for t in (1.0, 2.0):
        truth = (odd(x + t) + odd(x - t)) / 2
        functions = found.discrete.spaces[0].functions({"x": x})
        best = functions @ torch.linalg.lstsq(functions, truth[:, None], driver="gelsd").solution[:, 0] - truth
        own, nearer = late("u", t=t, x=x) - truth, found("u", t=t, x=x) - truth
        assert float(nearer.norm()) < 1.5 * float(best.norm()) < float(own.norm())
        for answer, missed in ((found, nearer), (late, own)):
            assert 1 / 3 < answer.error(t=t) * float(truth.norm() / missed.norm()) < 3
    # at rest too, where the lifting differs from that of the richer functions in nothing
    ring = Domain(x=(-1.0, 1.0), y=(-1.0, 1.0), inside=lambda p: p.x**2 + p.y**2 - 0.09)
    still = Spectral(lambda u, p: -u.xx - u.yy - 1, ring, boundary=[Fixed(0.3)]).solve(6).check()
    assert still.galerkin is not None and still.finer is not None and still.finer.finer is not None
    assert still.norm.endswith(
        f"nearest in the mean square to the same by {still.finer.finer.discrete.count} functions"
    )
    where, weight = still.discrete.places, still.discrete.weight
    richest = still.finer.finer("u", **where)
    apart = [float((weight * (e("u", **where) - richest).square()).sum()) for e in (still, still.galerkin)]
    assert apart[0] < apart[1]
    plain = problem.march({"u": 0.0, "v": 0.0}, 0.1, 4, estimate=False)
    assert plain.galerkin is None and "nearest" not in plain.norm
