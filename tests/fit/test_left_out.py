"""Values left out one by one, WAIC, and numbers of instruments that are integrated out: beside brute force."""

import json
import math
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import norm

import simengine as se
from simengine.cli import main
from simengine.fit.certainty.density import LogPosterior
from simengine.fit.certainty.predictive import _of_draws, of_linear
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import load_scene


def line(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix (rows, 2), data (rows,) with a noise of 0.3, and the precision of a normal prior of 2 about 0."""
    random = np.random.default_rng(seed)
    x = np.stack([np.ones(rows), np.linspace(0, 1, rows)], 1)
    return x, x @ [1.0, 2.0] + 0.3 * random.standard_normal(rows), np.eye(2) / 4


def told(x: np.ndarray, y: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the coefficients."""
    covariance = np.linalg.inv(x.T @ x / 0.09 + prior)
    return covariance @ x.T @ y / 0.09, covariance


def test_leaving_one_out_is_fitting_without_it() -> None:
    x, y, prior = line(9)
    mean, covariance = told(x, y, prior)
    own = of_linear(
        torch.from_numpy((x @ mean - y) / 0.3),
        torch.from_numpy(np.einsum("ri,ij,rj->r", x, covariance, x) / 0.09),
        torch.full((9,), -math.log(0.3) - 0.5 * math.log(2 * math.pi), dtype=torch.float64),
    )
    for k in range(9):
        rest = np.arange(9) != k
        without, wide = told(x[rest], y[rest], prior)
        true = norm.logpdf(y[k], x[k] @ without, math.sqrt(x[k] @ wide @ x[k] + 0.09))
        assert own.loo[k] == pytest.approx(true, abs=1e-9)
    assert 1.0 < own.numbers < 3.0 and own.hard == 0  # two numbers, less what their prior tells


def test_closed_forms_are_those_of_draws_by_arviz() -> None:
    """4,000 independent draws: sums within a Monte Carlo error of some 0.03."""
    pytest.importorskip("arviz")
    x, y, prior = line(30, 1)
    mean, covariance = told(x, y, prior)
    heights = np.full(30, -math.log(0.3) - 0.5 * math.log(2 * math.pi))
    own = of_linear(
        torch.from_numpy((x @ mean - y) / 0.3),
        torch.from_numpy(np.einsum("ri,ij,rj->r", x, covariance, x) / 0.09),
        torch.from_numpy(heights),
    )
    draws = np.random.default_rng(0).multivariate_normal(mean, covariance, 4_000)
    sampled = _of_draws(((draws @ x.T - y) / 0.3).astype(np.float32), heights, 1.0)
    assert sampled is not None and sampled.by == "ArviZ" and sampled.hard == 0
    assert sampled.loo.sum() == pytest.approx(own.loo.sum(), abs=0.1)
    assert sampled.waic.sum() == pytest.approx(own.waic.sum(), abs=0.1)
    assert sampled.numbers == pytest.approx(own.numbers, abs=0.1)


def test_rows_that_decide_too_much_are_counted_and_other_remarks_of_arviz_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arviz = pytest.importorskip("arviz")
    random = np.random.default_rng(0)
    rows = np.concatenate([0.2 * random.standard_normal((300, 5)), 30 * random.standard_cauchy((300, 1))], 1)
    assert _of_draws(rows.astype(np.float32), np.zeros(6), 1.0).hard == 1  # no warning, or this fails
    real = arviz.loo

    def heard(*given: object, **named: object) -> object:
        warnings.warn("something else", UserWarning, stacklevel=1)
        return real(*given, **named)

    monkeypatch.setattr(arviz, "loo", heard)
    with pytest.warns(UserWarning, match="something else"):
        _of_draws(rows.astype(np.float32), np.zeros(6), 1.0)


class Parabola(se.OwnWorld):
    """y = a + b t + c t^2."""

    parameters: ClassVar = {name: se.OwnNumber(0.0) for name in "abc"}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["a"] + values["b"] * t + values["c"] * t.square()})


def test_runs_are_compared_by_what_they_tell_of_values_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data of a line with noise: the constant is far behind, the parabola gains nothing that counts."""
    t, noise = np.linspace(0, 1, 21), np.random.default_rng(3).standard_normal(21)
    rows = [f"{a},{1 + 2 * a + 0.1 * n}" for a, n in zip(t, noise, strict=True)]
    (tmp_path / "y.csv").write_text("\n".join(["time [s],y", *rows]) + "\n")
    curve = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma=0.1)
    for sought in ("a", "ab", "abc"):
        unknowns = {name: se.Unknown(prior=se.Prior(normal=(0.0, 10.0))) for name in sought}
        problem = Problem(Parabola(), observations={"o": curve}, unknowns=unknowns)
        se.identify(problem, out=tmp_path / sought, progress=False)
    assert main(["compare", *(str(tmp_path / s) for s in ("a", "ab", "abc")), "--json"]) == 0
    constant, straight, bent = json.loads(capsys.readouterr().out).values()
    assert straight["LOO"] > constant["LOO"] + 20
    assert constant["LOO behind the best"] > 3 * constant["LOO behind: standard error"] > 0
    for kind in ("LOO", "WAIC"):
        assert bent[kind] < straight[kind] + 2  # a number more gains half by chance
    for run, numbers in ((straight, 2), (bent, 3)):  # the sum of r^2 h, whose mean is the sum of h
        assert 0.4 * numbers < run["effective numbers"] < 2.5 * numbers
    page = (tmp_path / "ab" / "report.html").read_text()
    assert "Values left out one by one" in page


MARKS = """kind = "mpm"
[grid]
num_grids = 16
num_steps = 20
time_step = 1e-3
[[bodies]]
name = "jelly"
velocity = [0.0, 0.0, -3.0]
angular_velocity = [0.0, 0.0, 30.0]
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.25, 0.25, 0.25], counts = [4, 4, 4] }
material = { type = "jelly", E = 1e4, nu = 0.3, density = 1e3 }
[observations.marks]
type = "markers"
file = "marks.csv"
sigma = 1e-4
[unknowns]
"bodies.jelly.material.E" = {}
"""


def test_where_marks_sit_is_integrated_out(tmp_path: Path) -> None:
    """The curvature of the density in E is that of E's own row of the full inverse, seats among the unknowns."""
    lines = ["time,name,x,y,z"]
    for frame in range(6):
        for k, (x, y, z) in enumerate([(0.4, 0.4, 0.6), (0.6, 0.5, 0.4), (0.5, 0.6, 0.5)]):
            fall = 4e-3 * frame * 3.0 + (1 + k) * 1e-4 * frame**2
            lines.append(f"{4e-3 * frame},m{k},{x},{y},{z - fall}")
    (tmp_path / "marks.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "scene.toml").write_text(MARKS)
    problem = Problem(load_scene(tmp_path / "scene.toml"))
    z = problem.start()
    problem.settle(z)
    seats = [k for k, c in enumerate(problem.coordinates) if not c.chosen]
    assert len(seats) == 9
    density = LogPosterior(problem, z, [0], {"marks": 2.0}, without=seats)
    _, j = problem.linearise(z, central=True)
    variance = float(density.ellipse(j))
    weights = torch.ones(len(j), dtype=torch.float64)
    weights[: int(problem.rows("marks").sum())] = 0.5
    full = torch.linalg.inv(j.T @ (weights[:, None] * j))
    assert variance == pytest.approx(float(full[0, 0]), rel=1e-6)
    alone = 1 / float((weights * j[:, 0].square()).sum())
    assert variance > 1.02 * alone  # seats take a part of what the marks tell

    residual = problem.linearise(z)[0]
    step = 0.02 * math.sqrt(variance)

    def height(by: float) -> float:
        """Minus half the least weighed square over all seats at z moved by so much, by the linear model."""
        target = residual + by * j[:, 0]
        root = weights.sqrt()
        best = torch.linalg.lstsq(root[:, None] * j[:, seats], (root * target)[:, None], driver="gelsd").solution
        return -0.5 * float((weights * (target - j[:, seats] @ best[:, 0]).square()).sum())

    moved = torch.tensor([step], dtype=torch.float64)
    rise = density(moved) - density(-moved)
    assert rise == pytest.approx(height(step) - height(-step), rel=2e-3)
