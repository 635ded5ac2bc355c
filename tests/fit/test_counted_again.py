"""Every number of a fit's files counted again: a straight line by the normal equations, what is told by hand."""

import html
import json
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.io.run_directory import RunDirectory
from simengine.observe import Curve


class Line(se.OwnWorld):
    """y = a + b t."""

    parameters: ClassVar = {"a": se.OwnNumber(0.0), "b": se.OwnNumber(0.0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["a"] + values["b"] * t})


@pytest.mark.parametrize(("sought", "doubted"), [(("a",), True), (("a", "b"), False)])
def test_an_estimated_noise_that_swallows_what_varies_is_doubted(
    sought: tuple[str, ...], doubted: bool, tmp_path: Path
) -> None:
    """A level beside a ramp leaves all of what varies, whose chi-square is 1 by the noise that is estimated."""
    rows = "".join(f"{k / 20},{k / 20 + 0.01 * (-1) ** k}\n" for k in range(21))
    (tmp_path / "o.csv").write_text("time [s],y\n" + rows)
    curve = Curve(directory=tmp_path, file="o.csv", columns={"time": "time", "y": "y"}, sigma="estimate")
    fit = training_of(Problem(Line(), observations={"o": curve}, unknowns={name: se.Unknown() for name in sought}))
    while not fit.converged:
        fit.step()
    told = [text for text in fit.problem.doubts if "the noise of y was estimated as" in text]
    assert bool(told) == doubted
    assert not doubted or "98% of what it varies by" in told[0]  # of the standard deviation over n - 1


def test_numbers_of_a_fit_are_counted_again(tmp_path: Path) -> None:
    """21 values of sigma 0.1, the last .32 of the time held out: estimates (X'X)^-1 X'y, bars from
    0.01 (X'X)^-1, intervals of 1.96 bars, bands x C x', misfits by their definitions; and the page says the same."""
    t, sigma = np.linspace(0, 1, 21), 0.1
    y = 1 + 0.5 * t + sigma * np.cos(np.arange(21.0) ** 2)  # as scattered as sigma says, and no more
    (tmp_path / "o.csv").write_text("time [s],y\n" + "\n".join(f"{a},{b}" for a, b in zip(t, y, strict=True)) + "\n")
    curve = Curve(directory=tmp_path, file="o.csv", columns={"time": "time", "y": "y"}, sigma=sigma, hold_out=0.32)
    fit = training_of(Problem(Line(), observations={"o": curve}, unknowns={"a": se.Unknown(), "b": se.Unknown()}))
    while not fit.converged:
        fit.step()
    fit.finish(RunDirectory.create(tmp_path / "run", {"kind": "own"}, overwrite=False, resume=False))
    told = json.loads((tmp_path / "run" / "fit.json").read_text())

    out = t > 0.68
    X = np.stack([np.ones_like(t), t], 1)
    covariance = sigma**2 * np.linalg.inv(X[~out].T @ X[~out])
    best = covariance @ X[~out].T @ y[~out] / sigma**2
    np.testing.assert_allclose(told["covariance"], covariance, rtol=1e-6)
    np.testing.assert_allclose(told["spread"]["covariance"], covariance, rtol=1e-6)
    for k, name in enumerate(("a", "b")):
        entry, bar = told["estimates"][name], np.sqrt(covariance[k, k])
        assert entry["value"] == pytest.approx(best[k], abs=1e-4 * bar)  # iterations end well within the bar
        assert entry["std"] == pytest.approx(bar, rel=1e-6)
        assert entry["interval"] == pytest.approx([best[k] - 1.96 * bar, best[k] + 1.96 * bar], rel=1e-4)
        assert entry["identified"] is True

    best = np.array([told["estimates"][name]["value"] for name in ("a", "b")])
    own, off = told["observations"]["o"], y - X @ best
    square = (off / sigma) ** 2
    assert (own["rows"], own["held_out"]["rows"]) == (int((~out).sum()), int(out.sum()))
    assert own["chi_square_per_row"] == pytest.approx(square[~out].mean(), rel=1e-6)
    assert own["chi_square_per_degree"] == pytest.approx(square[~out].sum() / (own["rows"] - 2), rel=1e-6)
    assert own["rms"]["y"] == pytest.approx(np.sqrt((off[~out] ** 2).mean()), rel=1e-6)
    assert own["held_out"]["chi_square_per_row"] == pytest.approx(square[out].mean(), rel=1e-6)
    assert own["held_out"]["rms"]["y"] == pytest.approx(np.sqrt((off[out] ** 2).mean()), rel=1e-6)
    assert told["explained"] is True and own["sigma"] == "given"

    rows = np.genfromtxt(tmp_path / "run" / "predictions" / "o.csv", delimiter=",", skip_header=1)
    bands = np.sqrt(np.einsum("ni,ij,nj->n", X, covariance, X))
    np.testing.assert_allclose(rows, np.stack([t, y, X @ best, np.full(21, sigma), bands], 1), rtol=1e-5, atol=1e-8)

    page = (tmp_path / "run" / "report.html").read_text()
    cells = [html.unescape(re.sub("<[^>]*>", "", c)) for c in re.findall("<td>(.*?)</td>", page, re.DOTALL)]
    for name in ("a", "b"):
        value, bar, interval = cells[cells.index(name) + 1 : cells.index(name) + 4]
        entry = told["estimates"][name]
        assert float(bar) == pytest.approx(entry["std"], rel=0.06)  # two digits
        assert float(value) == pytest.approx(entry["value"], abs=entry["std"] / 5)
        ends = [float(end) for end in interval.split(" to ")]
        assert ends == pytest.approx(entry["interval"], abs=entry["std"] / 5)
    shown = cells[cells.index("o") + 1 : cells.index("o") + 8]
    assert shown[0] == str(own["rows"]) and shown[1] == "given" and shown[3] == "1"
    assert float(shown[2]) == pytest.approx(own["chi_square_per_degree"], rel=2e-3)
    assert shown[4] == f"y {own['rms']['y']:.3g}" and shown[5] == f"y {own['held_out']['rms']['y']:.3g}"
    assert float(shown[6]) == pytest.approx(own["held_out"]["chi_square_per_row"], rel=5e-3)
