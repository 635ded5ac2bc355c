"""Which unknown takes which number, correlated priors, and rows without a spread, on specimens (they cost nothing)."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.fit.problem import Problem
from simengine.scene.base import SceneError
from simengine.scene.grammar import build_scene

FLUID = """
kind = "specimen"
material = { type = "paste", E = 1e3, nu = 0.4, yield_stress = 5.0, consistency = 3.0, exponent = 0.5 }
test.type = "steady_shear"
[runs.a]
[runs.b]
[runs.c]
[instruments.rheometer]
type = "curve"
against = "shear_rate"
columns = { shear_rate = "rate", shear_stress = "stress" }
sigma = 0.1
[observations]
a = { instrument = "rheometer", file = "flow.csv", run = "a" }
b = { instrument = "rheometer", file = "flow.csv", run = "b" }
c = { instrument = "rheometer", file = "flow.csv", run = "c" }
[unknowns]
"""


def problem(folder: Path, text: str, csv: str = "rate,stress\n1,8\n4,11\n") -> Problem:
    (folder / "flow.csv").write_text(csv)
    return Problem(build_scene(tomllib.loads(text), directory=folder, locate=lambda key: "scene.toml"))


def test_the_narrow_unknown_takes_its_numbers_from_the_wide_one(tmp_path: Path) -> None:
    """Whatever stands first in the file: a number of two runs together wins over that of all runs."""
    two = 'two = { sets = ["runs.b.material.yield_stress", "runs.c.material.yield_stress"] }\n'
    all_runs = '"material.yield_stress" = {}\n'
    for text in (two + all_runs, all_runs + two):
        found = {c.name: {run for _, run, _ in c.targets} for c in problem(tmp_path, FLUID + text).coordinates}
        assert found == {"two": {"b", "c"}, "material.yield_stress": {"a"}}
    one_of_all = '"runs.*.material.yield_stress" = {}\n"runs.b.material.yield_stress" = { prior.normal = 1.0 }\n'
    widths = {c.name: c.sd for c in problem(tmp_path, FLUID + one_of_all).coordinates}
    assert widths["runs.b.material.yield_stress"] == 1.0
    assert np.isnan(widths["runs.a.material.yield_stress"])


def test_an_unknown_that_sets_nothing_is_told(tmp_path: Path) -> None:
    again = 'again = { sets = ["runs.b.material.exponent"] }\n"runs.b.material.exponent" = {}\n'
    with pytest.raises(SceneError, match=r"unknowns\..*exponent.*set by another"):
        problem(tmp_path, FLUID + again)


def test_neighbours_of_a_vector_are_alike_beforehand(tmp_path: Path) -> None:
    """Verification: chi-square of the prior is that of a normal with covariance sd^2 exp(-(distance/length)^2/2)."""
    text = """
kind = "specimen"
material = { type = "maxwell", times = [0.1, 1.0, 10.0], moduli = [3e3, 2e3, 1e3] }
[observations.a]
type = "curve"
file = "flow.csv"
run.test.type = "oscillation"
against = "angular_frequency"
columns = { angular_frequency = "rate", storage_modulus = "stress" }
sigma = 100.0
[unknowns]
"material.moduli".prior = { lognormal = 0.8, length = 1.5 }
"""
    sought = problem(tmp_path, text)
    z = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    rows = len(sought.residual(z))
    residual, slopes = sought.linearise(z)
    away = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    covariance = 0.64 * (np.exp(-0.5 * (away / 1.5) ** 2) + 1e-6 * np.eye(3))  # and its nugget
    expected = z.numpy() @ np.linalg.solve(covariance, z.numpy())  # z is the change of the logarithm
    assert float(residual[rows - 3 :].square().sum()) == pytest.approx(expected, rel=1e-12)
    for k in range(3):
        unit = torch.zeros(3, dtype=torch.float64)
        unit[k] = 1e-5
        difference = (sought.residual(z + unit) - sought.residual(z - unit)) / 2e-5
        np.testing.assert_allclose(slopes[:, k], difference, rtol=1e-4, atol=1e-4)


def test_a_spread_of_zero_is_no_measurement(tmp_path: Path) -> None:
    spread = FLUID.replace('shear_stress = "stress" }\nsigma = 0.1', 'shear_stress = {column="stress", sigma="sd"} }')
    text = spread + '"material.exponent" = {}\n'
    found = problem(tmp_path, text, "rate,stress,sd\n0,0,0\n1,8,0.2\n4,11,0.3\n").measured["a"]
    assert found.mask[:, 0].tolist() == [False, True, True]
    with pytest.raises(SceneError, match="no value above 0"):
        problem(tmp_path, text, "rate,stress,sd\n0,0,0\n1,8,0\n")


def test_rows_of_another_specimen_are_no_part_of_the_path(tmp_path: Path) -> None:
    """A path through the other's rows would have flowed to a strain of 0.3 before, and have hardened there."""
    text = """
kind = "specimen"
test.type = "uniaxial"
[material]
type = "metal"
E = 2e11
nu = 0.3
yield_stress = 2e8
hardening = { type = "linear", H = 1e9 }
[observations.a]
type = "curve"
file = "flow.csv"
against = "strain"
where.bar = "a"
columns = { strain = "strain", nominal_stress = "stress" }
sigma = 1e6
[unknowns]
"material.yield_stress" = {}
"""
    own = problem(tmp_path, text, "bar,strain,stress\nb,0.1,3e8\nb,0.3,4e8\na,0.01,2e8\na,,2e8\na,0.02,2e8\n")
    assert own.measured["a"].at["strain"].tolist() == [0.01, 0.02]
    alone = problem(tmp_path, text, "bar,strain,stress\na,0.01,2e8\na,0.02,2e8\n")
    assert torch.equal(own.predict()["a"].values, alone.predict()["a"].values)
    with pytest.raises(SceneError, match="look at `where`"):
        problem(tmp_path, text, "bar,strain,stress\nb,0.1,3e8\n")


def test_a_direction_without_information_has_a_finite_variance() -> None:
    """A noise that is sought has no column; its infinite variance made the report's covariance NaN."""
    from simengine.fit.certainty.worth import inverse

    found = inverse(torch.diag(torch.tensor([4.0, 0.0, 1e6], dtype=torch.float64)))
    np.testing.assert_allclose(found, np.diag([0.25, 1e12, 1e-6]))


def test_a_noise_that_is_sought_is_told_as_the_residuals_show_it(tmp_path: Path) -> None:
    """Recovery: 200 values with a noise of 0.3 that the scene believes to be 1."""
    from simengine.fit.inference import LeastSquaresFit
    from simengine.fit.posterior import posterior

    rates = np.linspace(1, 9, 200)
    stress = 5 + 3 * np.sqrt(rates) + 0.3 * np.random.default_rng(0).standard_normal(200)
    text = FLUID.replace("sigma = 0.1", "sigma = 1.0").partition("b = {")[0]
    text += '[unknowns]\n"runs.a.material.consistency" = {}\n"observations.a.sigma" = { prior.lognormal = 2.0 }\n'
    sought = problem(
        tmp_path, text, "rate,stress\n" + "\n".join(f"{x},{y}" for x, y in zip(rates, stress, strict=True))
    )
    fit = LeastSquaresFit(sought)
    while not fit.converged:
        fit.step()
    told = posterior(sought, fit.z, sought.predict(fit.z)).estimates["observations.a.sigma"]
    assert told.std is not None
    assert told.value == pytest.approx(0.3, abs=3 * told.std)
    # 200 rows tell the logarithm to 1/sqrt(400); its prior of width 2 adds 1/4 to the precision
    assert told.std == pytest.approx(told.value * (400 + 0.25) ** -0.5, rel=1e-6)


FACTORS = FLUID + (
    '"runs.*.material.consistency" = '
    '{ prior.uncertainty_factor = { file = "f.csv", names = "run", otherwise = 3.0 } }\n'
)


def test_uncertainty_factors_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("run,f\nb,1.5\n")
    widths = {c.name: c.sd for c in problem(tmp_path, FACTORS).coordinates}
    found = [widths[f"runs.{run}.material.consistency"] for run in "abc"]
    assert found == pytest.approx(np.log([3.0, 1.5, 3.0]) / 2)  # at two standard deviations


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("run,f\nd,1.5\n", "f.csv: 'd' is not sought"),
        ("run,f\nb,0.5\n", "row 0: f of 'b' is 0.5; a factor is above 1"),
        ("run,f\nb,2\nb,2\n", "row 1: 'b' stands there twice"),
        ("name,f\nb,2\n", "f.csv has no column 'run'"),
    ],
)
def test_a_fault_of_a_file_of_factors_is_told_in_one_line(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "f.csv").write_text(file)
    with pytest.raises(SceneError, match=message) as told:
        problem(tmp_path, FACTORS)
    assert "\n" not in str(told.value)


def test_what_the_file_leaves_out_needs_a_factor_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("run,f\nb,1.5\n")
    with pytest.raises(
        SceneError, match=r"runs\.a\.material\.consistency.*no row for it; add one, or tell `otherwise`"
    ):
        problem(tmp_path, FACTORS.replace(", otherwise = 3.0", ""))


JOINT = """
kind = "flame"
gas.mechanism = "asset:methane_1step.yaml"
[runs.free.flame]
type = "free"
[runs.cup.flame]
type = "diffusion"
length = 0.03
"""


def test_runs_may_describe_what_the_scene_itself_leaves_open(tmp_path: Path) -> None:
    """The gas is one for both; which flame it burns in, each run says."""
    scene = build_scene(tomllib.loads(JOINT), directory=tmp_path, locate=lambda key: "scene.toml")
    assert {name: world.flame.type for name, world in scene.runs.items()} == {"free": "free", "cup": "diffusion"}  # type: ignore[attr-defined]
    seen = '[observations.s]\ntype = "curve"\nfile = "a.csv"\n'
    with pytest.raises(SceneError, match="a simplified flame has no mechanism"):
        build_scene(tomllib.loads(JOINT + seen), directory=tmp_path, locate=lambda key: "scene.toml")
    with pytest.raises(SceneError, match="a simplified flame has no mechanism"):
        build_scene(
            tomllib.loads(JOINT.split("[runs.cup")[0].replace("free", "free_simple")),
            directory=tmp_path,
            locate=lambda key: "scene.toml",
        )
