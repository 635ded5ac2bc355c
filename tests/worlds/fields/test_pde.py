"""Fields on boxes against closed forms and an independent method of lines; orders, balances, gradients, refusals."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import simengine as se
from simengine.fit.problem.reading import units_of
from simengine.scene import Refused, SceneError
from simengine.scene.address import numbers, replaced
from simengine.scene.asks import Fields, Series
from simengine.scene.loader import make_scene
from simengine.worlds.fields.coefficients import Piecewise
from simengine.worlds.fields.pde import PDEWorld


def _world(**pde: Any) -> PDEWorld:
    world = make_scene({"kind": "pde", "pde": pde}, directory=Path(), locate=str)
    assert isinstance(world, PDEWorld)
    return world


def _heat(**changes: Any) -> PDEWorld:
    base = {"equation": "heat", "conductivity": 2.0, "heat_capacity": 4.0, "domain": [[0.0, 1.0]], "duration": 0.3}
    return _world(**{**base, "cells": [20, 20], **changes})


def _at(world: PDEWorld, x: Any, t: float, name: str = "T") -> torch.Tensor:
    places = torch.as_tensor(x, dtype=torch.float64).reshape(-1, len(world.pde.domain))
    ask = Fields(names=(name,), x=places, times=torch.full((len(places),), t, dtype=torch.float64))
    return world.solve([ask]).sample(ask)[:, 0]


def _orders(world: PDEWorld, exact: torch.Tensor, x: torch.Tensor, t: float, name: str = "T") -> list[float]:
    errors = [float((_at(world.refined(f), x, t, name) - exact).abs().max()) for f in (1, 2, 4)]
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


X = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)


def _sine(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(math.pi * x)


def test_a_slab_with_cold_faces_decays_as_its_sine_at_second_order() -> None:
    world = _heat(initial="start", boundary=[{"at": "both", "type": "dirichlet", "value": 0.0}])
    object.__setattr__(world, "functions", {"start": _sine})
    exact = _sine(X) * math.exp(-0.5 * math.pi**2 * 0.3)
    orders = _orders(world, exact, X, 0.3)
    assert min(orders) > 1.8, orders


def test_a_slab_that_loses_heat_to_the_air_decays_as_its_eigenfunction() -> None:
    biot = 1.5  # h L / k
    beta = brentq(lambda b: b * math.tan(b) - biot, 1e-6, math.pi / 2 - 1e-6)
    world = _heat(
        initial="start",
        convection={"h": 2.0 * biot, "ambient": 5.0},
        boundary=[{"at": "right", "type": "convection"}],
    )
    object.__setattr__(world, "functions", {"start": lambda x: 5.0 + torch.cos(beta * x)})
    exact = 5.0 + torch.cos(beta * X) * math.exp(-0.5 * beta**2 * 0.3)
    assert min(_orders(world, exact, X, 0.3)) > 1.8
    # and the same rows said as Robin's
    robin = _heat(initial=0.0, boundary=[{"at": "right", "type": "robin", "coefficient": 3.0, "value": 5.0}])
    both = _heat(initial=0.0, convection={"h": 3.0, "ambient": 5.0}, boundary=[{"at": "right", "type": "convection"}])
    assert torch.allclose(_at(robin, X, 0.3), _at(both, X, 0.3), atol=1e-13)


def test_a_thin_rod_cools_exponentially_and_a_switched_source_brings_its_energy() -> None:
    loss = {"h": 3.0, "perimeter_per_area": 8.0, "ambient": 20.0}
    world = _heat(initial=50.0, convection=loss, duration=0.5, cells=[200, 4])
    exact = 20.0 + 30.0 * math.exp(-3.0 * 8.0 / 4.0 * 0.5)
    assert float(_at(world, [0.5], 0.5)[0]) == pytest.approx(exact, rel=1e-4)
    # on from 0.0314 to 0.2222 and from 0.4001 to the end: no multiple of a step
    source = {"at": "left", "type": "source", "power": 6.0, "area": 0.5, "on": [0.0314, 0.2222, 0.4001]}
    heated = _heat(initial=0.0, duration=0.5, cells=[37, 11], boundary=[source])
    ask = Series(names=("T.integral",), against="time", values=torch.tensor([0.5], dtype=torch.float64))
    energy = 4.0 * float(heated.solve([ask]).sample(ask)[0, 0])
    assert energy == pytest.approx(12.0 * (0.1908 + 0.0999), rel=1e-12)


def test_what_flows_out_is_what_is_lost() -> None:
    world = _world(
        equation="diffusion_sorption",
        D=0.7,
        retardation=2.0,
        initial=1.0,
        domain=[[0.0, 1.0]],
        duration=1.0,
        cells=[400, 50],
        boundary=[{"at": "right", "type": "robin", "coefficient": 0.9}],
    )
    times = torch.linspace(0.0, 1.0, 401, dtype=torch.float64)
    ask = Series(names=("c.integral", "c.outflow.right", "c.outflow.left"), against="time", values=times)
    total, right, left = world.solve([ask]).sample(ask).T
    assert float(left.abs().max()) < 1e-12
    lost = float(torch.trapezoid(right, times))
    assert 2.0 * float(total[0] - total[-1]) == pytest.approx(lost, rel=1e-4)
    assert lost > 0.3


def test_sorption_agrees_with_an_independent_method_of_lines() -> None:
    porosity, density, k, n = 0.29, 2880.0, 3.5e-4, 0.874
    isotherm = {"type": "freundlich", "K": k, "N": n, "porosity": porosity, "density": density}
    world = _world(
        equation="diffusion_sorption",
        D=5e-4,
        retardation=isotherm,
        domain=[[0.0, 1.0]],
        duration=1500.0,
        cells=[200, 80],
        boundary=[
            {"at": "left", "type": "dirichlet", "value": 1.0},
            {"at": "right", "type": "robin", "coefficient": 2e-3},
        ],
    )
    cells = 200
    h = 1.0 / cells

    def rate(_: float, c: np.ndarray) -> np.ndarray:
        held = 1 + (1 - porosity) / porosity * density * k * n * (np.maximum(c, 0) + 1e-6) ** (n - 1)
        end = c[-1] / (1 + 2e-3 * h / (2 * 5e-4))
        padded = np.concatenate([[2 - c[0]], c, [2 * end - c[-1]]])
        return 5e-4 * np.diff(padded, 2) / h**2 / held

    truth = solve_ivp(rate, (0, 1500.0), np.zeros(cells), method="LSODA", rtol=1e-7, atol=1e-9, lband=1, uband=1)
    x = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    expected = np.interp(x, (np.arange(cells) + 0.5) * h, truth.y[:, -1])
    assert float((_at(world, x, 1500.0, "c") - torch.as_tensor(expected)).abs().max()) < 5e-4
    assert 0.05 < expected[2] < expected[0] < 0.95


def test_gradients_are_those_of_differences_and_worlds_march_together() -> None:
    world = _world(
        equation="diffusion_sorption",
        D=0.5,
        retardation={"of": "c", "knots": [0.0, 0.5, 1.0], "values": [3.0, 2.0, 1.5]},
        initial=0.1,
        domain=[[0.0, 1.0]],
        duration=0.4,
        cells=[15, 12],
        boundary=[
            {"at": "left", "type": "dirichlet", "value": 1.0},
            {"at": "right", "type": "robin", "coefficient": 0.5},
        ],
    )
    times = torch.linspace(0.05, 0.4, 5, dtype=torch.float64)
    ask = Fields(names=("c",), x=torch.tensor([[0.33], [0.5], [0.71], [0.9], [1.0]]).double(), times=times)
    keys = ["pde.D", "pde.retardation.values.1", "pde.boundary.0.value", "pde.boundary.1.coefficient", "pde.initial"]
    start = torch.tensor([0.5, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    traced = replaced(world, dict(zip(keys, start, strict=True)))
    value = traced.solve([ask], gradient=True).sample(ask).square().sum()
    (gradient,) = torch.autograd.grad(value, start)
    step = 1e-5
    worlds = [
        replaced(world, {key: float(start[k].detach()) + sign * step}) for k, key in enumerate(keys) for sign in (1, -1)
    ]
    together = [run.sample(ask) for run in world.solve_many(worlds, [ask])]
    sums = torch.stack([v.square().sum() for v in together])
    assert torch.allclose(gradient, (sums[::2] - sums[1::2]) / (2 * step), rtol=1e-6, atol=1e-9)
    for own, run in zip(worlds, together, strict=True):
        assert float((own.solve([ask]).sample(ask) - run).abs().max()) < 1e-12


def test_an_equation_of_ones_own_in_a_few_lines() -> None:
    @se.equation("burgers_test", fields={"u": "m/s"}, numbers={"D": "m2/s"})
    def burgers(u: Any, p: Any) -> Any:
        return u.t + u * u.x - p.D * u.xx

    def wave(x: torch.Tensor, t: float) -> torch.Tensor:  # a front that moves at speed 1
        return 1 - 0.4 * torch.tanh(0.4 * (x - 0.3 - t) / (2 * 0.1))

    ends = [float(wave(torch.tensor(x), 0.0)) for x in (-3.0, 4.0)]
    world = _world(
        equation="burgers_test",
        D=0.1,
        initial="start",
        domain=[[-3.0, 4.0]],
        duration=0.6,
        cells=[24, 100],
        boundary=[{"at": s, "type": "dirichlet", "value": v} for s, v in zip(("left", "right"), ends, strict=True)],
    )
    object.__setattr__(world, "functions", {"start": lambda x: wave(x, 0.0)})
    x = torch.linspace(-0.5, 1.5, 9, dtype=torch.float64)
    orders = _orders(world, wave(x, 0.6), x, 0.6, "u")
    assert min(orders) > 1.7, orders
    assert world.scalars()["u"] == "m/s"


def test_a_number_of_an_own_equation_may_be_a_table_over_the_field() -> None:
    """u_t = -k(u) with k = 2 u by two knots falls as exp(-2 t); gradients by the values are those of differences."""

    @se.equation("reaction_test", fields={"u": "mol/m^3"}, numbers={"k": "mol/(m^3 s)"})
    def reaction(u: Any, p: Any) -> Any:
        return u.t + p.k

    table = {"of": "u", "knots": [0.0, 0.5, 1.0], "values": [0.0, 1.0, 2.0]}
    world = _world(
        equation="reaction_test", k=table, initial=0.8, domain=[[0.0, 1.0]], duration=0.5, cells=[40, 2], boundary=[]
    )
    x = torch.tensor([0.4], dtype=torch.float64)
    assert min(_orders(world, 0.8 * torch.exp(torch.tensor([-1.0], dtype=torch.float64)), x, 0.5, "u")) > 1.8
    key = "pde.k.values.1"
    assert numbers(world)[key].unit == "mol/(m^3 s)"  # that of the number, not of any table

    ask = Fields(names=("u",), x=x[:, None], times=torch.tensor([0.5], dtype=torch.float64))
    value = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    found = replaced(world, {key: value}).solve([ask], gradient=True).sample(ask).sum()
    (slope,) = torch.autograd.grad(found, value)
    ends = [float(replaced(world, {key: 1.1 + s}).solve([ask]).sample(ask).sum()) for s in (1e-5, -1e-5)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_several_columns_of_one_quantity_have_its_unit() -> None:
    columns = SimpleNamespace(names=("T#0", "T#1"), units=("", ""))  # as of `T = "T_*cm_C"`
    assert units_of(columns, _heat()) == ("K", "K")  # type: ignore[arg-type]


def test_a_table_is_linear_between_its_knots_and_constant_beyond() -> None:
    table = Piecewise(of="x", knots=(0.2, 0.6, 0.8), values=(2.0, 4.0, 3.0))
    at = torch.tensor([[0.0, 0.2, 0.3, 0.6, 0.7, 0.8, 1.0]], dtype=torch.float64)
    assert table(at).tolist()[0] == pytest.approx([2.0, 2.0, 2.5, 4.0, 3.5, 3.0, 3.0])


def test_a_line_keeps_its_slope_up_to_both_sides() -> None:
    """u_t + u_x = D u_xx + 1 leaves u = x as it is where u_x is exact in the cells beside a known value and a flux."""

    @se.equation("drift_test", fields={"u": "1"}, numbers={"D": "m2/s"})
    def drift(u: Any, p: Any) -> Any:
        return u.t + u.x - p.D * u.xx - 1

    world = _world(
        equation="drift_test",
        D=0.3,
        initial="start",
        domain=[[0.0, 1.0]],
        duration=0.5,
        cells=[5, 6],
        boundary=[{"at": "left", "type": "dirichlet", "value": 0.0}, {"at": "right", "type": "neumann", "inflow": 0.3}],
    )
    object.__setattr__(world, "functions", {"start": lambda x: x})
    assert float((_at(world, X, 0.5, "u") - X).abs().max()) < 1e-12


def test_a_system_of_two_fields_on_a_closed_square() -> None:
    @se.equation("turning_test", fields={"a": "1", "b": "1"}, numbers={"nu": "m2/s", "w": "1/s"})
    def turning(a: Any, b: Any, p: Any) -> Any:
        return a.t - p.nu * (a.xx + a.yy) - p.w * b, b.t - p.nu * (b.xx + b.yy) + p.w * a

    def start(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": torch.cos(2 * math.pi * x) * torch.sin(2 * math.pi * y), "b": torch.zeros_like(x)}

    world = _world(
        equation="turning_test",
        nu=0.01,
        w=2.0,
        initial="start",
        domain=[[0.0, 1.0], [0.0, 1.0]],
        duration=0.5,
        cells=[6, 8, 8],
        boundary=[{"at": "all", "type": "periodic"}],
    )
    object.__setattr__(world, "functions", {"start": start})
    x = torch.tensor([[0.125, 0.25], [0.5, 0.75], [0.99, 0.3]], dtype=torch.float64)
    fade = math.exp(-0.01 * 8 * math.pi**2 * 0.5)
    shape = torch.cos(2 * math.pi * x[:, 0]) * torch.sin(2 * math.pi * x[:, 1]) * fade
    for name, exact in (("a", shape * math.cos(1.0)), ("b", -shape * math.sin(1.0))):
        errors = [float((_at(world.refined(f), x, 0.5, name) - exact).abs().max()) for f in (1, 2)]
        assert errors[0] / errors[1] > 3.0, (name, errors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"equation": "heats"}, "did you mean 'heat'"),
        ({"cells": [10]}, "expected 2 counts, time first"),
        ({"boundary": [{"at": "top", "type": "neumann"}]}, "use left or right"),
        ({"boundary": [{"at": "left", "type": "convection"}]}, "add it"),
        (
            {"boundary": [{"at": "both", "type": "dirichlet"}, {"at": "left", "type": "neumann"}]},
            "stands alone; remove row 1",
        ),
        ({"initial": "ambient"}, "there is no ambient temperature"),
        ({"conductivity": {"of": "y", "knots": [0.0, 1.0], "values": 2.0}}, "known: T, x"),
        ({"domain": [[1.0, 0.0]]}, "expected \\[lower, upper\\]"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SceneError, match=words):
        _heat(**changes)


def test_a_conductivity_that_hangs_on_the_place_carries_the_same_flux_everywhere() -> None:
    # in a steady state k(x) T' is the same everywhere: with k = 1 + x, T = T1 ln(1 + x)/ln 2
    ends = [{"at": "left", "type": "dirichlet", "value": 0.0}, {"at": "right", "type": "dirichlet", "value": 1.0}]
    table = {"of": "x", "knots": [0.0, 1.0], "values": [1.0, 2.0]}
    world = _heat(conductivity=table, initial=0.0, duration=20.0, cells=[40, 40], boundary=ends)
    assert torch.allclose(_at(world, X, 20.0), torch.log1p(X) / math.log(2.0), atol=2e-4)
    plane = _heat(
        conductivity=table,
        initial=0.0,
        domain=[[0.0, 1.0], [0.0, 0.5]],
        duration=20.0,
        cells=[10, 40, 3],
        boundary=ends,
    )
    places = torch.stack([X, torch.full_like(X, 0.2)], 1)
    assert torch.allclose(_at(plane, places, 20.0), torch.log1p(X) / math.log(2.0), atol=2e-4)


def test_a_place_or_a_time_beyond_the_box_is_refused() -> None:
    world = _heat(initial=1.0)
    with pytest.raises(SceneError, match=r"beyond the domain"):
        _at(world, [33.0], 0.1)
    late = Fields(names=("T",), x=torch.tensor([[0.5]]).double(), times=torch.tensor([7.0]).double())
    said = r"pde\.duration: the run ends at 0\.3 s, and 7 s is asked for"
    with pytest.raises(SceneError, match=said):
        world.prepare([late])
    with pytest.raises(Refused, match=said):  # by a clock that is sought: a bad trial
        world.solve([late])
    with pytest.raises(SceneError, match="no field of this world"):
        _at(world, [0.5], 0.1, "c")


def test_a_step_is_solved_though_what_lies_ahead_is_below_zero() -> None:
    """The first step of the shipped scene: ahead of its first stage c is negative, where Newton went to and fro."""
    world = se.load_scene("diffusion_sorption_inverse", ["pde.cells=[3, 64]", "pde.duration=10.0"]).world
    edge = [float(value) for value in _at(world, [1.0], 10.0 / 3, "c").reshape(-1)]
    finer = se.load_scene("diffusion_sorption_inverse", ["pde.cells=[48, 64]", "pde.duration=10.0"]).world
    assert edge == pytest.approx([float(value) for value in _at(finer, [1.0], 10.0 / 3, "c").reshape(-1)], abs=5e-3)


def test_the_shipped_inverse_tells_the_ratio_and_says_that_neither_alone() -> None:
    scene = se.load_scene("diffusion_sorption_inverse", ["pde.cells=[60, 32]"])
    problem = se.Problem(scene)
    result = se.identify(problem, progress=False)
    found = {name: e.value for name, e in result.estimates.items()}

    def retarded(d: float, k: float) -> float:  # D/R at c = 0.5, which is what such data tell
        return d / (1 + 0.71 / 0.29 * 2880.0 * k * 0.874 * 0.5 ** (0.874 - 1))

    ratio = retarded(found["pde.D"], found["pde.retardation.K"]) / retarded(5e-4, 3.5e-4)
    assert ratio == pytest.approx(1.0, abs=0.01)
    for name, true in (("pde.D", 5e-4), ("pde.retardation.K", 3.5e-4)):
        estimate = result.estimates[name]
        assert abs(estimate.value - true) < 3 * estimate.std and not estimate.identified
    assert any("told only together" in line for line in result.directions)
