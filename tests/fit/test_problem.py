"""Problems on a world whose answer is a closed form: unknowns, stages, intervals, what is told and what is not."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import simengine as se
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.method import training_of
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.observe import Curve, Loss
from simengine.scene import SceneError
from simengine.scene.base import AbstractWorld
from simengine.solve.correlation import correlation_time


class Decay(se.OwnWorld):
    """y = amplitude exp(-rate t), and a product that only a * b decides."""

    parameters: ClassVar = {
        "amplitude": se.OwnNumber(1.0, "m", gt=0),
        "rate": se.OwnNumber(1.0, "1/s", gt=0),
        "a": se.OwnNumber(1.0, gt=0),
        "b": se.OwnNumber(1.0, gt=0),
        "idle": se.OwnNumber(1.0, gt=0),
        "shift": se.OwnNumber(0.0, "m"),
    }

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 3.0, 601, dtype=torch.float64)
        y = values["amplitude"] * values["a"] * values["b"] * torch.exp(-values["rate"] * t) + values["shift"]
        return se.OwnMotion(t, scalars={"y": y})


def _data(folder: Path, seed: int = 0, sigma: float = 0.01, offset: float = 0.0, bump: float = 0.0) -> Curve:
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0.02, 2.9, 60, dtype=torch.float64)
    y = 2.0 * torch.exp(-0.7 * t) + sigma * torch.randn(60, generator=generator, dtype=torch.float64)
    y = y + bump * torch.sin(4 * t)
    lines = ["time [s],y [mm]", *(f"{float(a) + offset},{float(b) * 1e3}" for a, b in zip(t, y, strict=True))]
    (folder / f"y{seed}.csv").write_text("\n".join(lines) + "\n")
    return Curve(directory=folder, file=f"y{seed}.csv", columns={"time": "time", "y": "y"}, sigma=sigma)


def _solve(problem: Problem) -> LeastSquaresFit:
    fit = LeastSquaresFit(problem)
    for _ in range(200):
        if fit.converged:
            return fit
        fit.step()
    raise AssertionError("no end")


def test_two_numbers_are_found_within_their_bars(tmp_path: Path) -> None:
    unknowns = {"amplitude": se.Unknown(), "rate": se.Unknown(initial=3.0)}
    result = se.identify(Problem(Decay(), observations={"y": _data(tmp_path)}, unknowns=unknowns), progress=False)
    for name, true in (("amplitude", 2.0), ("rate", 0.7)):
        e = result.estimates[name]
        assert e.std is not None and abs(e.value - true) < 3.5 * e.std < 0.05 and e.identified
    assert "Infinity" not in result.to_json() and result.estimates["rate"].unit == "1/s"


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """Coverage of 95 % intervals over 100 seeds: of 200 at least 181 with probability 0.9985 if they are right."""
    held = 0
    for seed in range(100):
        unknowns = {"amplitude": se.Unknown(initial=1.8), "rate": se.Unknown(initial=0.8)}
        problem = Problem(Decay(), observations={"y": _data(tmp_path, seed)}, unknowns=unknowns)
        fit = _solve(problem)
        found = posterior(problem, fit.z, problem.predict(fit.z)).estimates
        for name, true in (("amplitude", 2.0), ("rate", 0.7)):
            e = found[name]
            assert e.low is not None and e.high is not None
            held += e.low < true < e.high
    assert 181 <= held <= 199, held


def test_a_model_that_is_wrong_says_so_and_widens_its_bars(tmp_path: Path) -> None:
    unknowns = {"amplitude": se.Unknown(), "rate": se.Unknown()}
    right = se.identify(Problem(Decay(), observations={"y": _data(tmp_path)}, unknowns=unknowns), progress=False)
    wrong = se.identify(
        Problem(Decay(), observations={"y": _data(tmp_path, 1, bump=0.2)}, unknowns=unknowns), progress=False
    )
    assert right.summary["explained"] is True and wrong.summary["explained"] is False
    a, b = right.estimates["rate"].std, wrong.estimates["rate"].std
    assert a is not None and b is not None and b > 10 * a
    assert abs(wrong.estimates["rate"].value - 0.7) < 3 * b


def test_the_noise_is_estimated_where_it_is_not_told(tmp_path: Path) -> None:
    import dataclasses

    data = dataclasses.replace(_data(tmp_path, 2), sigma="estimate")
    problem = Problem(Decay(), observations={"y": data}, unknowns={"amplitude": se.Unknown(), "rate": se.Unknown()})
    _solve(problem)
    # the standard error of a standard deviation of 58 degrees is 9 %
    assert float(problem.sigmas["y"][0]) == pytest.approx(0.01, rel=0.3)


def _sensors(folder: Path, seed: int, count: int = 5, rows: int = 5) -> Curve:
    """The same decay by several sensors that are alike, few rows each."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0.1, 2.5, rows, dtype=torch.float64)
    y = 2.0 * torch.exp(-0.7 * t)[:, None] + 0.05 * torch.randn(rows, count, generator=generator, dtype=torch.float64)
    lines = [",".join(["time", *(f"y{k}" for k in range(count))])]
    lines += [",".join(str(float(v)) for v in (a, *b)) for a, b in zip(t, y, strict=True)]
    (folder / "sensors.csv").write_text("\n".join(lines) + "\n")
    return Curve(directory=folder, file="sensors.csv", columns={"time": "time", "y": "y*"}, sigma="estimate")


def test_sensors_of_one_quantity_share_a_sigma_and_intervals_hold_the_truth(tmp_path: Path) -> None:
    """Of 200 at least 181 with probability 0.9985; a sigma for each sensor of five rows holds fewer."""
    held = 0
    for seed in range(100):
        unknowns = {"amplitude": se.Unknown(initial=1.8), "rate": se.Unknown(initial=0.8)}
        problem = Problem(Decay(), observations={"y": _sensors(tmp_path, seed)}, unknowns=unknowns)
        fit = _solve(problem)
        found = posterior(problem, fit.z, problem.predict(fit.z)).estimates
        for name, true in (("amplitude", 2.0), ("rate", 0.7)):
            e = found[name]
            assert e.low is not None and e.high is not None
            held += e.low < true < e.high
    sigmas = problem.sigmas["y"]
    assert len(sigmas) == 5 and bool((sigmas == sigmas[0]).all())
    # the root of the sum of squares over 25 - 2 degrees
    r = torch.where(problem.rows("y"), problem.predict(fit.z)["y"].residual, 0.0) * sigmas
    assert float(sigmas[0]) == pytest.approx(float((r.square().sum() / 23).sqrt()), rel=0.02)
    assert 181 <= held <= 199, held


@pytest.mark.parametrize(("bar", "known"), [(0.35, True), (0.75, False)])
def test_what_is_known_to_less_than_half_its_scale_is_not_identified(tmp_path: Path, bar: float, known: bool) -> None:
    """Sixty rows tell a level to sigma / sqrt(60); chi-square of 59 rows moves that by some 10 %."""
    problem = Problem(
        Decay(amplitude=2.0, rate=0.7),
        observations={"y": _data(tmp_path, sigma=bar * math.sqrt(60))},
        unknowns={"shift": se.Unknown(scale=1.0)},
    )
    level = se.identify(problem, progress=False).estimates["shift"]
    assert level.std == pytest.approx(bar, rel=0.25) and level.identified is known


def test_only_the_product_of_two_numbers_is_told(tmp_path: Path) -> None:
    unknowns = {
        "a": se.Unknown(prior=se.Prior(lognormal=1.0)),
        "b": se.Unknown(prior=se.Prior(lognormal=1.0)),
        "rate": se.Unknown(),
    }
    result = se.identify(Problem(Decay(), observations={"y": _data(tmp_path)}, unknowns=unknowns), progress=False)
    assert not result.estimates["a"].identified and not result.estimates["b"].identified
    assert result.estimates["rate"].identified
    assert any("a * b" in text for text in result.directions)
    assert result.estimates["a"].value * result.estimates["b"].value == pytest.approx(2.0, rel=0.02)


def test_a_number_that_nothing_depends_on_is_named(tmp_path: Path) -> None:
    unknowns = {"rate": se.Unknown(), "amplitude": se.Unknown(), "idle": se.Unknown()}
    result = se.identify(Problem(Decay(), observations={"y": _data(tmp_path)}, unknowns=unknowns), progress=False)
    idle = result.estimates["idle"]
    assert not idle.identified and idle.std is None and "do not depend on it" in idle.why
    assert result.estimates["rate"].identified and "Infinity" not in result.to_json()


def test_a_number_that_starts_at_zero_has_the_scale_of_its_unit(tmp_path: Path) -> None:
    import dataclasses

    data = dataclasses.replace(_data(tmp_path), offset=0.0)
    lines = (tmp_path / "y0.csv").read_text().splitlines()
    moved = [lines[0], *(f"{line.split(',')[0]},{float(line.split(',')[1]) + 3e-3}" for line in lines[1:])]
    (tmp_path / "y0.csv").write_text("\n".join(moved) + "\n")
    unknowns = {"amplitude": se.Unknown(), "rate": se.Unknown(), "shift": se.Unknown(scale=1e-3)}
    result = se.identify(Problem(Decay(), observations={"y": data}, unknowns=unknowns), progress=False)
    e = result.estimates["shift"]
    assert e.std is not None and abs(e.value - 3e-6) < 3.5 * e.std


def test_clock_and_gain_are_numbers_of_the_instrument(tmp_path: Path) -> None:
    import dataclasses

    data = dataclasses.replace(_data(tmp_path, offset=0.25), gain=1.0)
    unknowns = {
        "rate": se.Unknown(),
        "amplitude": se.Unknown(prior=se.Prior(normal=(2.0, 0.001))),
        "observations.y.start": se.Unknown(initial=0.2, prior=se.Prior(normal=0.2)),
    }
    problem = Problem(Decay(), observations={"y": data}, unknowns=unknowns)
    fit = _solve(problem)
    e = posterior(problem, fit.z, problem.predict(fit.z)).estimates["observations.y.start"]
    assert e.std is not None and abs(e.value - 0.25) < 3.5 * e.std and e.unit == "s"


def test_an_outlier_moves_a_robust_fit_little(tmp_path: Path) -> None:
    import dataclasses

    data = _data(tmp_path)
    lines = (tmp_path / "y0.csv").read_text().splitlines()
    lines[10] = f"{lines[10].split(',')[0]},9000"
    (tmp_path / "y0.csv").write_text("\n".join(lines) + "\n")
    errors = []
    for loss in ("square", "huber", "student"):
        unknowns = {"amplitude": se.Unknown(), "rate": se.Unknown()}
        own = dataclasses.replace(data, loss=loss)
        fit = _solve(Problem(Decay(), observations={"y": own}, unknowns=unknowns))
        errors.append(abs(fit.estimates()["rate"] - 0.7))
    assert errors[1] < errors[0] / 5 and errors[2] < errors[0] / 5


def test_losses_are_the_square_near_zero_and_their_formula_far_out() -> None:
    r = torch.tensor([1e-8, 0.5, -6.0], dtype=torch.float64)
    huber = Loss(huber=2.0).shaped(r)
    assert huber[:2].tolist() == pytest.approx([1e-8, 0.5]) and float(huber[2]) == pytest.approx(
        -math.sqrt(2 * 2 * 6 - 4)
    )
    student = Loss(student=4.0).shaped(r)
    assert float(student[2]) ** 2 == pytest.approx(5 * math.log1p(36 / 4) * 4 / 5)


def test_a_fit_resumes_bitwise_after_any_trial(tmp_path: Path) -> None:
    def made() -> LeastSquaresFit:
        unknowns = {"amplitude": se.Unknown(), "rate": se.Unknown(initial=3.0)}
        return training_of(Problem(Decay(), observations={"y": _data(tmp_path)}, unknowns=unknowns))

    whole = made()
    states = []
    while not whole.converged:
        states.append({k: v.clone() for k, v in whole.state_dict().items()})
        whole.step()
    for state in states[:: max(len(states) // 4, 1)]:
        again = made()
        again.load_state_dict(state)
        while not again.converged:
            again.step()
        assert torch.equal(again.z, whole.z)


@pytest.mark.parametrize(
    ("unknowns", "message"),
    [
        ({"rat": {}}, "did you mean 'rate'"),
        ({"rate": {"initial": -1.0}}, "must start above 0"),
        ({"observations.x.start": {}}, "'x' is not defined"),
        ({"shift": {}}, "give `scale` or a prior"),
    ],
)
def test_a_wrong_unknown_is_named(tmp_path: Path, unknowns: dict[str, dict[str, float]], message: str) -> None:
    class Sizeless(Decay):
        """Without typical sizes."""

        def sizes(self) -> dict[str, float]:
            return {"s": 3.0}

    made = {key: se.Unknown(**value) for key, value in unknowns.items()}  # type: ignore[arg-type]
    with pytest.raises(SceneError, match=message):
        Problem(Sizeless(), observations={"y": _data(tmp_path)}, unknowns=made)


def test_white_residuals_count_singly_and_smooth_ones_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    assert correlation_time(white) < 1.2
    # an autoregression with rho = 0.9 has an integrated autocorrelation of (1 + 0.9)/(1 - 0.9) = 19
    rows = [white[0]]
    for k in range(1, 400):
        rows.append(0.9 * rows[-1] + math.sqrt(1 - 0.81) * white[k])
    assert 12 < correlation_time(torch.stack(rows)) < 26


def test_the_contract_is_one_class_for_worlds() -> None:
    assert issubclass(Decay, AbstractWorld)


def test_a_noise_that_is_sought_has_the_unit_of_its_column() -> None:
    problem = se.Problem(se.load_scene("rubber_treloar"))
    assert {c.name: c.unit for c in problem.coordinates if "sigma" in c.name} == {
        f"observations.{name}.sigma": "Pa" for name in ("tension", "biaxial", "shear")
    }


class Clack(se.OwnWorld):
    """A force that grows with a friction by its share, and jumps where a contact opens."""

    parameters: ClassVar = {"friction": se.OwnNumber(0.2, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        friction = values["friction"]
        return se.OwnMotion(t, scalars={"force": 10 + friction * t - 0.5 * (friction > 0.20001) * (t > 0.85)})


def test_a_jump_is_no_slope(tmp_path: Path) -> None:
    """The force jumps by 5 deviations just beside the answer: the bar is that of the slope, and the report says so."""
    t = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
    rows = [f"{float(a)},{10 + 0.2 * float(a)}" for a in t]
    (tmp_path / "force.csv").write_text("\n".join(["time [s],force [1]", *rows]) + "\n")
    seen = Curve(directory=tmp_path, file="force.csv", columns={"time": "time", "force": "force"}, sigma=0.1)
    problem = Problem(Clack(), observations={"force": seen}, unknowns={"friction": se.Unknown()})
    found = posterior(problem, problem.start(), problem.predict(problem.start())).estimates["friction"]
    assert found.std == pytest.approx(0.1 / float(t.square().sum().sqrt()), rel=1e-3)
    assert [text for text in problem.doubts if "friction: the prediction jumps by 5 standard deviations" in text]
