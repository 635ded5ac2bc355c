"""Axes that can be read: a unit at the abscissa, and labels that do not touch."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simengine.fit import observed
from simengine.fit.problem import Problem
from simengine.scene import load_scene
from simengine.view import figures

SCENE = """
kind = "specimen"
size = { length = 0.05, area = 2e-5 }
test.type = "uniaxial"
material = { type = "ogden", mu = [3e5], alpha = [2.0], nu = 0.5 }
[observations.pull]
type = "curve"
file = "pull.csv"
against = "extension"
columns = { extension = "way [mm]", force = "load [N]" }
sigma = 0.01
[unknowns]
"material.mu" = { prior.lognormal = 1.0 }
"""


def test_an_abscissa_has_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pull.csv").write_text("way [mm],load [N]\n0.5,0.24\n1.5,0.71\n2.5,1.14\n")
    (tmp_path / "s.toml").write_text(SCENE)
    problem = Problem(load_scene(tmp_path / "s.toml"))
    labels: list[str] = []

    def curves(panels: Any, *, xlabel: str, **rest: Any) -> np.ndarray:
        labels.append(xlabel)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(observed, "curves", curves)
    observed.observation_blocks(problem, problem.predict(problem.start())["pull"])
    assert labels == ["extension [m]", "extension [m]"]


@pytest.mark.parametrize("length", [2.5e-5, 1e-3, 0.0025, 0.3, 7.0, 4e4, 3e7])
@pytest.mark.parametrize("panels", [1, 4])
def test_labels_of_ticks_do_not_touch(length: float, panels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps: list[float] = []

    def measured(figure: Any) -> np.ndarray:
        figure.canvas.draw()
        for axis in figure.axes:
            low, high = axis.get_xlim()
            shown = [t.label1 for t in axis.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
            boxes = [label.get_window_extent() for label in shown]
            assert len(boxes) >= 3
            gaps.extend(b.x0 - a.x1 for a, b in itertools.pairwise(boxes))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(figures, "_pixels", measured)
    x = np.linspace(0.0, length, 5)
    figures.curves({f"y{k}": {"a": (x, x)} for k in range(panels)}, xlabel="extension [m]")
    assert min(gaps) > 5  # [px], about a digit


def test_a_problem_prints_as_a_line(tmp_path: Path) -> None:
    (tmp_path / "pull.csv").write_text("way [mm],load [N]\n0.5,0.24\n1.5,0.71\n")
    (tmp_path / "s.toml").write_text(SCENE)
    told = repr(Problem(load_scene(tmp_path / "s.toml")))
    assert told == "Problem('specimen': seeks material.mu; sees pull (2 values))"
