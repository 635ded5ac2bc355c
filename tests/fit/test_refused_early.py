"""What would stop a fit, or its answer, is told before anything is solved: a file of a machine, spoilt in many ways."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch

import simengine as se
from simengine.fit.method import training_of
from simengine.fit.posterior import Estimate
from simengine.fit.preflight import check_observations
from simengine.fit.problem import Problem
from simengine.fit.report import reference_rows
from simengine.observe import Curve
from simengine.scene import SceneError, load_scene

CSV = "Protokoll Nr. 7\nZeit;Weg;Kraft\ns;mm;N\n0;0,5;0,24\n1;1,5;0,71\n2;2,5;1,14\n"
SCENE = """
kind = "specimen"
size = { length = 0.05, area = 2e-5 }
test.type = "uniaxial"
material = { type = "ogden", mu = [3e5], alpha = [2.0], nu = 0.5 }
[observations.zug]
type = "curve"
file = "zug.csv"
against = "extension"
columns = { extension = "Weg", force = "Kraft" }
sigma = { relative = 0.01 }
[unknowns]
"material.mu" = { prior.lognormal = 1.0 }
"""
SIGMA = "sigma = { relative = 0.01 }"


def training(folder: Path, scene: str = SCENE, csv: str = CSV):
    (folder / "zug.csv").write_text(csv)
    (folder / "s.toml").write_text(scene)
    return training_of(Problem(load_scene(folder / "s.toml")))


def test_the_file_as_it_is_begins(tmp_path: Path) -> None:
    fit = training(tmp_path)
    assert float(fit.problem.measured["zug"].values[2, 0]) == pytest.approx(1.14)
    assert fit.step()["loss"] > 0


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (SIGMA, "sigma = 0.0", r"observations\.zug\.sigma: it is 0 for 3 values"),
        (SIGMA, "sigma = -1.0", r"observations\.zug\.sigma: expected a number at least 0 or a string, got -1\.0"),
        (SIGMA, "sigma = nan", r"observations\.zug\.sigma: expected a finite number or a string, got nan"),
        (SIGMA, f'{SIGMA}\ngain = "zwei"', r"observations\.zug\.gain: expected a number or a list, got 'zwei'"),
        (SIGMA, f"{SIGMA}\nhold_out = true", r"nothing is left to fit; everything is held out"),
        (
            '"Kraft"',
            '"Kraft [kg]"',
            r"zug: force is told in kg; it has to be in N .*HEADER, unit = 9\.80665 \}",
        ),
        ('"Weg"', '"Weg [s]"', r"observations\.zug: extension is told in s; it has to be in m .*unit = FACTOR"),
        ("[unknowns]", "[inference]\nrefine = 2.0\n[unknowns]", r"inference\.refine: a world of kind 'specimen'"),
        ("[unknowns]", '[inference]\nreport = ["force"]\n[unknowns]', r"inference.*report: it never told anything"),
        (
            "[unknowns]",
            '[reference]\n"material.my" = 3e5\n[unknowns]',
            r"reference\.material\.my: .*mean 'material\.mu\.0'",
        ),
        (
            "[unknowns]",
            '[reference]\n"material.mu.0" = [1, 2]\n[unknowns]',
            r"reference.*: 2 numbers for 1",
        ),
        ("[unknowns]", '[derived]\n"G [Pa]" = "material.mu.0 * ("\n[unknowns]', r"derived\.G \[Pa\]: .* no arithmetic"),
    ],
)
def test_a_spoilt_scene_in_one_line(tmp_path: Path, old: str, new: str, match: str) -> None:
    with pytest.raises(SceneError, match=match) as told:
        training(tmp_path, SCENE.replace(old, new))
    assert "\n" not in str(told.value)


def test_a_word_among_decimal_commas_is_the_one_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"columns\.force: zug\.csv: .*row 1: 'kaputt' is no number"):
        training(tmp_path, csv=CSV.replace("0,71", "kaputt"))


def test_a_load_of_zero_has_no_relative_error(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"observations\.zug\.sigma: it is 0 for 1 values"):
        training(tmp_path, csv=CSV.replace("0,24", "0"))


def test_a_reference_may_spell_its_number_otherwise(tmp_path: Path) -> None:
    """An entry of a vector for the vector, or the other way round; a number that is not sought stays."""
    scene = SCENE.replace("mu = [3e5], alpha = [2.0]", "mu = [3e5, 1e3], alpha = [2.0, 4.0]")
    for table in ('"material.mu" = [1.0, 2.0]', '"material.mu.0" = 1.0\n"material.mu.1" = 2.0'):
        problem = training(tmp_path, f'{scene}[reference]\n{table}\n"material.nu" = 0.5\n').problem
        four = Estimate(value=4.0, std=0.5, low=3.0, high=5.0, unit="Pa", identified=True)
        rows = reference_rows(problem, {c.name: four for c in problem.coordinates})
        assert [(value, off) for _, value, off in rows] == [(1.0, 6.0), (2.0, 4.0)]
        assert problem.scene.reference["material.nu"] == 0.5


def test_a_load_in_kilograms_is_a_force_by_its_factor(tmp_path: Path) -> None:
    scene = SCENE.replace('force = "Kraft"', 'force = { column = "Kraft", unit = 9.80665 }')
    fit = training(tmp_path, scene, CSV.replace(";N", ";kg"))
    assert float(fit.problem.measured["zug"].values[2, 0]) == pytest.approx(1.14 * 9.80665)


def test_a_title_may_have_as_many_cells_as_headers(tmp_path: Path) -> None:
    fit = training(tmp_path, csv=CSV.replace("Protokoll Nr. 7", "Protokoll;Nr. sieben;geprueft"))
    assert fit.problem.measured["zug"].values[:, 0].tolist() == pytest.approx([0.24, 0.71, 1.14])


def test_check_says_what_would_stop_the_fit(tmp_path: Path) -> None:
    training(tmp_path)
    (tmp_path / "s.toml").write_text(SCENE + '[inference]\nmethod = "netwrk"\n')
    with pytest.raises(SceneError, match=r"inference\.method: 'netwrk' is none of this scene"):
        check_observations(Problem(load_scene(tmp_path / "s.toml")))


class Rise(se.OwnWorld):
    """y = b t."""

    parameters: ClassVar = {"b": se.OwnNumber(1.0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["b"] * t})


def test_check_judges_all_the_data_and_not_those_of_the_first_stage(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("time,y\n" + "".join(f"{k / 10},{k * k / 60}\n" for k in range(11)))
    curve = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma="estimate")
    told = []
    for stages in ((), (0.3, 1.0)):
        problem = Problem(
            Rise(),
            observations={"o": curve},
            unknowns={"b": se.Unknown(prior=se.Prior(normal=(1.0, 1.0)))},
            inference=se.Inference(stages=stages),
        )
        told.append(check_observations(problem)["told"])
    assert told[0] == told[1]
