"""Results in a notebook: a line of text, and pictures that show what is in them."""

import base64
import dataclasses
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import simengine as se
from simengine import notebook
from simengine.io.image import to_srgb8
from simengine.mpm import MPMState
from simengine.observe import Curve
from simengine.render import Image
from simengine.solve import Trajectory
from simengine.solve.solution import Result, Solution


def _circles(page: str) -> list[list[tuple[float, float]]]:
    """The centres of the dots of each small picture; the page has to be well-formed."""
    root = ElementTree.fromstring(f"<div>{page}</div>")
    return [[(float(c.get("cx", "")), float(c.get("cy", ""))) for c in svg.iter("circle")] for svg in root.iter("svg")]


def _line(value: object) -> str:
    text = repr(value)
    assert "\n" not in text and len(text) < 200, text
    return text


def test_a_trajectory_shows_its_start_middle_and_end() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) + torch.arange(5.0)[:, None, None] * torch.tensor(
        [0.0, 1.0, 0]
    )
    states = MPMState(x=x, v=x, C=x[..., None].expand(5, 2, 3, 3), F=x[..., None].expand(5, 2, 3, 3), q=x[..., 0])
    trajectory = Trajectory((0, 10, 20, 30, 40), states)
    assert _line(trajectory).startswith("Trajectory(5 of MPMState, steps 0 to 40, x float32 (5, 2, 3)")
    views = _circles(trajectory._repr_html_())
    assert [len(view) for view in views] == [2, 2, 2]
    inner = notebook.SIDE - 2 * notebook.MARGIN
    heights = [(notebook.SIDE - notebook.MARGIN - view[0][1]) / inner for view in views]
    np.testing.assert_allclose(heights, [0.0, 0.5, 1.0], atol=1e-3)  # up in the picture is up
    np.testing.assert_allclose(views[0][1][0] - views[0][0][0], inner / 4, atol=0.1)  # one scale for both axes


def test_states_without_places_are_told_in_words() -> None:
    @dataclasses.dataclass(frozen=True)
    class Swing:
        angle: torch.Tensor

    trajectory = Trajectory((0, 1), Swing(torch.zeros(2)))
    assert "angle float32 (2,)" in _line(trajectory) and "svg" not in trajectory._repr_html_()


def test_an_image_shows_its_pixels() -> None:
    rgb = torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    image = Image(rgb=rgb, alpha=rgb[..., :1], depth=rgb[..., :1])
    assert _line(image) == "Image((2,) of 4 x 5 px, rgb, alpha, depth, torch.float32)"
    found = [base64.b64decode(code) for code in re.findall(r"base64,([^\"]+)", image._repr_html_())]
    assert len(found) == 2
    for png, linear in zip(found, rgb.detach(), strict=True):
        pixels = np.asarray(Pillow.open(io.BytesIO(png)))
        assert np.abs(pixels.astype(int) - to_srgb8(linear).astype(int)).max() <= 1  # rounding at halves


def test_a_solution_says_how_it_ended() -> None:
    solution = Solution(torch.tensor([0.0, 1.0, 4.0]), Result.STAGNATED, {"num_iterations": 7, "error": torch.ones(2)})
    assert _line(solution) == "Solution(STAGNATED, float32 (3,), num_iterations 7)"
    ((a, b, c),) = _circles(solution._repr_html_())
    assert a[0] < b[0] < c[0] and a[1] > b[1] > c[1]
    assert "svg" not in Solution(3.0, Result.SUCCESS, {})._repr_html_()
    hidden = Solution(torch.tensor([float("nan"), 1.0]), Result.NONFINITE, {})
    assert [len(view) for view in _circles(hidden._repr_html_())] == [1]


class Line(se.OwnWorld):
    """y = slope t."""

    parameters: ClassVar = {"slope": se.OwnNumber(1.0, "m/s", gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["slope"] * t})


def test_a_result_shows_what_was_found_and_how_it_fits(tmp_path: Path) -> None:
    rows = [f"{0.1 * k},{0.2 * k + (0.01 if k % 2 else -0.01)}" for k in range(11)]
    (tmp_path / "y.csv").write_text("\n".join(["time [s],y [m]", *rows]) + "\n")
    curve = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma=0.01)
    problem = se.Problem(Line(), observations={"y": curve}, unknowns={"slope": se.Unknown()})
    result = se.identify(problem, progress=False)
    text = _line(result)
    assert text.startswith("FitResult(slope = ") and " m/s; converged after " in text
    page = result._repr_html_()
    assert "<td>slope</td>" in page and "y: predicted over measured" in page
    (view,) = _circles(page)
    assert len(view) == 11


def test_many_points_are_thinned() -> None:
    x = torch.linspace(0, 1, 100_000)
    page = notebook.dots([(x, x)], ["a < b"])
    assert 300 < len(_circles(page)[0]) <= notebook.MOST_POINTS and "a &lt; b" in page


def test_what_was_found_is_predicted_elsewhere_and_a_callback_can_stop(tmp_path: Path) -> None:
    """y = 2 t from one file; another file of the same line, at other times, is predicted by the result."""
    for name, times in {"y": range(11), "z": (1, 4, 9)}.items():
        rows = [f"{0.1 * k},{0.2 * k}" for k in times]
        (tmp_path / f"{name}.csv").write_text("\n".join(["time [s],y [m]", *rows]) + "\n")
    curve = Curve(directory=tmp_path, file="y.csv", columns={"time": "time", "y": "y"}, sigma=0.01)
    problem = se.Problem(Line(), observations={"y": curve}, unknowns={"slope": se.Unknown()})
    seen: list[int] = []

    def stop(iteration: int, figures: Mapping[str, float], estimates: Mapping[str, float]) -> bool:
        seen.append(iteration)
        assert figures["loss"] >= 0 and set(estimates) == {"slope"}
        return len(seen) == 1

    first = se.identify(problem, out=tmp_path / "run", progress=False, callback=stop)
    assert first.interrupted and first.iterations == 1
    result = se.identify(se.Problem(problem.scene), out=tmp_path / "run", progress=False)
    assert result.converged and seen == [1]
    there = result.predict(dataclasses.replace(curve, file="z.csv", name="z"))["z"]
    assert there.values[:, 0].tolist() == pytest.approx([0.2, 0.8, 1.8], rel=1e-3)
    told = json.loads(result.to_json())
    assert len(told["covariance"]) == 1 and told["directions"] == []
    with pytest.raises(ValueError, match="no \\[observations\\]"):
        result.predict(se.scene_of(Line()))


def test_a_flame_shows_its_profiles() -> None:
    flame = se.load_world("free_flame_simple").build()
    from simengine.flame.solver.solve import GridSolver

    found = GridSolver().set_refine_criteria(slope=0.3, curve=0.6).solve(flame).value
    assert _line(found).startswith("FlameSolution(") and "points)" in _line(found)
    views = _circles(found._repr_html_())
    assert len(views) == len(found.flame.fields) and all(len(view) > 5 for view in views)


def test_a_scene_says_in_a_line_what_is_not_as_usual() -> None:
    """Worlds, instruments and unknowns: as one would write them, tensors and long tables cut."""
    unknown = se.Unknown(prior=se.Prior(lognormal=(2.0, 0.5)), lower=1.0)
    assert repr(unknown) == "Unknown(prior=Prior(lognormal=(2.0, 0.5)), lower=1.0)"
    assert repr(Curve(file="pull.csv", columns={"time": "t [s]"}, sigma=0.1)) == (
        "Curve(file='pull.csv', sigma=0.1, columns={'time': 't [s]'})"
    )
    world = repr(se.load_scene("soft_beam").world)
    assert world.startswith("MPMWorld(grid=GridSpec(") and len(world) <= 300 and "\n" not in world
    assert eval(repr(unknown), {"Unknown": se.Unknown, "Prior": se.Prior}) == unknown
