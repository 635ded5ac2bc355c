"""Bars from resampled blocks of residuals, against the closed form of a line whose noise is an autoregression."""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.certainty.bars import posterior_of
from simengine.fit.certainty.bootstrap import Resampling, refitted, resampling
from simengine.fit.certainty.shown import together
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import SceneError

D = torch.float64
SIGMA = 0.1


class Line(se.OwnWorld):
    """y = a + b t."""

    parameters: ClassVar = {"a": se.OwnNumber(0.5), "b": se.OwnNumber(0.5), "idle": se.OwnNumber(1.0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 2, dtype=D)
        return se.OwnMotion(t, scalars={"y": values["a"] + values["b"] * t})


def line(folder: Path, seed: int, rows: int, rho: float, **more: Any) -> Problem:
    random, noise = np.random.default_rng(seed), np.zeros(rows)
    noise[0] = random.standard_normal()
    for k in range(1, rows):
        noise[k] = rho * noise[k - 1] + math.sqrt(1 - rho**2) * random.standard_normal()
    t = np.linspace(0, 1, rows)
    y = 1 + 2 * t + SIGMA * noise
    (folder / "y.csv").write_text("time [s],y\n" + "\n".join(f"{a},{b}" for a, b in zip(t, y, strict=True)) + "\n")
    curve = Curve(directory=folder, file="y.csv", columns={"time": "time", "y": "y"}, sigma="estimate", **more)
    unknowns = {name: se.Unknown() for name in ("a", "b", "idle")}
    inference = se.Inference(posterior="bootstrap", samples=150)
    return Problem(Line(), observations={"y": curve}, unknowns=unknowns, inference=inference)


def ended(problem: Problem) -> LeastSquaresFit:
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    return fit


def true_bars(rows: int, rho: float) -> np.ndarray:
    """Standard deviations of a and b by least squares: (X'X)^-1 X' R X (X'X)^-1, R = sigma^2 rho^|i - j|."""
    x = np.stack([np.ones(rows), np.linspace(0, 1, rows)], 1)
    bread = np.linalg.inv(x.T @ x)
    number = np.arange(rows)
    r = SIGMA**2 * rho ** np.abs(number[:, None] - number[None, :])
    return np.sqrt(np.diag(bread @ x.T @ r @ x @ bread))


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_bars_are_those_of_the_noise_correlated_or_not(rho: float, tmp_path: Path) -> None:
    """On 300 rows, over six sets of data; noise alone is half as wide where a neighbour has .6 of the noise."""
    ratios, plain = [], []
    for seed in range(6):
        fit = ended(line(tmp_path, seed, 300, rho))
        found = posterior_of(fit)
        _, j = fit.problem.linearise(fit.z)
        alone = torch.linalg.inv(j[:, :2].T @ j[:, :2]).diagonal().sqrt()
        for k, name in enumerate(("a", "b")):
            e = found.estimates[name]
            assert e.std is not None and e.low is not None and e.low < e.value < (e.high or 0)
            ratios.append(e.std / true_bars(300, rho)[k])
            plain.append(fit.problem.coordinates[k].rate(fit.z[k]) * float(alone[k]) / true_bars(300, rho)[k])
    assert found.estimates["idle"].identified is False
    assert 0.8 < float(np.mean(ratios)) < 1.2
    assert rho == 0.0 or float(np.mean(plain)) < 0.6


def test_replicas_do_not_depend_on_who_refits_them(tmp_path: Path) -> None:
    fit = ended(line(tmp_path, 0, 60, 0.5))
    measured = fit.problem.measured["y"].values.clone()
    several = refitted(fit.problem, fit.z, range(6), seed=3)
    one = refitted(fit.problem, fit.z, [4], seed=3)
    assert torch.equal(several[4], one[4]) and not torch.equal(several[4], several[5])
    assert torch.equal(fit.problem.measured["y"].values, measured)


def test_blocks_keep_neighbours_and_what_was_measured_at_once(tmp_path: Path) -> None:
    fit = ended(line(tmp_path, 0, 60, 0.7))
    problem = fit.problem
    p = problem.predict(fit.z)["y"]
    whole = resampling(problem, "y", p, 2)
    assert 4 <= whole.block <= 15 and whole.moments.shape == (60, 1)
    # residuals that tell their own number
    one = torch.ones(60, 1, dtype=D)
    own = dataclasses.replace(whole, residual=torch.arange(60.0, dtype=D)[:, None], sigma=one)
    numbers = (own.drawn(torch.Generator().manual_seed(0)) - own.predicted)[:, 0].round()
    jumps = (numbers.diff() != 1).nonzero()[:, 0] + 1
    assert len(jumps) and bool((jumps % whole.block == 0).all())
    pairs = dataclasses.replace(own, moments=torch.arange(60).reshape(30, 2), block=3)
    twos = (pairs.drawn(torch.Generator().manual_seed(1)) - pairs.predicted)[:, 0].round().reshape(30, 2)
    assert bool((twos[:, 1] - twos[:, 0] == 1).all())


def test_a_bootstrap_beside_a_discrepancy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"\"bootstrap\" resamples residuals, and observations\.y has a discrepancy"):
        posterior_of(ended(line(tmp_path, 0, 60, 0.7, discrepancy=True)))


def test_a_picture_of_samples_draws_the_numbers_that_go_together() -> None:
    random = np.random.default_rng(0)
    values = {f"n{k}": random.standard_normal((2, 400)) for k in range(9)}
    values["n8"] = values["n1"] + 0.1 * random.standard_normal((2, 400))
    shown = together(values)
    assert len(shown) == 6 and {"n1", "n8"} <= set(shown) and shown == sorted(shown)
    assert together({"a": values["n0"]}) == ["a"]


def test_a_row_gets_noise_of_its_own_size() -> None:
    """Errors of a hundred and of one, in turn: what is drawn is one of the residuals times the row's own sigma."""
    sigma = torch.tensor([[100.0], [1.0]], dtype=D).repeat(10, 1)
    residual = torch.randn(20, 1, generator=torch.Generator().manual_seed(0), dtype=D)
    of = Resampling(
        predicted=torch.full((20, 1), 5.0, dtype=D),
        sigma=sigma,
        residual=residual,
        moments=torch.arange(20)[:, None],
        block=1,
    )
    drawn = (of.drawn(torch.Generator().manual_seed(1)) - 5.0) / sigma
    assert float((drawn - residual.T).abs().min(1).values.max()) < 1e-12
