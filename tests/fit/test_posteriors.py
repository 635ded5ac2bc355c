"""Several answers and samples of posteriors, on worlds whose posterior is a closed form."""

import dataclasses
import html
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

import simengine as se
from simengine.fit.certainty.bars import UNREFINED, posterior_of
from simengine.fit.certainty.chains import effective_samples, r_hat
from simengine.fit.certainty.density import LogPosterior
from simengine.fit.coordinate import Coordinate
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import SceneError
from simengine.scene.base import Refused


class Shapes(se.OwnWorld):
    """Two scalars, constant in time, of two numbers: what is seen of them decides the shape of the posterior."""

    parameters: ClassVar = {
        "u": se.OwnNumber(0.3),
        "v": se.OwnNumber(0.2),
        "share": se.OwnNumber(0.5, gt=0, lt=1),
        "lost": se.OwnNumber(0.1),
    }

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        u, v, one = values["u"], values["v"], torch.ones(11, dtype=torch.float64)
        scalars = {
            "line": (u + v * t),
            "banana": (v + u.square()) * one,
            "square": u.square() * one,
            "share": values["share"] * one,
        }
        return se.OwnMotion(t, scalars=scalars)


def _curve(folder: Path, name: str, values: list[float], sigma: float | str) -> Curve:
    t = np.linspace(0, 1, len(values))
    lines = [f"time [s],{name}", *(f"{a},{b}" for a, b in zip(t, values, strict=True))]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return Curve(directory=folder, file=f"{name}.csv", columns={"time": "time", name: name}, sigma=sigma)


def _fit(problem: Problem) -> Any:
    fit = training_of(problem)
    for _ in range(2000):
        if fit.converged:
            return fit
        fit.step()
    raise AssertionError("no end")


def _line(folder: Path) -> Curve:
    random = np.random.default_rng(0)
    t = np.linspace(0, 1, 40)
    return _curve(folder, "line", list(1.0 + 2.0 * t + 0.1 * random.standard_normal(40)), 0.1)


def test_two_minima_are_told_as_two_answers(tmp_path: Path) -> None:
    data = _curve(tmp_path, "square", [4.0, 4.01, 3.99], 0.01)
    inference = se.Inference(starts=6)
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=1.0)}
    result = se.identify(
        Problem(Shapes(), observations={"y": data}, unknowns=unknowns, inference=inference), progress=False
    )
    assert sorted(round(m.values["u"], 2) for m in result.minima) == [-2.0, 2.0]
    assert all(m.answer for m in result.minima) and sum(m.starts for m in result.minima) == 6
    assert any("2 answers" in text for text in result.directions)
    assert {round(m["values"]["u"], 1) for m in result.summary["minima"]} == {-2.0, 2.0}


def test_one_minimum_is_one_answer(tmp_path: Path) -> None:
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 5.0))), "v": se.Unknown(prior=se.Prior(normal=(0.0, 5.0)))}
    inference = se.Inference(starts=4)
    problem = Problem(Shapes(), observations={"y": _line(tmp_path)}, unknowns=unknowns, inference=inference)
    found = posterior_of(_fit(problem))
    assert len(found.minima) == 1 and found.minima[0].starts == 4 and not any("answers" in d for d in found.directions)


def test_several_starts_resume_bitwise(tmp_path: Path) -> None:
    data = _curve(tmp_path, "square", [4.0, 4.01, 3.99], "estimate")
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=1.0)}

    def made() -> Any:
        own = Problem(Shapes(), observations={"y": data}, unknowns=unknowns, inference=se.Inference(starts=3))
        return training_of(own)

    whole, states = made(), []
    while not whole.converged:
        states.append({k: v.clone() for k, v in whole.state_dict().items()})
        whole.step()
    for state in (*states[:: max(len(states) // 3, 1)], whole.state_dict()):
        again = made()
        again.load_state_dict(state)
        while not again.converged:
            again.step()
        assert torch.equal(again.z, whole.z)
        assert [m.misfit for m in again.minima] == [m.misfit for m in whole.minima]


def test_doubts_are_those_of_the_best_start(tmp_path: Path) -> None:
    """Every start is cut off after one trial: it is said once, after a resume too."""
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=1.0)}
    data = _curve(tmp_path, "square", [4.0, 4.01, 3.99], 0.01)

    def fitted(**options: int) -> Problem:
        own = Problem(Shapes(), observations={"y": data}, unknowns=unknowns, inference=se.Inference(**options))
        fit = training_of(own)
        while not fit.converged:
            fit.step()
        again = Problem(Shapes(), observations={"y": data}, unknowns=unknowns, inference=se.Inference(**options))
        training_of(again).load_state_dict(fit.state_dict())
        assert again.doubts == own.doubts
        return own

    cut = [text for text in fitted(starts=4, iterations=1).doubts if "still falling" in text]
    assert len(cut) == 1
    assert len(fitted(iterations=1).doubts) == 1  # of a single search: the same
    assert not fitted(starts=4).doubts


def test_a_sought_sigma_is_shown_where_it_is(tmp_path: Path) -> None:
    unknowns = {"u": se.Unknown(), "v": se.Unknown(), "observations.y.sigma": se.Unknown(initial=5.0)}
    problem = Problem(Shapes(), observations={"y": _line(tmp_path)}, unknowns=unknowns)
    fit = _fit(problem)
    sigma = fit.estimates()["observations.y.sigma"]
    assert sigma == pytest.approx(0.1, rel=0.35)
    e = posterior_of(fit).estimates["observations.y.sigma"]
    assert e.value == sigma and e.std == pytest.approx(sigma / math.sqrt(80), rel=0.2)


def test_gradient_of_the_log_posterior_is_its_slope(tmp_path: Path) -> None:
    observations = {
        "y": dataclasses.replace(_line(tmp_path), sigma="estimate"),
        "s": _curve(tmp_path, "share", [0.4], 0.1),
    }
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.5, 1.0))), "v": se.Unknown(), "share": se.Unknown()}
    problem = Problem(Shapes(), observations=observations, unknowns=unknowns)
    fit: LeastSquaresFit = _fit(problem)
    density = LogPosterior(problem, fit.z, [0, 1, 2], {"y": 2.0})
    at = fit.z + torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    value, gradient = density.with_gradient(at)
    assert value == pytest.approx(density(at), rel=1e-12)
    for k in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-5
        slope = (density(at + step) - density(at - step)) / 2e-5
        assert float(gradient[k]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_r_hat_and_effective_samples_of_an_autoregression() -> None:
    random = np.random.default_rng(0)
    rho, n = 0.9, 20000
    x = np.zeros((4, n))
    for k in range(1, n):
        x[:, k] = rho * x[:, k - 1] + math.sqrt(1 - rho**2) * random.standard_normal(4)
    assert effective_samples(x) == pytest.approx(4 * n * (1 - rho) / (1 + rho), rel=0.15)
    assert r_hat(x) < 1.01 < 1.5 < r_hat(x + np.array([[0.0], [0.0], [0.0], [5.0]]))
    drift = np.linspace(0, 5, n) + x
    assert r_hat(drift) > 1.3


def _drawn(height: Any, size: int, wanted: int, ends: list[list[float]] | None = None) -> Any:
    """An ensemble on a density in closed form, (samples, size)."""
    pytest.importorskip("emcee")
    from simengine.fit.certainty import sampling

    class Density:
        free: ClassVar = list(range(size))

        def __call__(self, z: torch.Tensor) -> float:
            return height(*z.tolist())

    starts = [torch.tensor(e, dtype=torch.float64) for e in ends or [[0.0] * size]]
    chains, _, _ = sampling._ensemble(Density(), torch.eye(size, dtype=torch.float64), starts, wanted, 0)  # type: ignore[arg-type]
    assert all(r_hat(chains[:, :, k]) < 1.05 and effective_samples(chains[:, :, k]) > wanted for k in range(size))
    return chains.reshape(-1, size)


def test_an_ensemble_of_a_gaussian_is_the_gaussian() -> None:
    draws = _drawn(lambda a, b: -0.5 * (a**2 + ((b - 2 * a) / 0.1) ** 2), 2, 1500)
    assert draws.std(0) == pytest.approx([1.0, math.sqrt(4.01)], rel=0.05)
    assert (draws[:, 1] - 2 * draws[:, 0]).std() == pytest.approx(0.1, rel=0.05)


def test_an_ensemble_of_a_banana_has_its_moments() -> None:
    """u ~ N(0, 1), v + u^2 ~ N(0, 0.5): v has the mean -E u^2 = -1 and the variance 0.25 + Var u^2 = 2.25."""
    draws = _drawn(lambda u, v: -0.5 * (u**2 + ((v + u**2) / 0.5) ** 2), 2, 250)
    u, v = draws.T
    assert u.std() == pytest.approx(1.0, rel=0.12) and abs(u.mean()) < 0.2  # about three standard errors of 250 samples
    assert v.mean() == pytest.approx(-1.0, abs=0.22) and v.std() == pytest.approx(math.sqrt(2.25), rel=0.3)


def test_an_ensemble_holds_two_hills_by_their_weight() -> None:
    def height(u: float) -> float:
        return float(
            np.logaddexp(math.log(0.75) - 0.5 * ((u - 4) / 0.5) ** 2, math.log(0.25) - 0.5 * ((u + 4) / 0.5) ** 2)
        )

    draws = _drawn(height, 1, 400, [[4.0], [-4.0]])
    assert (draws > 0).mean() == pytest.approx(0.75, abs=0.07)


def test_the_density_of_a_bounded_number_is_the_cut_gaussian(tmp_path: Path) -> None:
    """0 < share < 1, measured as 0.95 +- 0.1: by quadrature over the coordinate, a Gaussian cut at the bound."""
    from scipy.stats import truncnorm

    problem = Problem(
        Shapes(),
        observations={"y": _curve(tmp_path, "share", [0.95], 0.1)},
        unknowns={"share": se.Unknown()},
    )
    density = LogPosterior(problem, problem.start(), [0])
    z = torch.linspace(-3, 14, 400, dtype=torch.float64)
    weight = np.exp([density(own[None]) for own in z])
    weight /= weight.sum()
    share = problem.coordinates[0].value(z).numpy()
    true = truncnorm(-9.5, 0.5, loc=0.95, scale=0.1)
    mean = float((weight * share).sum())
    assert mean == pytest.approx(true.mean(), abs=1e-4)
    assert float((weight * (share - mean) ** 2).sum()) ** 0.5 == pytest.approx(true.std(), rel=1e-3)


@pytest.mark.parametrize(("kind", "log"), [("normal", False), ("lognormal", True)])
def test_a_prior_is_a_density_in_the_number_or_its_logarithm(tmp_path: Path, kind: str, log: bool) -> None:
    """With data that tell nothing, the posterior of a bounded number is its prior, cut."""
    from scipy.stats import truncnorm

    prior = se.Prior(normal=(0.5, 0.2)) if kind == "normal" else se.Prior(lognormal=(0.5, 0.3))
    data = {"y": _curve(tmp_path, "share", [0.5], 1e6)}
    problem = Problem(Shapes(), observations=data, unknowns={"share": se.Unknown(prior=prior)})
    density = LogPosterior(problem, problem.start(), [0])
    z = torch.linspace(-12, 16, 600, dtype=torch.float64)
    weight = np.exp([density(own[None]) for own in z])
    weight /= weight.sum()
    share = problem.coordinates[0].value(z).numpy()
    x = np.log(share) if log else share
    center, sd = (math.log(0.5), 0.3) if log else (0.5, 0.2)
    low, high = (-np.inf, -center / sd) if log else (-2.5, 2.5)
    true = truncnorm(low, high, loc=center, scale=sd)
    assert float((weight * x).sum()) == pytest.approx(true.mean(), abs=2e-3)


METHODS = ["ensemble", "nuts"]


def _sampled(method: str, observations: dict[str, Curve], unknowns: dict[str, se.Unknown], **options: Any) -> Any:
    pytest.importorskip({"ensemble": "emcee", "nuts": "nutpie"}[method])
    inference = se.Inference(posterior=method, **options)
    problem = Problem(Shapes(), observations=observations, unknowns=unknowns, inference=inference)
    fit = _fit(problem)
    return posterior_of(fit)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_samples_of_a_gaussian_are_laplaces(tmp_path: Path, method: str) -> None:
    unknowns = {"u": se.Unknown(), "v": se.Unknown()}
    data = {"y": _line(tmp_path)}
    plain = posterior_of(_fit(Problem(Shapes(), observations=data, unknowns=unknowns)))
    found = _sampled(method, data, unknowns, samples=2000)
    assert found.samples.converged, found.samples.why
    for name, e in found.estimates.items():
        own = plain.estimates[name]
        assert e.std == pytest.approx(own.std, rel=0.05)
        assert e.low == pytest.approx(own.low, abs=0.15 * own.std) and e.high == pytest.approx(
            own.high, abs=0.15 * own.std
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_samples_of_a_banana_have_its_moments(tmp_path: Path, method: str) -> None:
    """u ~ N(0, 1) and v + u^2 = 0 +- 0.3: v has the mean -E u^2 and the variance 0.3^2 + Var u^2, by its flat prior.

    To three standard errors of the effective samples that the sampler says it has; the kurtosis of u^2 is 15.
    """
    data = {"y": _curve(tmp_path, "banana", [0.0], 0.3)}
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 1.0))), "v": se.Unknown(scale=1.0)}
    found = _sampled(method, data, unknowns, samples=300)
    assert found.samples.converged, found.samples.why
    draws = found.samples.values["u"].size
    assert found.samples.divergences <= draws / 200  # its neck is narrow, and no draw of many may be one
    u, v = (found.samples.values[name].ravel() for name in ("u", "v"))
    few = 3 / min(found.samples.effective.values()) ** 0.5
    assert abs(u.mean()) < few and u.std() == pytest.approx(1.0, rel=few / 2**0.5)
    assert v.mean() == pytest.approx(-1.0, abs=few * 2.09**0.5)
    assert v.std() == pytest.approx(2.09**0.5, rel=few * (14 / 4) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_samples_of_a_bounded_number_follow_the_cut_gaussian(tmp_path: Path, method: str) -> None:
    """0 < share < 1, measured as 0.95 +- 0.1: a Gaussian cut at the bound, whose quantiles are known."""
    from scipy.stats import truncnorm

    data = {"y": _curve(tmp_path, "share", [0.95], 0.1)}
    found = _sampled(method, data, {"share": se.Unknown()}, samples=1000 if method == "ensemble" else 500)
    assert found.samples.converged, found.samples.why
    true = truncnorm(-9.5, 0.5, loc=0.95, scale=0.1)
    e = found.estimates["share"]
    assert e.low == pytest.approx(true.ppf(0.025), abs=0.02) and e.high == pytest.approx(true.ppf(0.975), abs=0.005)
    assert e.std == pytest.approx(true.std(), rel=0.08)


@pytest.mark.slow
def test_samples_of_two_answers_hold_both(tmp_path: Path) -> None:
    data = {"y": _curve(tmp_path, "square", [1.0], 0.5)}
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=1.2)}
    found = _sampled("ensemble", data, unknowns, samples=400, starts=6)
    assert found.samples.converged, found.samples.why
    u = found.samples.values["u"].ravel()
    assert 0.4 < (u > 0).mean() < 0.6 and any("2 answers" in text for text in found.directions)


@pytest.mark.slow
def test_nuts_between_two_minima_is_no_answer(tmp_path: Path) -> None:
    """u = 2 or -2, 400 standard deviations apart: chains that begin at both disagree, and the two are told."""
    data = _curve(tmp_path, "square", [4.0, 4.01, 3.99], 0.05)
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=1.2)}
    found = _sampled("nuts", {"y": data}, unknowns, samples=200, starts=6)
    assert not found.samples.converged and "ensemble" in found.samples.why
    assert found.estimates["u"].std is None and any("2 answers" in text for text in found.directions)


def test_chains_that_have_not_converged_are_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simengine.fit.certainty import sampling

    monkeypatch.setattr(sampling, "CHUNKS", 1)
    monkeypatch.setattr(sampling, "CHUNK", 8)
    found = _sampled("ensemble", {"y": _line(tmp_path)}, {"u": se.Unknown(), "v": se.Unknown()}, samples=100_000)
    e = found.estimates["u"]
    assert e.std is None and not e.identified and "not converged" in e.why


def test_nuts_without_gradients_is_refused_in_a_line_where_they_are_needed(tmp_path: Path) -> None:
    """What an instrument adds has no gradient, and u^2 about 0 is no ellipse."""
    unknowns = {
        "u": se.Unknown(prior=se.Prior(normal=(0.0, 1.0))),
        "observations.y.gain": se.Unknown(prior=se.Prior(normal=0.1)),
    }
    with pytest.raises(
        SceneError, match=r"inference\.posterior: the posterior is not near its ellipse, where NUTS needs"
    ):
        _sampled("nuts", {"y": _curve(tmp_path, "banana", [0.2], 0.3)}, unknowns, samples=20)


def test_nuts_near_an_ellipse_needs_no_gradients(tmp_path: Path) -> None:
    """A gain, which has none, of 1 +- 0.01 by its prior: u is Laplace's."""
    gain = se.Unknown(prior=se.Prior(normal=0.01))
    unknowns = {"u": se.Unknown(), "v": se.Unknown(), "observations.y.gain": gain}
    data = {"y": _line(tmp_path)}
    plain = posterior_of(_fit(Problem(Shapes(), observations=data, unknowns=unknowns)))
    found = _sampled("nuts", data, unknowns, samples=200)
    assert found.samples.converged and set(found.samples.values) == {"u", "v", "observations.y.gain"}
    own = plain.estimates["u"]
    assert found.estimates["u"].value == pytest.approx(own.value, abs=own.std)
    assert found.estimates["u"].std == pytest.approx(own.std, rel=0.2)  # four standard errors of 200 samples


class Closed:
    """A density in closed form of its own coordinates, that has no gradient; how often it was asked."""

    traced: ClassVar = False

    def __init__(self, size: int, log_density: Any) -> None:
        self.free, self.log_density, self.asked = list(range(size)), log_density, 0

    def __call__(self, z: torch.Tensor) -> float:
        self.asked += 1
        return float(self.log_density(z))


def _near_ellipse(density: Closed, wanted: int, seed: int = 0) -> Any:
    pytest.importorskip("nutpie")
    from simengine.fit.certainty.nuts import no_u_turn

    size = len(density.free)
    unit = torch.eye(size, dtype=torch.float64)
    return no_u_turn(density, unit, [torch.zeros(size, dtype=torch.float64)], wanted, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 8])
def test_a_draw_on_the_ellipse_costs_one_solve(size: int) -> None:
    density = Closed(size, lambda z: -0.5 * z.square().sum())
    chains, heights, _, method = _near_ellipse(density, 400)
    assert method == "ellipse"
    assert density.asked == chains.shape[0] * chains.shape[1] + 4 * size + 1
    assert np.allclose(heights, -0.5 * np.square(chains).sum(-1))
    for k in range(size):
        for own in (chains[:, :, k], np.square(chains[:, :, k])):
            assert effective_samples(own) >= 400 and r_hat(own) < 1.02
    assert chains.std((0, 1)) == pytest.approx(np.ones(size), rel=0.15)  # four standard errors


def test_bars_have_the_effective_samples_asked_for() -> None:
    for seed in range(8):
        chains, *_ = _near_ellipse(Closed(8, lambda z: -0.5 * z.square().sum()), 100, seed)
        assert min(effective_samples(np.square(chains[:, :, k] - chains[:, :, k].mean())) for k in range(8)) >= 100


def test_draws_on_the_ellipse_are_of_the_density() -> None:
    """u^3 / 20 beside u^2 / 2, by quadrature: the mean is 0.13 and not the ellipse's 0."""

    def log_density(u: Any) -> Any:
        return -0.5 * u**2 + 0.05 * u**3 - 0.0075 * u**4

    chains, *_ = _near_ellipse(Closed(2, lambda z: log_density(z[0]) - 0.5 * z[1] ** 2), 3000)
    x = np.linspace(-9, 9, 20001)
    weight = np.exp(log_density(x))
    weight /= weight.sum()
    mean = float(weight @ x)
    std = float(weight @ (x - mean) ** 2) ** 0.5
    u = chains[:, :, 0]
    assert u.mean() == pytest.approx(mean, abs=4 * std / 3000**0.5) and mean > 0.13
    assert u.std() == pytest.approx(std, rel=0.06)


def test_tails_heavier_than_the_ellipse_ask_for_gradients() -> None:
    """Student's t of 4 degrees: 0.5 above its normal two standard deviations away, near, but 1.9 three away."""
    density = Closed(1, lambda z: -2.5 * torch.log1p(z.square().sum() / 5))
    with pytest.raises(SceneError, match="not near its ellipse"):
        _near_ellipse(density, 100)


def test_a_report_shows_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture gets every sample in its unit, the priors, and the references that are near enough to be seen."""
    pytest.importorskip("nutpie")
    from simengine.fit.certainty import shown

    drawn: list[Any] = []
    true = shown.corner
    monkeypatch.setattr(shown, "corner", lambda *args, **more: drawn.append((args, more)) or true(*args, **more))
    gain = "observations.y.gain"
    unknowns = {"u": se.Unknown(), "v": se.Unknown(), gain: se.Unknown(prior=se.Prior(normal=0.01))}
    inference = se.Inference(posterior="nuts", samples=100)
    problem = Problem(Shapes(), observations={"y": _line(tmp_path)}, unknowns=unknowns, inference=inference)
    problem = Problem(dataclasses.replace(problem.scene, reference={"u": 1.0, gain: 5.0}))
    found = se.identify(problem, out=tmp_path / "out", progress=False).samples
    assert found is not None
    ((numbers,), more) = drawn[0]
    assert list(numbers) == ["u [1]", "v [1]", f"{gain} [1]"]
    with np.load(tmp_path / "out" / "samples.npz") as kept:
        for name, own in found.values.items():
            assert np.array_equal(numbers[f"{name} [1]"], own.ravel()) and np.array_equal(kept[name], own)
        assert kept["log_density"].shape == found.log_density.shape
    assert more["marks"] == {"u [1]": 1.0} and set(more["priors"]) == {f"{gain} [1]"}
    x = np.linspace(0.9, 1.1, 2001)
    density = more["priors"][f"{gain} [1]"](x)
    assert scipy.integrate.trapezoid(density, x) == pytest.approx(1.0) and x[density.argmax()] == pytest.approx(1.0)
    page = (tmp_path / "out" / "report.html").read_text()
    words = f"Samples of u [1], v [1], {gain} [1]: how each is spread, and each pair of them. Beyond the picture lies"
    assert f'alt="{words} the reference of {gain} [1]"' in page
    assert "Bars from samples (draws from Laplace's ellipse, judged by the density)" in html.unescape(page)


def test_priors_between_bounds_hold_all_their_mass_there() -> None:
    from simengine.fit.certainty.shown import _prior

    x = np.linspace(0, 1, 20001)[1:-1]
    bounded = Coordinate(name="a", targets=(), start=0.5, lower=0.0, upper=1.0)
    normal = dataclasses.replace(bounded, mean=0.9, sd=0.3)
    for own in (bounded, normal, dataclasses.replace(bounded, mean=-0.1, sd=1.0, logarithmic=True)):
        density = _prior(own)
        assert density is not None and scipy.integrate.trapezoid(density(x), x) == pytest.approx(1.0, rel=1e-3)
    assert _prior(Coordinate(name="a", targets=(), start=0.5, lower=0.0)) is None


@pytest.mark.parametrize("hessian", ["gauss_newton", "exact"])
def test_the_exact_hessian_is_the_closed_form(tmp_path: Path, hessian: Any) -> None:
    """u = 0.3 and u^2 = 3 cannot both be: (1/s1^2 + (4 u^2 + 2 (u^2 - 3))/s2^2), less its last term by Gauss-Newton."""
    data = {"y": _curve(tmp_path, "line", [0.3], 1.0), "s": _curve(tmp_path, "square", [3.0], 1.5)}
    problem = Problem(
        Shapes(), observations=data, unknowns={"u": se.Unknown()}, inference=se.Inference(hessian=hessian)
    )
    found = posterior_of(_fit(problem))
    e, first, second = found.estimates["u"], found.worth["y"].factor, found.worth["s"].factor
    gauss_newton = 1 / first + 4 * e.value**2 / (second * 1.5**2)
    bend = 2 * (e.value**2 - 3.0) / (second * 1.5**2)
    assert bend < -0.1 * gauss_newton
    assert e.std == pytest.approx((gauss_newton + bend * (hessian == "exact")) ** -0.5, rel=1e-4)


def test_the_exact_hessian_of_two_numbers_is_that_of_the_density(tmp_path: Path) -> None:
    """v + u^2 = 2 does not go with u + v t: by differences of the density's own gradient."""
    data = {"y": _curve(tmp_path, "banana", [2.0], 0.5), "l": _curve(tmp_path, "line", [1.0, 1.9], 1.0)}
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.5, 1.0))), "v": se.Unknown()}
    problem = Problem(Shapes(), observations=data, unknowns=unknowns, inference=se.Inference(hessian="exact"))
    fit = _fit(problem)
    found = posterior_of(fit)
    density = LogPosterior(problem, fit.z, [0, 1], {name: worth.factor for name, worth in found.worth.items()})
    rows = []
    for k in range(2):
        unit = torch.zeros(2, dtype=torch.float64)
        unit[k] = 1e-4
        ahead, behind = (density.with_gradient(fit.z + s * unit)[1] for s in (1, -1))
        rows.append((behind - ahead) / 2e-4)
    hessian = torch.stack(rows)
    assert torch.allclose(found.covariance, torch.linalg.inv(hessian), rtol=1e-4)
    plain = posterior_of(_fit(Problem(dataclasses.replace(problem.scene, inference=se.Inference()))))
    assert not torch.allclose(plain.covariance, found.covariance, rtol=0.02)


class Edge(Shapes):
    """No run beyond u = 1.001."""

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        if float(values["u"]) > 1.001:
            raise Refused("beyond the edge")
        return super().simulate(values)


def test_the_exact_hessian_beside_an_edge_is_gauss_newtons(tmp_path: Path) -> None:
    data = {"y": _curve(tmp_path, "line", [1.0], 0.5)}
    unknowns = {"u": se.Unknown(initial=0.99)}
    problem = Problem(Edge(), observations=data, unknowns=unknowns, inference=se.Inference(hessian="exact"))
    found = posterior_of(_fit(problem)).estimates["u"]
    assert found.value == pytest.approx(1.0, abs=1e-3) and found.std == pytest.approx(0.5, rel=1e-3)
    assert any("beyond the edge" in text for text in problem.doubts)


def test_a_hill_top_between_two_minima_has_no_exact_hessian(tmp_path: Path) -> None:
    unknowns = {"u": se.Unknown(prior=se.Prior(normal=(0.0, 3.0)), initial=0.0)}
    data = {"y": _curve(tmp_path, "square", [1.0], 0.5)}
    problem = Problem(Shapes(), observations=data, unknowns=unknowns, inference=se.Inference(hessian="exact"))
    found = posterior_of(_fit(problem))
    u = found.estimates["u"].value
    assert 1 / 9 + (4 * u**2 + 2 * (u**2 - 1)) / 0.25 < 0
    assert any("hardly any curvature" in text for text in problem.doubts)
    gauss_newton = 1 / 9 + 4 * u**2 / 0.25 / found.worth["y"].factor
    assert found.estimates["u"].std == pytest.approx(gauss_newton**-0.5, rel=1e-4)


class Grid(se.OwnWorld):
    """y = rate t by a rule whose error is exactly 1/cells of the rate."""

    parameters: ClassVar = {"rate": se.OwnNumber(1.0, gt=0)}
    cells: int = 10

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"line": values["rate"] * (1 + 1 / self.cells) * t})

    def refined(self, factor: float) -> "Grid":
        return dataclasses.replace(self, cells=round(self.cells * factor))


def test_the_bar_holds_what_the_resolution_changes(tmp_path: Path) -> None:
    """At 10 cells the rate comes out as 2/1.1, at 20 as 2/1.05: the shift is known."""
    data = _curve(tmp_path, "line", [2.0 * k / 20 for k in range(21)], 0.001)
    made = dataclasses.replace(Grid(), cells=10)
    problem = Problem(made, observations={"y": data}, unknowns={"rate": se.Unknown()})
    unrefined = se.identify(problem, progress=False)
    assert UNREFINED in unrefined.directions  # whoever did not ask is told what the bars lack
    plain = unrefined.estimates["rate"]
    result = se.identify(
        Problem(made, observations={"y": data}, unknowns={"rate": se.Unknown()}), refine=2.0, progress=False
    )
    e, true = result.estimates["rate"], 2 / 1.05 - 2 / 1.1
    assert e.shift == pytest.approx(true, rel=1e-4) and e.std == pytest.approx(
        math.hypot(plain.std or 0, 2 * true), rel=1e-4
    )
    assert e.low is not None and e.high is not None and e.low < 2.0 < e.high and not plain.low < 2.0 < plain.high
    assert UNREFINED not in result.directions
    assert result.summary["refine"]["settled"] and "2 times the resolution" in result.directions[0]
    asked = se.Inference(refine=2.0)  # by the scene
    again = Problem(made, observations={"y": data}, unknowns={"rate": se.Unknown()}, inference=asked)
    assert se.identify(again, progress=False).estimates["rate"].std == e.std


def test_a_world_without_a_resolution_says_so(tmp_path: Path) -> None:
    unknowns = {"u": se.Unknown(), "v": se.Unknown()}
    problem = Problem(Shapes(), observations={"y": _line(tmp_path)}, unknowns=unknowns)
    with pytest.raises(SceneError, match="cannot be refined"):
        se.identify(problem, refine=2.0, progress=False)
    assert UNREFINED not in se.identify(problem, progress=False).directions


class Slope(se.OwnWorld):
    """y = b t."""

    parameters: ClassVar = {"b": se.OwnNumber(1.0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["b"] * t})


def test_few_rows_of_unknown_noise_give_students_interval(tmp_path: Path) -> None:
    """Closed form: b +- t(n - 1) s / sqrt(sum t^2) with s^2 of n - 1 degrees: 1.96 would hold 89 %."""
    t = np.array([0.1, 0.3, 0.4, 0.6, 0.9, 1.0])
    y = 2.0 * t + np.array([0.03, -0.05, 0.02, 0.04, -0.03, -0.01])
    (tmp_path / "y.csv").write_text("time [s],y\n" + "\n".join(f"{a},{b}" for a, b in zip(t, y, strict=True)))
    curve = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma="estimate")
    problem = Problem(Slope(), observations={"o": curve}, unknowns={"b": se.Unknown()})
    e = posterior_of(_fit(problem)).estimates["b"]
    best = t @ y / (t @ t)
    half = scipy.stats.t.ppf(0.975, 5) * math.sqrt(np.square(y - best * t).sum() / 5 / (t @ t))
    assert e.low is not None and e.high is not None
    assert e.value == pytest.approx(best, abs=1e-6)
    assert (e.high - e.low) / 2 == pytest.approx(half, rel=1e-3)
