"""The pieces of a bar against their closed forms: degrees of freedom, groups, blocks of time, priors, sought sigmas."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import t as student

import simengine as se
from simengine.fit.certainty.bars import posterior_of
from simengine.fit.certainty.worth import Worth, _blocks, _rows_within, _worth, scatter, shares
from simengine.fit.method import training_of
from simengine.fit.posterior import _of_sigma
from simengine.fit.problem import Problem
from simengine.observe import Curve

D = torch.float64


class Line(se.OwnWorld):
    """y = a + b t, and a positive constant."""

    parameters: ClassVar = {"a": se.OwnNumber(0.0), "b": se.OwnNumber(0.0), "positive": se.OwnNumber(1.0, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=D)
        return se.OwnMotion(
            t, scalars={"y": values["a"] + values["b"] * t, "c": values["positive"] * torch.ones_like(t)}
        )


def _posterior(folder: Path, name: str, values: Any, sigma: float | str, unknowns: dict[str, se.Unknown]) -> Any:
    t = np.linspace(0, 1, len(values))
    lines = [f"time [s],{name}", *(f"{a},{b}" for a, b in zip(t, values, strict=True))]
    (folder / "o.csv").write_text("\n".join(lines) + "\n")
    curve = Curve(directory=folder, file="o.csv", columns={"time": "time", name: name}, sigma=sigma)
    fit = training_of(Problem(Line(), observations={"o": curve}, unknowns=unknowns))
    while not fit.converged:
        fit.step()
    return posterior_of(fit)


def test_two_numbers_of_a_line_take_two_degrees_of_freedom(tmp_path: Path) -> None:
    noise = 0.3 * np.array([1, -1, -1, 1, 1, -1, 1, -1, -1, 1])  # without a slope or a mean
    found = _posterior(tmp_path, "y", 1 + np.linspace(0, 1, 10) + noise, 0.1, {"a": se.Unknown(), "b": se.Unknown()})
    t = np.linspace(0, 1, 10)
    left = noise - np.polyval(np.polyfit(t, noise, 1), t)
    assert found.worth["o"].reduced == pytest.approx(float(left @ left) / 0.01 / (10 - 2), rel=1e-6)


def test_numbers_that_their_priors_hold_take_no_degrees_of_freedom(tmp_path: Path) -> None:
    """A constant of 2 held to .1 % beside noise of .3: nine rows keep nine degrees, for chi-square and for sigma."""
    noise = 0.3 * np.array([1, -1, -1, 1, 0, 1, -1, -1, 1])
    held = {"positive": se.Unknown(prior=se.Prior(lognormal=(2.0, 0.001)))}
    stated, estimated = (_posterior(tmp_path, "c", 2.0 + noise, s, held).worth["o"] for s in (0.1, "estimate"))
    assert stated.reduced == pytest.approx(float(noise @ noise) / 0.01 / 9, rel=1e-3)
    assert estimated.chi_square == pytest.approx(9.0, rel=1e-3) and estimated.degrees == pytest.approx(9.0, rel=1e-3)


def test_six_rows_and_nine_numbers_leave_the_chi_square_that_draws_have() -> None:
    """Numbers drawn from their priors, rows with noise of 1: mean chi-square of the best fits is 6 less the shares."""
    generator = torch.Generator().manual_seed(0)
    j = 2 * torch.randn(6, 9, generator=generator, dtype=D)
    own = shares(j, torch.eye(9, dtype=D))
    chi = []
    for _ in range(2000):
        truth, noise = torch.randn(9, generator=generator, dtype=D), torch.randn(6, generator=generator, dtype=D)
        y = j @ truth + noise
        best = torch.linalg.solve(j.T @ j + torch.eye(9, dtype=D), j.T @ y)
        chi.append(float((y - j @ best).square().sum()))
    left = 6 - float(own.sum())
    assert 0.05 < left < 1 and bool((own > 0).all() and (own < 1).all())
    assert np.mean(chi) == pytest.approx(left, abs=4 * np.std(chi) / 2000**0.5)


def test_a_misfit_below_the_noise_leaves_the_stated_noise(tmp_path: Path) -> None:
    values = 2.0 + 0.1 * np.array([1, -1, -1, 1, 0, 1, -1, -1, 1])  # no two neighbours go together
    found = _posterior(tmp_path, "c", values, 0.3, {"positive": se.Unknown()})
    assert found.worth["o"].factor == 1.0 and found.estimates["positive"].std == pytest.approx(0.1, rel=1e-3)


def test_a_prior_in_the_logarithm_has_its_width_in_the_number(tmp_path: Path) -> None:
    prior = se.Prior(lognormal=(3.0, 0.2))
    found = _posterior(tmp_path, "c", [2.0] * 9, 0.01, {"positive": se.Unknown(prior=prior)})
    e = found.estimates["positive"]
    assert e.value == pytest.approx(2.0, rel=1e-3) and e.prior_std == pytest.approx(0.2 * e.value, rel=1e-9)


def test_groups_scatter_as_the_jackknife_says() -> None:
    """A line through five groups of unequal size, fitted again without each group: (G - 1)/G of the sum of the squares
    of the shifts beside (J'J)^-1, in the direction where that ratio is largest; Student's t with G - 1 degrees."""
    generator = torch.Generator().manual_seed(1)
    group = torch.tensor([0] * 3 + [1] * 2 + [2] * 6 + [3] * 4 + [4] * 5)
    j = torch.stack([torch.ones(20, dtype=D), torch.linspace(-1, 1, 20, dtype=D)], 1)
    y = torch.randn(20, generator=generator, dtype=D) + torch.randn(5, generator=generator, dtype=D)[group]
    best = torch.linalg.lstsq(j, y[:, None]).solution[:, 0]
    shifts = torch.stack(
        [torch.linalg.lstsq(j[group != k], y[group != k, None]).solution[:, 0] - best for k in range(5)]
    )
    jackknife = 4 / 5 * shifts.T @ shifts
    root = torch.linalg.cholesky(j.T @ j)
    wanted = float(torch.linalg.eigvalsh(root.T @ jackknife @ root)[-1])
    wide = (student.ppf(0.975, 4) / student.ppf(0.975, 1e9)) ** 2
    assert scatter(j, y - j @ best, group) == pytest.approx(wide * wanted, rel=1e-4)
    assert scatter(j[:6], y[:6], torch.zeros(6)) == 0.0  # one group tells nothing


def test_smaller_groups_count_where_few_large_ones_tell_anything() -> None:
    """A mean of 20 rows in one tile, whose halves are off by 2 to either side: told by tiles half as large."""
    r = torch.cat([torch.full((10,), 2.0, dtype=D), torch.full((10,), -2.0, dtype=D)])
    j, tiles = torch.ones(20, 1, dtype=D), torch.arange(20)

    def factor_of(**groups: torch.Tensor) -> float:
        instrument = SimpleNamespace(
            rows_as_one=lambda *_: 1.0, correlation=None, clusters=lambda m, finer: groups.get(f"x{finer}", tiles // 20)
        )
        problem = SimpleNamespace(
            rows=lambda name: torch.ones(20, 1, dtype=torch.bool), errors={}, sigmas={}, instruments={"o": instrument}
        )
        return _worth(problem, "o", SimpleNamespace(residual=r[:, None], measured=None), r, j, 1.0).factor  # type: ignore[arg-type]

    alone = 4 * 20 / 19  # the misfit's own
    assert factor_of() == pytest.approx(alone)
    assert factor_of(x2=tiles // 10) == pytest.approx(scatter(j, r, tiles // 10)) and scatter(j, r, tiles // 10) > 100
    assert factor_of(x1=tiles // 10, x2=tiles) == factor_of(x2=tiles // 10)  # the largest that tell anything


def test_blocks_of_time_have_students_factor() -> None:
    """8 blocks of 3 moments each: G/(G - 1) (t_7 / 1.96)^2 of the sum of the squares of their scores."""
    r = torch.randn(24, 1, generator=torch.Generator().manual_seed(0), dtype=D)
    measured = SimpleNamespace(at={"time": torch.linspace(0, 1, 24, dtype=D)})
    problem = SimpleNamespace(rows=lambda name: torch.ones(24, 1, dtype=torch.bool))
    found = _blocks(problem, "o", SimpleNamespace(measured=measured), torch.ones(24, 1, dtype=D), r[:, 0])  # type: ignore[arg-type]
    wide = (student.ppf(0.975, 7) / student.ppf(0.975, 1e9)) ** 2
    assert float(found) == pytest.approx(wide * 8 / 7 * float(r.reshape(8, 3).sum(1).square().sum()), rel=1e-6)


def test_rows_alike_over_a_length_are_counted_by_the_usual_spacing() -> None:
    x = torch.tensor([0.0, 0.1, 0.2, 0.3, 5.0], dtype=D)  # a gap is no spacing
    assert _rows_within(SimpleNamespace(measured=SimpleNamespace(at={"x": x})), 0.7) == pytest.approx(7.0)  # type: ignore[arg-type]


def test_a_sought_sigma_is_told_by_its_independent_rows_and_its_prior() -> None:
    """1/(2 n) for the variance of the logarithm, n = 60 rows of which 3 count as one; a prior's precision adds."""
    worth = {"o": Worth(chi_square=60.0, rows=60, reduced=1.0, correlation=3.0, estimated=False, factor=3.0)}
    for sd, logarithmic, more in ((math.nan, True, 0.0), (0.1, True, 100.0), (0.5, False, 16.0)):
        coordinate = SimpleNamespace(sd=sd, logarithmic=logarithmic, unit="m")
        problem = SimpleNamespace(coordinates=[coordinate], sought_sigma=lambda k: 2.0, sought_sigmas={0: ["o"]})
        e = _of_sigma(problem, 0, worth)  # type: ignore[arg-type]
        spread = (2 * 20 + more) ** -0.5
        assert e.std == pytest.approx(2.0 * spread, rel=1e-12)
        assert e.low == pytest.approx(2.0 * math.exp(-1.96 * spread)) and e.high == pytest.approx(
            2.0 * math.exp(1.96 * spread)
        )


def test_a_number_far_from_its_prior_is_doubted(tmp_path: Path) -> None:
    for width, doubted in ((0.1, True), (0.5, False)):  # the log of 2 lies 6.9 and 1.4 widths from that of 1
        held = {"positive": se.Unknown(prior=se.Prior(lognormal=(1.0, width)))}
        (tmp_path / "o.csv").write_text("\n".join(["time [s],c", *(f"{k / 8},2.0" for k in range(9))]) + "\n")
        curve = Curve(directory=tmp_path, file="o.csv", columns={"time": "time", "c": "c"}, sigma=1e-3)
        problem = Problem(Line(), observations={"o": curve}, unknowns=held)
        fit = training_of(problem)
        while not fit.converged:
            fit.step()
        told = [text for text in problem.doubts if "from the middle of its prior" in text]
        assert bool(told) == doubted and all("positive = 2 lies 6.9 standard" in text for text in told)
