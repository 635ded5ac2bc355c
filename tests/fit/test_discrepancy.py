"""What a model gets wrong: the process against closed forms, and bars that hold the truth where the model cannot."""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.certainty.bars import posterior_of
from simengine.fit.certainty.discrepancy import Evidence, estimated, renewed
from simengine.fit.certainty.process import Course, ModelError, alike, course_of, factor, spread_by_decades, whitened
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import SceneError
from simengine.scene.noise import Discrepancy

D = torch.float64


class Decay(se.OwnWorld):
    """y = height exp(-rate t)."""

    parameters: ClassVar = {"height": se.OwnNumber(1.5, gt=0), "rate": se.OwnNumber(0.8, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 4.0, 81, dtype=D)
        return se.OwnMotion(t, scalars={"y": values["height"] * (-values["rate"] * t).exp()})


HEIGHT, RATE, NOISE = 2.0, 1.0, 0.02


def decay(folder: Path, seed: int, *, off: float, sigma: float | str = NOISE, discrepancy: Any = False) -> Curve:
    """Data of a truth with something slow on top of the decay that the model does not know."""
    t = np.linspace(0, 4, 41)
    y = HEIGHT * np.exp(-RATE * t) + off * np.sin(1.3 * t + 0.5)
    y = y + NOISE * np.random.default_rng(seed).standard_normal(41)
    (folder / "y.csv").write_text("time [s],y\n" + "\n".join(f"{a},{b}" for a, b in zip(t, y, strict=True)) + "\n")
    return Curve(
        directory=folder, file="y.csv", columns={"time": "time", "y": "y"}, sigma=sigma, discrepancy=discrepancy
    )


def fitted(curve: Curve) -> Any:
    unknowns = {"height": se.Unknown(), "rate": se.Unknown()}
    return ended(Problem(Decay(), observations={"y": curve}, unknowns=unknowns))


def ended(problem: Problem) -> Any:
    fit = training_of(problem)
    for _ in range(500):
        if fit.converged:
            return fit
        fit.step()
    raise AssertionError("no end")


def by_least_squares_alone(fit: Any, name: str) -> tuple[float, float]:
    """The interval of (J^T J)^-1, which knows of nothing but the noise."""
    problem = fit.problem
    _, j = problem.linearise(fit.z)
    spread = 1.96 * torch.linalg.inv(j.T @ j).diagonal().sqrt()
    k = [c.name for c in problem.coordinates].index(name)
    low, high = (float(problem.coordinates[k].value(fit.z[k] + side * spread[k])) for side in (-1, 1))
    return low, high


def chances_alone(fit: Any, off: float) -> torch.Tensor:
    """How likely (J^T J)^-1 holds each truth: its estimate is moved by J^+ of what the model lacks, to first order."""
    _, j = fit.problem.linearise(fit.z)
    t = torch.linspace(0, 4, 41, dtype=D)
    covariance = torch.linalg.inv(j.T @ j)
    moved = covariance @ j.T @ (off * torch.sin(1.3 * t + 0.5) / NOISE) / covariance.diagonal().sqrt()
    return torch.special.ndtr(1.96 - moved) - torch.special.ndtr(-1.96 - moved)


def test_bars_hold_the_truth_where_the_model_is_off(tmp_path: Path) -> None:
    """Least squares alone holds the truth as seldom as it must; with a discrepancy bars of 95 % hold it."""
    sets, held, alone, chance = 10, 0, 0, torch.zeros(0, dtype=D)
    for seed in range(sets):
        plain = fitted(decay(tmp_path, seed, off=0.15))
        with_it = posterior_of(fitted(decay(tmp_path, seed, off=0.15, sigma="estimate", discrepancy=True)))
        chance = torch.cat([chance, chances_alone(plain, 0.15)])
        for name, truth in (("height", HEIGHT), ("rate", RATE)):
            low, high = by_least_squares_alone(plain, name)
            alone += low <= truth <= high
            e = with_it.estimates[name]
            held += e.low <= truth <= e.high
    # to three standard deviations of counts whose pairs (height and rate of one set) may go together
    assert float(chance.mean()) < 0.5
    assert abs(alone - float(chance.sum())) < 3 * math.sqrt(2 * float((chance * (1 - chance)).sum()))
    assert held > 0.95 * 2 * sets - 3 * math.sqrt(2 * 0.95 * 0.05 * 2 * sets)


def test_without_a_model_error_the_bars_stay_as_they_were(tmp_path: Path) -> None:
    """In about half of the data sets the likelihood is largest without one, which is said; bars never shrink."""
    told = 0
    for seed in range(8):
        plain = posterior_of(fitted(decay(tmp_path, seed, off=0.0)))
        with_it = posterior_of(fitted(decay(tmp_path, seed, off=0.0, discrepancy=True)))
        none = any("no error of the model is seen" in line for line in with_it.directions)
        told += none
        for name, e in plain.estimates.items():
            ratio = with_it.estimates[name].std / e.std
            assert ratio > 0.99
            # an error below a tenth of the noise, alike over all 41 rows at worst
            assert not none or ratio < math.sqrt(1 + 0.1**2 * 41)
    assert told >= 1  # of 8, each with a chance of one half: all but 0.4 %


def test_resumed_bitwise_after_the_error_is_known(tmp_path: Path) -> None:
    curve = decay(tmp_path, 0, off=0.15, discrepancy=True)
    unknowns = {"height": se.Unknown(), "rate": se.Unknown()}
    first = training_of(Problem(Decay(), observations={"y": curve}, unknowns=unknowns))
    held = None
    while not first.converged:
        first.step()
        if first.problem.errors and held is None:
            held = {k: v.clone() for k, v in first.state_dict().items()}
    assert held is not None
    again = training_of(Problem(Decay(), observations={"y": curve}, unknowns=unknowns))
    again.load_state_dict(held)
    while not again.converged:
        again.step()
    assert torch.equal(first.z, again.z)
    assert torch.equal(first.problem.errors["y"].tensor(), again.problem.errors["y"].tensor())


def along(x: torch.Tensor, columns: int = 1) -> Course:
    """Each column with a process of its own along x (m,)."""
    return Course(axes=(x[:, None, None].expand(-1, columns, 1),), process=torch.arange(columns))


def test_whitened_residuals_have_the_precision_of_process_and_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(9, generator=generator, dtype=D)
    sigma = 0.1 + torch.rand(9, generator=generator, dtype=D)
    gap = torch.randn(9, generator=generator, dtype=D)
    which = torch.tensor([True] * 7 + [False, True])
    covariance = 0.3**2 * alike(x[:, None], 0.4) + torch.diag(sigma.square())
    inverse = torch.linalg.inv(covariance[which][:, which])
    root = factor([x[which, None]], sigma[which], 0.3, [0.4])
    white = whitened((gap / sigma)[:, None], which[:, None], along(x), [root])
    assert float(white[which].square().sum()) == pytest.approx(float(gap[which] @ inverse @ gap[which]), rel=1e-12)
    assert float(white[7, 0]) == float(gap[7] / sigma[7])
    told = 2 * float(root.diagonal().log().sum() + sigma[which].log().sum())
    assert told == pytest.approx(float(torch.logdet(covariance[which][:, which])), rel=1e-12)


def test_what_is_estimated_is_what_was_drawn() -> None:
    """Three columns of 100 rows: sd, length and sigma come back within what so few lengths can tell.

    The integral of the squared correlation is 2 (7/4) / 5^(1/2) lengths, 0.78, so each column of 5 is worth 6.4
    independent values, three of them 19: an rms to 1 / (2 19)^(1/2) = 0.16, of which 3 standard deviations are asked.
    """
    generator = torch.Generator().manual_seed(3)
    x = torch.linspace(0, 5, 100, dtype=D)
    root = torch.linalg.cholesky(alike(x[:, None], 0.5) + 1e-10 * torch.eye(100, dtype=D))
    draws = 0.5 * root @ torch.randn(100, 3, generator=generator, dtype=D)
    gap = draws + 0.1 * torch.randn(100, 3, generator=generator, dtype=D)
    evidence = Evidence(
        course=along(x, 3),
        gap=gap,
        slopes=torch.zeros(300, 1, dtype=D),
        which=torch.ones(100, 3, dtype=torch.bool),
        sigma=torch.ones(100, 3, dtype=D),
        estimated=torch.ones(3, dtype=torch.bool),
        precision=torch.eye(1, dtype=D),
        pull=torch.zeros(1, dtype=D),
        largest=torch.ones(3, dtype=D),
    )
    sigma, error = estimated(evidence, sd=None, lengths=(None,), least_sigma=0.0)
    assert sigma.tolist() == pytest.approx([0.1] * 3, rel=0.2)
    assert float(error.sd.square().mean().sqrt()) == pytest.approx(0.5, rel=0.48)
    assert error.lengths[0] == pytest.approx(0.5, rel=0.3)
    _, known = estimated(dataclasses.replace(evidence), sd=0.4, lengths=(0.6,), least_sigma=0.0)
    assert known.sd.tolist() == pytest.approx([0.4] * 3) and known.lengths[0] == pytest.approx(0.6)


def test_what_goes_from_row_to_row_is_noise_and_no_error_of_the_model() -> None:
    """Alternating gaps a hundred times the stated noise: the shortest error there is, of two spacings."""
    signs = torch.tensor([1.0, -1.0], dtype=D).repeat(20)[:, None]
    evidence = Evidence(
        course=along(torch.linspace(0, 3.9, 40, dtype=D)),
        gap=signs,
        slopes=torch.zeros(40, 1, dtype=D),
        which=torch.ones(40, 1, dtype=torch.bool),
        sigma=torch.full((40, 1), 0.01, dtype=D),
        estimated=torch.zeros(1, dtype=torch.bool),
        precision=torch.eye(1, dtype=D),
        pull=torch.zeros(1, dtype=D),
        largest=torch.ones(1, dtype=D),
    )
    _, error = estimated(evidence, sd=None, lengths=(None,), least_sigma=0.0)
    assert error.lengths[0] == pytest.approx(2 * 0.1, rel=1e-6)


def test_restricted_likelihood_is_the_integral_over_what_is_sought() -> None:
    """One number with a flat prior: by quadrature, and its derivative by u is that of the integral."""
    generator = torch.Generator().manual_seed(1)
    x = torch.linspace(0, 1, 12, dtype=D)
    gap, slope = torch.randn(12, 1, generator=generator, dtype=D), torch.randn(12, 1, generator=generator, dtype=D)
    none = torch.zeros(1, dtype=D)
    evidence = Evidence(
        course=along(x),
        gap=gap,
        slopes=slope,
        which=torch.ones(12, 1, dtype=torch.bool),
        sigma=torch.ones(12, 1, dtype=D),
        estimated=torch.tensor([True]),
        precision=none[None],
        pull=none,
        largest=torch.ones(1, dtype=D),
    )

    def by_quadrature(sigma: float, sd: float, length: float) -> float:
        covariance = sd**2 * alike(x[:, None], length) + sigma**2 * torch.eye(12, dtype=D)
        z = torch.linspace(-8, 8, 4001, dtype=D)
        r = gap + slope @ z[None]
        square = (r * torch.linalg.solve(covariance, r)).sum(0)
        return -2 * float(torch.logsumexp(-0.5 * square, 0) + math.log(16 / 4000) - 0.5 * torch.logdet(covariance))

    values = [(0.5, 0.3, 0.2), (0.8, 0.6, 0.4)]
    ours = [float(evidence.misfit(*(torch.tensor([v], dtype=D) for v in one))) for one in values]
    true = [by_quadrature(*one) for one in values]
    assert ours[1] - ours[0] == pytest.approx(true[1] - true[0], abs=1e-8)


def test_a_discrepancy_without_one_abscissa_is_refused(tmp_path: Path) -> None:
    curve = dataclasses.replace(decay(tmp_path, 0, off=0.1, discrepancy=True))
    problem = Problem(Decay(), observations={"y": curve}, unknowns={"rate": se.Unknown()})
    problem.measured["y"] = dataclasses.replace(problem.measured["y"], at={})
    with pytest.raises(SceneError, match=r"observations\.y\.discrepancy: needs one abscissa"):
        course_of(problem.instruments["y"], problem.measured["y"], problem.rows("y"), Discrepancy())
    held = ModelError(torch.ones(2, dtype=D), (3.0,), logarithmic=True)
    again = ModelError.from_tensor(held.tensor())
    assert again.lengths == (3.0,) and again.logarithmic and torch.equal(again.sd, held.sd)


def test_a_table_over_decades_is_off_along_its_logarithm(tmp_path: Path) -> None:
    """A flow curve's error swings with ln rate; along the rate itself its bars held the exponent in 22 of 100 cases."""
    assert spread_by_decades(torch.logspace(-1, 2, 25, dtype=D))
    assert not spread_by_decades(torch.linspace(0.1, 100, 25, dtype=D))
    assert not spread_by_decades(torch.logspace(0, 0.9, 25, dtype=D)) and not spread_by_decades(torch.arange(9.0))
    rate = np.logspace(-1, 2, 25)
    held = 0
    for seed in range(4):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(25)
        stress = 5.0 + 3.0 * rate**0.5 + np.sin(1.5 * np.log(rate)) + noise
        (tmp_path / "flow.csv").write_text(
            "rate,stress\n" + "\n".join(f"{a},{b}" for a, b in zip(rate, stress, strict=True)) + "\n"
        )
        (tmp_path / "paste.toml").write_text(PASTE)
        found = posterior_of(ended(Problem(se.load_scene(tmp_path / "paste.toml"))))
        for name, truth in (("yield_stress", 5.0), ("consistency", 3.0), ("exponent", 0.5)):
            e = found.estimates[f"material.{name}"]
            held += e.low <= truth <= e.high  # type: ignore[operator]
    assert held >= 11  # of 12
    assert any("of ln shear_rate" in line for line in found.directions)


PASTE = """
kind = "specimen"
material = { type = "paste", E = 1e3, nu = 0.4, yield_stress = 4.0, consistency = 2.5, exponent = 0.55 }
test.type = "steady_shear"
[observations.flow]
type = "curve"
against = "shear_rate"
file = "flow.csv"
columns = { shear_rate = "rate", shear_stress = "stress" }
sigma = "estimate"
discrepancy = true
[unknowns]
"material.yield_stress" = {}
"material.consistency" = {}
"material.exponent" = {}
"""


def test_a_discrepancy_along_a_logarithm_needs_positive_places(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"discrepancy\.scale: 'log' needs an abscissa that is positive"):
        fitted(decay(tmp_path, 0, off=0.1, discrepancy=Discrepancy(scale="log")))


@pytest.mark.parametrize("weight", [None, 0.25])
def test_a_weight_does_not_change_what_the_model_answers(
    weight: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slopes are those of height exp(-rate t) in the logarithms that are sought, however much the rows count."""
    seen: list[Evidence] = []

    def spy(evidence: Evidence, **more: Any) -> Any:
        seen.append(evidence)
        return estimated(evidence, **more)

    monkeypatch.setattr("simengine.fit.certainty.discrepancy.estimated", spy)
    curve = dataclasses.replace(decay(tmp_path, 0, off=0.1, discrepancy=True), weight=weight)
    problem = Problem(
        Decay(), observations={"y": curve}, unknowns={"height": se.Unknown(), "rate": se.Unknown(initial=0.9)}
    )
    renewed(problem, problem.start(), "y")
    t = torch.linspace(0, 4, 41, dtype=D)
    fall = 1.5 * (-0.9 * t).exp()
    expected = torch.stack((fall, -0.9 * t * fall), 1)
    torch.testing.assert_close(seen[0].slopes, expected, rtol=2e-3, atol=2e-4)
