"""Equations of the world `pde` marched by their own Taylor series, beside closed forms and the implicit march."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import simengine as se
from simengine.scene import Refused, SceneError
from simengine.scene.address import replaced
from simengine.scene.asks import Fields, Series
from simengine.scene.loader import make_scene
from simengine.worlds.fields.pde import PDEWorld

D = torch.float64


def _world(functions: dict[str, Any] | None = None, order: int = 10, tolerance: float = 1e-12, **pde: Any) -> PDEWorld:
    base = {"domain": [[0.0, 1.0]], "march": {"type": "taylor", "order": order, "tolerance": tolerance}}
    world = make_scene({"kind": "pde", "pde": {**base, **pde}}, directory=Path(), locate=str)
    assert isinstance(world, PDEWorld)
    object.__setattr__(world, "functions", functions or {})
    return world


def test_the_heat_of_cells_decays_as_the_closed_form_of_the_cells() -> None:
    """The sine is an eigenvector of the differences, with 4/h^2 sin^2(pi h/2) k/C; no error in time is left."""
    n, cold = 8, [{"at": "both", "type": "dirichlet", "value": 0.0}]
    start = {"start": lambda x: torch.sin(math.pi * x)}
    plain = {"equation": "heat", "conductivity": 2.0, "heat_capacity": 4.0, "duration": 0.3, "cells": [5, n]}
    found = _world(start, **plain, initial="start", boundary=cold).solve(())
    rate = 0.5 * 4 * n**2 * math.sin(math.pi / (2 * n)) ** 2
    x = found.grid.centres()["x"]
    for step in (1, 5):
        exact = torch.sin(math.pi * x) * math.exp(-rate * 0.06 * step)
        assert float((found.fields[step, 0] - exact).abs().max()) < 1e-11  # the tolerance times ten windows
    implicit = _world(start, **{**plain, "march": {"type": "implicit"}}, initial="start", boundary=cold).solve(())
    assert float((implicit.fields[5, 0] - exact).abs().max()) > 1e-4  # what the series has not


def test_burgers_front_by_cole_and_hopf() -> None:
    """A front of the closed form moves at speed 1; with the error in time gone that in space is of second order."""

    @se.equation("burgers_series", fields={"u": "m/s"}, numbers={"a": "1", "nu": "m^2/s"})
    def burgers(u: Any, p: Any) -> Any:
        return u.t + p.a * u * u.x - p.nu * u.xx

    def front(x: torch.Tensor, t: float) -> torch.Tensor:
        return 1 - 0.4 * torch.tanh(0.4 * (x - 0.3 - t) / 0.2)

    ends = [float(front(torch.tensor(x), 0.0)) for x in (-3.0, 4.0)]
    errors = []
    for cells in (40, 80, 160):
        world = _world(
            {"start": lambda x: front(x, 0.0)},
            order=8,
            tolerance=1e-7,
            equation="burgers_series",
            a=1.0,
            nu=0.1,
            initial="start",
            domain=[[-3.0, 4.0]],
            duration=0.5,
            cells=[2, cells],
            boundary=[{"at": s, "type": "dirichlet", "value": v} for s, v in zip(("left", "right"), ends, strict=True)],
        )
        found = world.solve(())
        errors.append(float((found.fields[-1, 0] - front(found.grid.centres()["x"], 0.5)).abs().max()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(orders) > 1.9, (errors, orders)


def test_systems_rates_with_factors_and_moments() -> None:
    """Two fields whose rates are mixed by a matrix that hangs on the field, driven in time, beside a closed form."""

    @se.equation("mixed_series", fields={"a": "1", "b": "1"}, numbers={"w": "1/s"})
    def mixed(a: Any, b: Any, p: Any) -> Any:
        # a = exp(sin(w t)), b = a^2: the rates a_t = w cos(w t) a and b_t = 2 a a_t, combined
        turn = p.w * torch.cos(p.w * p.t) * a
        return (1 + a * a) * a.t + b.t - (1 + a * a) * turn - 2 * a * turn, b.t - a.t - 2 * a * turn + turn

    world = _world(equation="mixed_series", w=3.0, initial=1.0, duration=2.0, cells=[4, 1])
    found = world.solve(()).fields[:, :, 0]
    a = torch.exp(torch.sin(3.0 * torch.linspace(0.0, 2.0, 5, dtype=D)))
    assert torch.allclose(found, torch.stack([a, a * a], 1), rtol=1e-9)


def test_a_switched_source_brings_its_energy_and_tables_are_looked_up() -> None:
    source = {"at": "left", "type": "source", "power": 6.0, "area": 0.5, "on": [0.0314, 0.2222, 0.4001]}
    world = _world(
        tolerance=1e-7,
        order=5,
        equation="heat",
        conductivity={"of": "T", "knots": [0.0, 2.0], "values": [1.0, 2.0]},
        heat_capacity=4.0,
        duration=0.5,
        cells=[7, 6],
        boundary=[source],
    )
    ask = Series(names=("T.integral",), against="time", values=torch.tensor([0.5], dtype=D))
    assert 4.0 * float(world.solve([ask]).sample(ask)[0, 0]) == pytest.approx(12.0 * (0.1908 + 0.0999), rel=1e-10)


def test_gradients_are_those_of_differences_and_worlds_march_together() -> None:
    world = _world(
        tolerance=1e-10,
        equation="diffusion_sorption",
        D=0.2,
        retardation={"type": "freundlich", "K": 0.1, "N": 0.8, "porosity": 0.3, "density": 20.0, "floor": 0.1},
        initial=0.1,
        duration=0.3,
        cells=[3, 6],
        boundary=[
            {"at": "left", "type": "dirichlet", "value": 1.0},
            {"at": "right", "type": "robin", "coefficient": 0.5},
        ],
    )
    ask = Fields(names=("c",), x=torch.tensor([[0.33], [0.9]], dtype=D), times=torch.tensor([0.1, 0.3], dtype=D))
    keys = ["pde.D", "pde.retardation.N", "pde.boundary.0.value", "pde.boundary.1.coefficient", "pde.initial"]
    start = torch.tensor([0.2, 0.8, 1.0, 0.5, 0.1], dtype=D, requires_grad=True)
    value = replaced(world, dict(zip(keys, start, strict=True))).solve([ask], gradient=True).sample(ask).square().sum()
    (gradient,) = torch.autograd.grad(value, start)
    step, held = 1e-5, start.detach().tolist()
    moved = [replaced(world, {key: held[k] + s * step}) for k, key in enumerate(keys) for s in (1, -1)]
    sums = torch.stack([run.sample(ask).square().sum() for run in world.solve_many(moved, [ask])])
    assert torch.allclose(gradient, (sums[::2] - sums[1::2]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_what_has_no_series_is_told() -> None:
    @se.equation("still_series", fields={"u": "1"}, numbers={})
    def still(u: Any, p: Any) -> Any:
        return u - 1.0 - 0.0 * u.xx

    with pytest.raises(Refused, match="a series needs the rates of all fields"):
        _world(equation="still_series", duration=1.0, cells=[2, 4]).solve(())

    @se.equation("ruleless_series", fields={"u": "1"}, numbers={})
    def ruleless(u: Any, p: Any) -> Any:
        return u.t - torch.lgamma(1.0 + u)

    with pytest.raises(Refused, match=r"pde\.march: lgamma: no rule for its Taylor series"):
        _world(equation="ruleless_series", duration=1.0, cells=[2, 4]).solve(())
    stiff = {"equation": "heat", "conductivity": 1e9, "heat_capacity": 1.0, "duration": 1.0, "cells": [2, 20]}
    with pytest.raises(Refused, match="too stiff for it; take fewer cells"):
        _world(**stiff, boundary=[{"at": "left", "type": "dirichlet", "value": 1.0}]).solve(())
    with pytest.raises(SceneError, match=r"march\.order"):
        _world(order=1, equation="heat", conductivity=1.0, heat_capacity=1.0, duration=1.0, cells=[2, 4])
