"""Partial pooling against brute force, and how often its intervals hold."""

import json
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.fit.certainty.pooling import pooled, without_prior

# eight schools (Rubin 1981): effects and their standard errors
EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def _brute(levels: tuple[float, ...]) -> dict[str, list[float]]:
    """Quantiles by sampling the joint density on a plane of mu and tau, members then by their normals."""
    random = np.random.default_rng(0)
    y, s = np.array(EFFECTS), np.array(ERRORS)
    mu, tau = np.linspace(-60, 80, 701), (np.arange(4000) + 0.5) * 0.1
    variance = s**2 + tau[:, None] ** 2
    log = -0.5 * np.log(variance).sum(1)[:, None] - 0.5 * (
        ((y - mu[:, None, None]) ** 2 / variance).sum(2).T  # (tau, mu)
    )
    weight = np.exp(log - log.max()).ravel()
    pick = random.choice(weight.size, 200_000, p=weight / weight.sum())
    t, m = tau[pick // len(mu)], mu[pick % len(mu)]
    precision = 1 / s[0] ** 2 + 1 / t**2
    first = (y[0] / s[0] ** 2 + m / t**2) / precision + random.standard_normal(len(t)) / precision**0.5
    other = m + t * random.standard_normal(len(t))
    return {n: np.quantile(v, levels).tolist() for n, v in (("mu", m), ("tau", t), ("first", first), ("other", other))}


def test_eight_schools_are_those_of_brute_force() -> None:
    found, expected = pooled(EFFECTS, ERRORS), _brute((0.5, 0.025, 0.975))
    for own, name in ((found.mean, "mu"), (found.spread, "tau"), (found.members[0], "first"), (found.another, "other")):
        assert [own.value, own.low, own.high] == pytest.approx(expected[name], abs=0.5), name
    assert abs(found.members[0].value - found.mean.value) < 0.3 * (28 - found.mean.value)  # drawn to the others


def test_intervals_hold_the_mean_the_spread_the_members_and_another_one() -> None:
    """300 populations of eight, spread twice the bars of one: 95 % of 300 means 92 to 98."""
    random, held = np.random.default_rng(1), []
    for _ in range(300):
        theta = np.exp(1.0 + 0.2 * random.standard_normal(9))
        y = theta[:8] * np.exp(0.1 * random.standard_normal(8))
        found = pooled(y.tolist(), (0.1 * y).tolist(), logarithmic=True)
        asked = (
            (found.mean, np.exp(1.0)),
            (found.spread, 0.2),
            (found.members[3], theta[3]),
            (found.another, theta[8]),
        )
        held.append([own.low <= true <= own.high for own, true in asked])
    assert all(0.92 <= share <= 0.985 for share in np.mean(held, axis=0)), np.mean(held, axis=0)


def test_exact_members_leave_only_their_own_spread() -> None:
    """Bars of nothing: mean and spread are those of Student's t of the values, members their own."""
    found = pooled((1.0, 2.0, 4.0, 5.0), (1e-6,) * 4)
    assert found.mean.value == pytest.approx(3.0, abs=1e-3)
    assert [own.value for own in found.members] == pytest.approx([1.0, 2.0, 4.0, 5.0], abs=1e-5)
    # flat in tau: p(mu) falls as ((n - 1) v + n (mu - m)^2)^(-(n - 1)/2), Student's t of n - 2 = 2 degrees
    width = (3 * np.var([1, 2, 4, 5], ddof=1) / (4 * 2)) ** 0.5
    assert found.mean.high == pytest.approx(3.0 + 4.302653 * width, rel=0.01)


def test_a_prior_is_taken_out_before_and_one_that_told_most_is_refused() -> None:
    alone, wide = without_prior((2.0 / 0.1**2 + 5.0 / 1.0**2) / (100 + 1), 101**-0.5, 5.0, 1.0)
    assert (alone, wide) == pytest.approx((2.0, 0.1), rel=1e-12)
    with pytest.raises(ValueError, match="comes from its prior"):
        without_prior(5.0, 0.9, 5.0, 1.0)
    for values, widths, message in (
        ((1.0, 2.0), (0.1, 0.1), "it takes 3"),
        ((1.0, 2.0, 3.0), (0.1, 0.0, 0.1), "above 0"),
        ((1.0, 2.0, 3.0), (0.1, 0.1), "as many widths"),
    ):
        with pytest.raises(ValueError, match=message):
            pooled(values, widths)
    with pytest.raises(ValueError, match="values above 0"):
        pooled((1.0, -2.0, 3.0), (0.1, 0.1, 0.1), logarithmic=True)


def test_the_command_pools_runs_and_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for k, value in enumerate((1e5, 1.2e5, 0.9e5, 1.1e5)):
        estimate = {"value": value, "std": 5e3, "interval": [0.9 * value, 1.1 * value], "unit": "Pa"}
        known = {**estimate, "identified": k < 3, "why": "the data leave it open"}
        runs.append(tmp_path / f"r{k}")
        runs[-1].mkdir()
        (runs[-1] / "fit.json").write_text(json.dumps({"estimates": {"E": known, f"own{k}": known}}))
    arguments = ["pool", *map(str, runs), "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    expected = pooled((1e5, 1.2e5, 0.9e5), (5e3,) * 3, logarithmic=True)
    assert told["E"]["mean"] == pytest.approx({"value": expected.mean.value, "low": expected.mean.low,
                                               "high": expected.mean.high})  # fmt: skip
    assert (
        told["E"]["left out"] == {str(runs[3]): "the data leave it open"} and "it takes 3" in told["own0"]["not told"]
    )
    for wrong, message in (
        (["pool", *map(str, runs), "--of", "G"], "--of G: no fit sought it"),
        (["pool", str(runs[0]), str(tmp_path)], "holds no fit.json"),
        (["pool", str(runs[0]), str(runs[0]), str(runs[1])], "stands there twice"),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
