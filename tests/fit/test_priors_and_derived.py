"""Priors of vectors against densities written out, numbers per column, steps of a converter, derived numbers."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import simengine as se
from simengine.fit.derived import Expression
from simengine.fit.joint_prior import JointPrior, alike
from simengine.fit.problem import Problem
from simengine.observe import Curve
from simengine.scene import SceneError, load_scene
from simengine.scene.grammar import scene_of

KNOTS = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)


def test_a_joint_prior_is_the_density_it_says() -> None:
    sd = torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    prior = JointPrior(
        mean=torch.full((4,), math.log(3.0), dtype=torch.float64),
        covariance=alike(KNOTS, 0.3, sd, common=0.7),
        logarithmic=True,
    )
    x = KNOTS.numpy()
    covariance = 0.49 + 0.25 * np.exp(-0.5 * ((x[:, None] - x) / 0.3) ** 2) + 1e-6 * 0.74 * np.eye(4)
    density = multivariate_normal(np.full(4, np.log(3.0)), covariance)
    a, b = np.array([3.0, 2.9, 2.5, 2.0]), np.array([3.5, 3.6, 3.0, 1.0])
    rows = [prior.rows(torch.from_numpy(v)).square().sum() for v in (a, b)]
    assert float(rows[0] - rows[1]) == pytest.approx(2 * (density.logpdf(np.log(b)) - density.logpdf(np.log(a))))


def test_a_table_that_only_falls_pays_for_rising() -> None:
    prior = JointPrior(
        mean=torch.zeros(4, dtype=torch.float64),
        covariance=torch.eye(4, dtype=torch.float64),
        logarithmic=False,
        rising=-1,
    )
    falling = prior.rows(torch.tensor([0.3, 0.2, 0.2, 0.1], dtype=torch.float64))
    assert float(falling[4:].abs().max()) == 0.0
    rising = prior.rows(torch.tensor([0.3, 0.2, 0.2, 0.23], dtype=torch.float64))
    assert float(rising[-1]) == pytest.approx(3.0)  # 0.03 standard deviations, at 0.01 for one


class Line(se.OwnWorld):
    """Two lines of one slope."""

    parameters: ClassVar = {"slope": se.OwnNumber(1.0, "m/s", gt=0), "length": se.OwnNumber(4.0, "m", gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["slope"] * t})


def _columns(folder: Path) -> Curve:
    generator = torch.Generator().manual_seed(3)
    t = torch.linspace(0.0, 1.0, 40, dtype=torch.float64)
    noise = 0.01 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = 2.0 * t[:, None] + torch.tensor([0.3, -0.1, 0.0]) + noise
    rows = torch.cat([t[:, None], y], 1).tolist()
    lines = ["time [s],y_a,y_b,y_c", *(",".join(f"{v:.9g}" for v in row) for row in rows)]
    (folder / "lines.csv").write_text("\n".join(lines) + "\n")
    return Curve(directory=folder, file="lines.csv", columns={"time": "time", "y": "y_* [m]"}, sigma=0.01)


def test_each_column_has_an_offset_of_its_own_and_a_derived_number_its_bar(tmp_path: Path) -> None:
    scene = dataclasses.replace(
        scene_of(Line()), derived={"time to the end [s]": "2.0 * sqrt(observations.y.offset.0 + 1.0)"}
    )
    offset = se.Unknown(per="column", prior=se.Prior(normal=(0.0, 0.5)))
    problem = Problem(
        scene, observations={"y": _columns(tmp_path)}, unknowns={"slope": se.Unknown(), "observations.y.offset": offset}
    )
    result = se.identify(problem, progress=False)
    found = result.estimates
    # the same by linear algebra: one slope, three offsets with priors
    t = np.linspace(0, 1, 40)
    y = problem.measured["y"].values.numpy().T
    rows = np.concatenate([np.stack([t, *(np.full(40, float(k == c)) for k in range(3))], 1) for c in range(3)]) / 0.01
    rows = np.concatenate([rows, np.eye(4)[1:] / 0.5])
    right = np.concatenate([y.reshape(-1) / 0.01, np.zeros(3)])
    exact = np.linalg.lstsq(rows, right, rcond=None)[0]
    names = ["slope", *(f"observations.y.offset {k}" for k in range(3))]
    for name, value in zip(names, exact, strict=True):
        assert found[name].value == pytest.approx(value, abs=2e-5)
    derived = found["time to the end [s]"]
    assert derived.unit == "s" and derived.value == pytest.approx(2 * math.sqrt(exact[1] + 1), rel=1e-5)
    own = found["observations.y.offset 0"].std
    assert own and derived.std == pytest.approx(own / math.sqrt(exact[1] + 1), rel=1e-4)


def test_per_is_refused_where_a_key_takes_one_number(tmp_path: Path) -> None:
    for key, per in (("observations.y.start", "column"), ("observations.y.offset", "row"), ("slope", "column")):
        with pytest.raises(SceneError, match="per"):
            Problem(Line(), observations={"y": _columns(tmp_path)}, unknowns={key: se.Unknown(per=per)})


def test_the_step_of_a_converter_adds_to_the_variance(tmp_path: Path) -> None:
    curve = dataclasses.replace(_columns(tmp_path), sigma=0.3, quantum=1.2)
    sigma = curve.noise(curve.read())
    assert float(sigma.max()) == pytest.approx(math.sqrt(0.09 + 1.44 / 12))
    problem = Problem(
        Line(slope=2.0),
        observations={"y": dataclasses.replace(curve, sigma="estimate")},
        unknowns={"slope": se.Unknown()},
    )
    problem.estimate_sigmas(problem.start())
    assert float(problem.sigmas["y"].min()) == pytest.approx(
        1.2 / math.sqrt(12)
    )  # rounding alone is larger than what is


@pytest.mark.parametrize("text", ["__import__('os')", "pde.x.real()", "[1, 2]", "pde.a if pde.b else 1", "pde.a +"])
def test_an_expression_is_arithmetic_and_nothing_else(text: str) -> None:
    with pytest.raises(SceneError, match="derived"):
        Expression(text, "derived.a")


def test_arithmetic_of_keys() -> None:
    values = {"pde.k": 4.0, 'gas."a.b".f': 3.0}
    assert Expression('sqrt(pde.k) ** 3 - gas."a.b".f / -2e-1', "derived.a")(values) == pytest.approx(23.0)
    assert math.isnan(Expression("log(-pde.k)", "derived.a")(values))


def test_the_rod_names_what_it_seeks(shared: Path, tmp_path: Path) -> None:
    scene = shared.parent / "target" / "light" / "rod.toml"
    data = shared / "real" / "aluminium_rod_heating" / "temperatures.csv"
    if not scene.is_file() or not data.is_file():
        pytest.skip("the scene or its data are not at hand")
    (tmp_path / "rod.toml").write_bytes(scene.read_bytes())
    (tmp_path / "temperatures.csv").write_bytes(data.read_bytes())
    problem = Problem(load_scene(tmp_path / "rod.toml", ["pde.cells=[100, 12]"]))
    assert [c.name for c in problem.coordinates][-2:] == ["observations.rod.offset 3", "observations.rod.offset 4"]
    prediction = problem.predict()["rod"]
    assert prediction.values.shape[1] == 5 and max(prediction.rms(prediction.measured.fitted)) < 1.0  # K of 25
    held = prediction.measured.at["t"][prediction.measured.held_out.all(1)]
    assert float(held.min()) > 1336.0
