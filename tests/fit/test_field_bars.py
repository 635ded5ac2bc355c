"""Posteriors of fields: the prior that is told, the formula beside a dense matrix, a conductivity held by its band."""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.fields import bars
from simengine.fit.fields.bars import Laplace, bars_of
from simengine.fit.fields.gaussian import GaussianField, variance_of
from simengine.fit.fields.prior import FieldEnergy
from simengine.fit.fields.training import FieldFit
from simengine.fit.problem import Problem
from simengine.scene import SceneError
from simengine.scene.asks import Fields
from simengine.scene.grammar import build_scene

D = torch.float64
ROD = """
kind = "pde"
[pde]
equation = "heat"
conductivity = { type = "cells", cells = [20], values = 1.0 }
heat_capacity = 1.0
initial = 0.0
domain = [[0.0, 1.0]]
duration = 0.6
cells = [24, 40]
[[pde.boundary]]
at = "left"
type = "dirichlet"
value = 100.0
[[pde.boundary]]
at = "right"
type = "dirichlet"
value = 0.0
[observations.sensors]
type = "samples"
file = "rod.csv"
columns = { t = "t", T = "T*" }
at = [[0.1], [0.25], [0.4], [0.55], [0.7], [0.85]]
sigma = 1.0
[unknowns]
"pde.conductivity.values" = { initial = 1.0, prior = { lognormal = 0.5, length = 0.2 } }
"""
KEY = "pde.conductivity.values"


def _scene(folder: Path, text: str = ROD) -> Any:
    return build_scene(tomllib.loads(text), directory=folder, locate=lambda key: "rod.toml")


def _measured(folder: Path, seed: int) -> torch.Tensor:
    """A rod of 80 cells of a conductivity drawn from the prior, at another resolution, noise 1; the truth (80,)."""
    g = torch.Generator().manual_seed(seed)
    prior = GaussianField(sizes=(1 / 80,), mean=0.0, sd=0.5, length=0.2)
    true = prior.sampled((80,), g).exp()
    np.save(folder / "true.npy", true.numpy())
    fine = ROD.replace("[24, 40]", "[60, 160]").replace(
        "cells = [20], values = 1.0", 'cells = [80], values = "true.npy"'
    )
    world = _scene(folder, fine).world
    t, places = torch.linspace(0.1, 0.6, 6, dtype=D), (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
    run = world.solve(())
    columns = [run.sample(Fields(names=("T",), x=torch.full((6, 1), x, dtype=D), times=t))[:, 0] for x in places]
    values = torch.stack(columns, 1)
    values = values + torch.randn(values.shape, generator=g, dtype=D)
    rows = [",".join(["t", *(f"T{k}" for k in range(6))])]
    rows += [",".join(f"{float(v):.9g}" for v in (a, *b)) for a, b in zip(t, values, strict=True)]
    (folder / "rod.csv").write_text("\n".join(rows) + "\n")
    return true


def _fitted(folder: Path, text: str = ROD) -> FieldFit:
    fit = FieldFit(Problem(_scene(folder, text)))
    for _ in range(60):
        if fit.converged:
            return fit
        fit.step()
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("shape", "sizes"), [((30,), (0.1,)), ((9, 14), (0.1, 0.2)), ((5, 4, 3), (0.3, 0.2, math.inf))]
)
def test_a_gaussian_field_has_its_sd_in_every_cell(shape: tuple[int, ...], sizes: tuple[float, ...]) -> None:
    prior = GaussianField(sizes=sizes, mean=0.3, sd=0.7, length=0.4)
    field = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=D).requires_grad_()
    precision = torch.from_numpy(prior.stiffness(field.detach()).toarray())
    covariance = torch.linalg.inv(precision)
    assert covariance.diagonal().sqrt().tolist() == pytest.approx([0.7] * field.numel(), rel=1e-9)
    # energy, matrix and covariance are of one another
    gap = (field.detach() - 0.3).reshape(-1)
    assert float(prior(field).detach()) == pytest.approx(float(gap @ precision @ gap / 2), rel=1e-9)
    (slope,) = torch.autograd.grad(prior(field), field)
    assert torch.allclose(slope.reshape(-1), precision @ gap, rtol=1e-8, atol=1e-8)
    v = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=D)
    assert torch.allclose(prior.covariance(v).reshape(2, -1), v.reshape(2, -1) @ covariance, atol=1e-9)


def test_draws_are_alike_over_the_length_and_have_the_spread_that_is_told() -> None:
    """Matern's correlation with 3/2 in the middle of a line: (1 + d/l) exp(-d/l)."""
    prior = GaussianField(sizes=(0.02,), mean=1.0, sd=0.5, length=0.2)
    g = torch.Generator().manual_seed(3)
    draws = torch.stack([prior.sampled((200,), g) for _ in range(4000)]) - 1.0
    assert draws.std(0).tolist() == pytest.approx([0.5] * 200, rel=0.06)
    for cells, distance in ((10, 0.2), (30, 0.6)):
        found = float((draws[:, 100] * draws[:, 100 + cells]).mean()) / 0.25
        assert found == pytest.approx((1 + distance / 0.2) * math.exp(-distance / 0.2), abs=0.05)


def test_a_smooth_field_has_the_variance_of_its_matrix() -> None:
    energy = FieldEnergy(sizes=(0.1, 0.2), scale=1.0, smooth=3.0, mean=0.0, length=0.3)
    field = torch.zeros(6, 5, dtype=D)
    covariance = torch.linalg.inv(torch.from_numpy(energy.stiffness(field).toarray()))
    assert torch.allclose(energy.variance((6, 5)).reshape(-1), covariance.diagonal(), rtol=1e-9)
    v = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=D)
    assert torch.allclose(energy.covariance(v).reshape(3, -1), v.reshape(3, -1) @ covariance, rtol=1e-8, atol=1e-10)
    assert float(torch.from_numpy(variance_of((6, 5), (0.1, 0.2), 0.3, 1)).max()) <= 1.0


def test_bars_are_those_of_the_dense_matrix_and_random_products_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _measured(tmp_path, 0)
    fit = _fitted(tmp_path)
    own = Laplace(fit.objective, fit.x, fit.z)
    found = own.posterior({"sensors": 2.0})
    assert own._rows is not None
    matrix = own._rows.T @ own._rows / 2.0 + torch.from_numpy(fit.objective.stiffness(fit.x).toarray())
    dense = torch.linalg.inv(matrix)
    assert torch.allclose(found.variance, dense.diagonal(), rtol=1e-7)
    degrees = torch.trace(dense @ own._rows.T @ own._rows / 2.0)
    assert found.degrees["sensors"] == pytest.approx(float(degrees), rel=1e-7)
    # the rows are the derivatives: against central differences
    along = torch.randn(20, generator=torch.Generator().manual_seed(2), dtype=D)
    with torch.no_grad():
        ahead, behind = (fit.objective.residuals(fit.x + s * along, fit.z) for s in (1e-5, -1e-5))
    assert torch.allclose(own._rows @ along, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr(bars, "EXACT", 0)
    monkeypatch.setattr(bars, "WHOLE", 0)
    drawn = Laplace(fit.objective, fit.x, fit.z).posterior({"sensors": 2.0})
    assert torch.allclose(drawn.variance, found.variance, rtol=1e-3)  # products across are differences, of 1e-6
    assert drawn.degrees["sensors"] == pytest.approx(float(degrees), rel=1e-3)
    # what is left out makes bars wider
    monkeypatch.setattr(bars, "RANK", 3)
    few = Laplace(fit.objective, fit.x, fit.z).posterior({"sensors": 2.0})
    assert bool((few.variance >= found.variance * (1 - 1e-6)).all()) and few.least > drawn.least


def test_a_band_holds_the_conductivity_as_often_as_it_says(tmp_path: Path) -> None:
    """12 rods of another resolution: some 6 of their 20 cells are told apart, so of all cells 95 % means 88 or more.

    The error over its standard deviation has a mean square of 1, give or take a third (twice its standard deviation).
    """
    held, square, told = [], [], []
    for seed in range(12):
        true = _measured(tmp_path, seed).reshape(20, 4).mean(1)
        fit = _fitted(tmp_path)
        found = Laplace(fit.objective, fit.x, fit.z).posterior({})
        own = bars_of(fit.objective, fit.x, found)[KEY]
        held.append(((own.low <= true) & (true <= own.high)).double())
        square.append((fit.fields()[KEY] / true).log().square() / found.variance)
        told.append(own.told)
    assert float(torch.cat(held).mean()) >= 0.88
    assert float(torch.cat(square).mean()) == pytest.approx(1.0, abs=0.35)
    assert float(torch.cat(told).mean()) > 0.7  # of the prior's spread the data took most away


def test_the_answer_has_its_bars_and_the_report_their_maps(tmp_path: Path) -> None:
    _measured(tmp_path, 1)
    text = ROD + f'[reference."{KEY}"]\nfile = "true.npy"\n'
    result = se.identify(_scene(tmp_path, text), out=tmp_path / "out", progress=False)
    own = result.field_bars[KEY]
    field = result.fields[KEY]
    assert field.shape == own.std.shape == (20,)
    assert bool((own.low < field).all() and (field < own.high).all() and (own.std > 0).all())
    scores = result.summary["reference"][KEY]
    assert scores["rms of ln(found/true)"] < 0.3 and scores["share of cells inside the 95 % band"] > 0.8
    with np.load(tmp_path / "out" / "fields.npz") as kept:
        assert kept[f"{KEY}.std"].tolist() == pytest.approx(own.std.tolist())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "what the data tell of it" in page and "degrees of freedom" in page and "beside the reference" in page


def test_a_total_variation_has_no_bars_and_says_why(tmp_path: Path) -> None:
    _measured(tmp_path, 1)
    text = ROD.replace("{ lognormal = 0.5, length = 0.2 }", "{ total_variation = 1.0 }").replace(
        "initial = 1.0, ", "initial = 1.0, lower = 0.05, scale = 1.0, "
    )
    text += "[inference]\niterations = 3\n"
    result = se.identify(_scene(tmp_path, text), out=tmp_path / "out", progress=False)
    assert not result.field_bars
    assert "have no bars" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cells = [20]", "cells = [20, 3]", "expected 1 counts"),
        ("values = 1.0", 'values = "none.npy"', "none.npy"),
        ("lognormal = 0.5, length = 0.2", "lognormal = 0.5", "lognormal = s.d. of the logarithm with length"),
        ("[unknowns]", f'[reference."{KEY}"]\nfile = "rod.csv"\n[unknowns]', r"^reference\.pde\.conductivity\.values"),
        ("[unknowns]", f'[reference."{KEY}"]\nfile = "."\n[unknowns]', r"^reference\.pde\.conductivity\.values"),
        ("[unknowns]", '[reference."pde.conductivity.vals"]\nfile = "a.npy"\n[unknowns]', r"^reference\.pde.*vals"),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    _measured(tmp_path, 1)
    with pytest.raises(SceneError, match=message):
        FieldFit(Problem(_scene(tmp_path, ROD.replace("initial = 1.0, ", "").replace(old, new))))
