"""What a model gets wrong over places and time: the process against closed forms, and a plate with a wrong edge."""

import importlib
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from simengine.fit.certainty.bars import posterior_of
from simengine.fit.certainty.process import ModelError, alike, course_of, factors_of, spacing_and_span
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.problem import Problem
from simengine.scene import SceneError
from simengine.scene.grammar import build_scene
from simengine.scene.noise import Discrepancy

coverage = importlib.import_module("simengine.benchmarks.coverage")
D = torch.float64
PLACES = [(x, y) for x in (0.1, 0.37, 0.63, 0.9) for y in (0.1, 0.37, 0.63, 0.9)]
TIMES = (0.1, 0.25, 0.4, 0.6)


def scene(text: str, folder: Path) -> Any:
    return build_scene(tomllib.loads(text), directory=folder, locate=lambda key: "scene.toml")


def plate(folder: Path, told: str = "") -> Problem:
    """Sixteen sensors on a plate, four times each."""
    (folder / "plate.csv").write_text(
        "\n".join([",".join(["t", *(f"T{k}" for k in range(16))]), *(f"{t}{',1.0' * 16}" for t in TIMES)]) + "\n"
    )
    return Problem(
        scene(
            f"""
kind = "pde"
[pde]
equation = "heat"
conductivity = 1.2
heat_capacity = 4.0
initial = 50.0
domain = [[0.0, 1.0], [0.0, 1.0]]
duration = 0.6
cells = [24, 12, 12]
[[pde.boundary]]
at = "left"
type = "dirichlet"
value = 0.0
[observations.plate]
type = "samples"
file = "plate.csv"
columns = {{ t = "t", T = "T*" }}
at = {[list(place) for place in PLACES]}
sigma = 0.2
{told}
[unknowns]
"pde.conductivity" = {{}}
""",
            folder,
        )
    )


def ended(problem: Problem) -> LeastSquaresFit:
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    return fit


def test_bars_hold_the_truth_where_an_edge_is_wrong(tmp_path: Path) -> None:
    """The middle of an edge is warm that the model takes for cold; least squares alone is sure of wrong numbers."""
    plain = coverage.judged(*coverage.CASES["plate, an edge wrong"](tmp_path, 0))
    assert not any(plain["noise alone"].values())
    problem, truth = coverage.CASES["plate, an edge wrong, discrepancy over place"](tmp_path, 0)
    found = posterior_of(ended(problem))
    for name, true in truth.items():
        e = found.estimates[name]
        assert e.low is not None and e.high is not None and e.low <= true <= e.high
    assert any(" m and " in line and "times the noise; bars hold it" in line for line in found.directions)


def test_sensors_of_one_quantity_share_a_process_over_places_and_time(tmp_path: Path) -> None:
    problem = plate(tmp_path)
    own, which = problem.measured["plate"], problem.rows("plate")
    course = course_of(problem.instruments["plate"], own, which, Discrepancy(over="place"))
    assert course.count == 1 and len(course.axes) == 2
    sigma = torch.full_like(own.values, 0.2)
    error = ModelError(torch.full((16,), 0.5, dtype=D), (0.3, 0.4), over="place")
    (root,) = factors_of(error, course, sigma, which)
    place = torch.tensor(PLACES, dtype=D).repeat(len(TIMES), 1)
    time = torch.tensor(TIMES, dtype=D).repeat_interleave(len(PLACES))[:, None]
    expected = torch.eye(64, dtype=D) + (0.5 / 0.2) ** 2 * alike(place, 0.3) * alike(time, 0.4)
    torch.testing.assert_close(root @ root.T, expected, rtol=1e-12, atol=1e-12)
    again = ModelError.from_tensor(error.tensor())
    assert again.lengths == error.lengths and again.over == "place" and torch.equal(again.sd, error.sd)
    # a right angle of 3 by 4: its distance, and Matern's in closed form
    far = math.sqrt(5) * 5 / 2
    triangle = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=D)
    assert float(alike(triangle, 2.0)[0, 1]) == pytest.approx((1 + far + far**2 / 3) * math.exp(-far), rel=1e-12)
    near, span = spacing_and_span(torch.tensor(PLACES, dtype=D))
    assert near == pytest.approx(0.27, abs=0.011) and span == pytest.approx(0.8 * math.sqrt(2))


MARKS = """
kind = "rigid"
gravity = [0.0, -9.81, 0.0]
duration = 0.3
[[bodies]]
name = "box"
shape = { type = "sphere", center = [0.0, 2.0, 0.0], radius = 0.2 }
mass = 1.0
spin = [0.0, 0.0, 3.0]
drag = { coefficient = 0.6, density = 1.2 }
[observations.film]
type = "markers"
file = "marks.csv"
on = "box"
sigma = 1e-3
seat_sigma = 2e-3
columns = { time = "t", name = "n", x = "x", y = "y", z = "z" }
discrepancy = true
[observations.film.markers]
a = { at = [0.1, 2.0, 0.0] }
b = { at = [0.0, 2.1, 0.0] }
c = { at = [0.0, 2.0, 0.1] }
[unknowns]
"bodies.box.drag.coefficient" = {}
"""


def marks(folder: Path) -> Problem:
    rows = [
        f"{t},{n},{x + 0.01 * t},{y - 4.9 * t * t},{z}"
        for t in (0.05, 0.1, 0.2, 0.3)
        for n, (x, y, z) in {"a": (0.1, 2.0, 0.0), "b": (0.0, 2.1, 0.0), "c": (0.0, 2.0, 0.1)}.items()
    ]
    (folder / "marks.csv").write_text("t,n,x,y,z\n" + "\n".join(rows) + "\n")
    return Problem(scene(MARKS, folder))


def test_marks_are_off_over_their_seats_and_time(tmp_path: Path) -> None:
    """Columns of seats, which share evaluations, are those of differences of the whitened rows, one by one."""
    problem = marks(tmp_path)
    own, which = problem.measured["film"], problem.rows("film")
    course = course_of(problem.instruments["film"], own, which, Discrepancy())
    assert course.over == "place" and course.count == 3 and len(course.axes) == 2
    problem.errors["film"] = ModelError(torch.full((3,), 2e-3, dtype=D), (0.2, 0.1), over="place")
    z = problem.start()
    r, j = problem.linearise(z)
    assert len(z) == 10
    for k in range(1, len(z)):
        ahead = z.clone()
        ahead[k] += 1e-5
        expected = (problem.residual(ahead) - r) / 1e-5
        torch.testing.assert_close(j[:, k], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    problem = plate(tmp_path)
    own, which = problem.measured["plate"], problem.rows("plate")
    with pytest.raises(SceneError, match=r"observations\.plate\.discrepancy\.over: \"place\" needs three different"):
        course_of(problem.instruments["plate"], own, which & (torch.arange(16) < 2), Discrepancy(over="place"))
    with pytest.raises(SceneError, match=r"discrepancy: needs one abscissa, here are time of several marks"):
        film = marks(tmp_path)
        course_of(film.instruments["film"], film.measured["film"], film.rows("film"), Discrepancy(over="abscissa"))
    with pytest.raises(SceneError, match=r"time: how long an error over places lasts"):
        plate(tmp_path, told="discrepancy = { time = 2.0 }")
    with pytest.raises(SceneError, match="scale: an error over places has none"):
        plate(tmp_path, told='discrepancy = { over = "place", scale = "log" }')
