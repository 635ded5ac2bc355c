"""What is told of numbers and experiments before they are made, against brute force on lines."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.certainty.design import at_the_prior, candidates, expected
from simengine.fit.certainty.profile import profile
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import SceneError
from simengine.scene.noise import HoldOut


class Line(se.OwnWorld):
    """y = a + b t + c t^2, and idle does nothing."""

    parameters: ClassVar = {name: se.OwnNumber(0.5) for name in ("a", "b", "c", "twin", "idle")} | {
        "rate": se.OwnNumber(1.0, gt=0)
    }

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 10.0, 101, dtype=torch.float64)
        y = values["a"] + values["twin"] + values["b"] * t + values["c"] * t.square()
        return se.OwnMotion(t, scalars={"y": y, "decay": torch.exp(-values["rate"] * t)})


TIMES = np.round(np.linspace(0, 10, 11), 6)
PRIOR = se.Unknown(prior=se.Prior(normal=(0.5, 1.0)))


def _data(folder: Path, hold_out: HoldOut | bool = False, name: str = "y", values: object = None) -> Curve:
    y = 1 + 0.5 * TIMES + 0.01 * TIMES**2 if values is None else values
    lines = [f"time [s],{name}", *(f"{a},{b}" for a, b in zip(TIMES, y, strict=True))]  # type: ignore[call-overload]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    columns = {"time": "time", name: name}
    return Curve(directory=folder, file=f"{name}.csv", columns=columns, sigma=0.2, hold_out=hold_out)


def test_the_best_next_row_is_that_of_brute_force(tmp_path: Path) -> None:
    held = (1, 3, 4, 6, 8, 9, 10)
    problem = Problem(
        Line(),
        observations={"y": _data(tmp_path, HoldOut(rows=held))},
        unknowns=dict.fromkeys(("a", "b", "c"), PRIOR),
    )
    listed = candidates(problem)
    design = np.stack([TIMES**0, TIMES, TIMES**2], 1) / 0.2
    fitted = [k for k in range(11) if k not in held]
    before = design[fitted].T @ design[fitted] + np.eye(3)
    volumes = {}
    for k in held:
        after = before + np.outer(design[k], design[k])
        volumes[f"time = {TIMES[k]:.6g}"] = math.sqrt(np.linalg.det(after) / np.linalg.det(before))
    assert {own.label: own.shrinks for own in listed} == pytest.approx(volumes, rel=1e-6)
    assert listed[0].label == max(volumes, key=volumes.__getitem__)
    best = held[[f"time = {TIMES[k]:.6g}" for k in held].index(listed[0].label)]
    after = np.linalg.inv(before + np.outer(design[best], design[best]))
    ratio = np.sqrt(np.diag(after) / np.diag(np.linalg.inv(before)))
    assert list(listed[0].widths.values()) == pytest.approx(list(ratio), rel=1e-6)


def test_the_volume_shrinks_as_promised_when_the_row_is_measured(tmp_path: Path) -> None:
    unknowns = {"rate": se.Unknown(prior=se.Prior(lognormal=(1.0, 1.0)))}
    y = np.exp(-1.1 * TIMES)
    held = HoldOut(rows=(1, 2, 3))
    problem = Problem(Line(), observations={"y": _data(tmp_path, held, "decay", y)}, unknowns={**unknowns})
    fit = _fit(problem)
    best = candidates(problem, fit.z)[0]
    row = int(best.rows.any(1).nonzero()[0])
    stds = []
    for rows in ((1, 2, 3), tuple(k for k in (1, 2, 3) if k != row)):
        own = Problem(Line(), observations={"y": _data(tmp_path, HoldOut(rows=rows), "decay", y)}, unknowns=unknowns)
        at = _fit(own).z
        stds.append(float(posterior(own, at, own.predict(at)).covariance[0, 0]) ** 0.5)
    assert stds[0] / stds[1] == pytest.approx(best.shrinks, rel=0.2) and best.label == "time = 1"


def test_what_the_data_do_not_tell_is_named_before_a_fit(tmp_path: Path) -> None:
    unknowns = dict.fromkeys(("a", "b", "idle", "twin"), PRIOR)
    said = at_the_prior(Problem(Line(), observations={"y": _data(tmp_path)}, unknowns=unknowns))
    assert "do not depend on it" in said["idle"] and "will be told" in said["b"]
    assert "something else that is sought does the same" in said["a"] and "hardly" in said["twin"]


def test_a_number_that_one_value_tells_as_well_as_its_prior_keeps_the_root_of_a_half(tmp_path: Path) -> None:
    """One value of sigma 1 beside a prior of width 1: 2^(-1/2) is left, which nothing else that is sought has taken."""
    (tmp_path / "y.csv").write_text("time [s],y\n0,1.0\n")
    data = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma=1.0)
    said = at_the_prior(Problem(Line(), observations={"y": data}, unknowns={"a": PRIOR}))
    assert said["a"] == "the observations will hardly tell it (0.71 of what is believed beforehand)"


def test_nothing_held_out_is_nothing_to_choose_from(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="hold out what could be measured"):
        candidates(Problem(Line(), observations={"y": _data(tmp_path)}, unknowns={"b": PRIOR}))


def _fit(problem: Problem) -> LeastSquaresFit:
    fit = LeastSquaresFit(problem)
    for _ in range(200):
        if fit.converged:
            return fit
        fit.step()
    raise AssertionError("no end")


def test_the_profile_of_a_line_is_its_parabola(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    y = 1 + 0.5 * TIMES + 0.5 * TIMES**2 + 0.2 * generator.standard_normal(11)
    problem = Problem(Line(), observations={"y": _data(tmp_path, values=y)}, unknowns={"a": PRIOR, "b": PRIOR})
    fit = _fit(problem)
    found = posterior(problem, fit.z, problem.predict(fit.z))
    e, own = found.estimates["b"], profile(problem, fit.z, found, "b")
    away = (own.values.numpy() - e.value) / e.std
    curvature, slope, rest = np.polyfit(away, own.misfit.numpy(), 2)
    assert np.allclose(np.polyval([curvature, slope, rest], away), own.misfit, atol=1e-3)
    assert curvature == pytest.approx(1.0, rel=1e-3)
    # the search ends within some hundredths of a standard deviation of the minimum, where the profile lies lower
    assert abs(slope) < 0.06 and rest == pytest.approx(0.0, abs=1e-3)
    assert (own.low, own.high) == pytest.approx((e.low, e.high), abs=0.04 * e.std)


def test_a_rate_too_fast_to_see_has_no_upper_bound(tmp_path: Path) -> None:
    """After exp(-20) at the first row nothing changes: the ellipse gives an upper bound, the profile gives none."""
    y = np.where(TIMES == 0, 1.0, 0.0)
    data = _data(tmp_path, name="decay", values=y)
    problem = Problem(Line(), observations={"y": data}, unknowns={"rate": se.Unknown(initial=2.0)})
    fit = _fit(problem)
    found = posterior(problem, fit.z, problem.predict(fit.z))
    own = profile(problem, fit.z, found, "rate")
    # chi-square is (exp(-rate)/0.2)^2 + ..., which crosses 3.84 where exp(-2 rate) (1 + exp(-2 rate) ...) = 3.84/25
    q = -math.log(3.841459 * 0.04 / (1 + 3.841459 * 0.04)) / 2
    assert own.high is None and own.low == pytest.approx(q, rel=0.1)


def test_before_a_fit_the_promise_is_the_mean_over_the_prior(tmp_path: Path) -> None:
    """One row of exp(-rate t) in closed form: log of sqrt(1 + (z' t e^(-rate t)/sigma)^2), by quadrature."""
    prior = se.Prior(lognormal=(1.0, 0.5))
    held = HoldOut(rows=tuple(range(11)))
    data = _data(tmp_path, held, "decay", np.exp(-TIMES))
    problem = Problem(Line(), observations={"decay": data}, unknowns={"rate": se.Unknown(prior=prior)})
    listed = {own.label: own for own in expected(problem, 400, by_row=True)}
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    for time in (1.0, 2.0):
        rate = np.exp(0.5 * nodes)
        gain = 0.5 * np.log1p((0.5 * rate * time * np.exp(-rate * time) / 0.2) ** 2)  # a width of 0.5 in ln rate
        mean, square = (float((weights * gain**k).sum() / weights.sum()) for k in (1, 2))
        error = math.sqrt((square - mean**2) / 400)
        own = listed[f"time = {time:.6g}"]
        assert abs(math.log(own.shrinks) - mean) < 4 * error
        assert own.between is not None and own.between[0] < own.shrinks < own.between[1]
    with pytest.raises(SceneError, match=r"--draws 0: expected at least 1"):
        expected(problem, 0)
