"""A search that begins on a coarser grid: the same answer, from fewer solves of the scene's own."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.problem import Problem
from simengine.scene import SceneError
from simengine.scene.grammar import build_scene
from simengine.worlds.fields.pde import PDEWorld

ROD = """
kind = "pde"
[pde]
equation = "heat"
conductivity = 8.0
heat_capacity = 4.0
convection = { h = 0.5, perimeter_per_area = 2.0, ambient = 0.0 }
initial = 50.0
domain = [[0.0, 1.0]]
duration = 0.6
cells = [120, 60]
[[pde.boundary]]
at = "both"
type = "dirichlet"
value = 0.0
[observations.rod]
type = "samples"
file = "rod.csv"
columns = { t = "t", T = "T*" }
at = [[0.2], [0.5], [0.7]]
sigma = 0.3
[inference]
MORE
[unknowns]
"pde.conductivity" = {}
"pde.convection.h" = {}
"""


def rod(folder: Path, more: str = "", text: str = ROD) -> Problem:
    lines = ["t,T0,T1,T2", *(f"{t},1.0,1.0,1.0" for t in (0.05, 0.1, 0.2, 0.3, 0.45, 0.6))]
    (folder / "rod.csv").write_text("\n".join(lines) + "\n")
    scene = build_scene(tomllib.loads(text.replace("MORE", more)), directory=folder, locate=lambda key: "scene.toml")
    problem = Problem(scene)
    truth = Problem(
        build_scene(
            tomllib.loads(text.replace("MORE", "").replace("= 8.0", "= 1.0").replace("h = 0.5", "h = 3.0")),
            directory=folder,
            locate=lambda key: "scene.toml",
        )
    )
    noise = 0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = truth.predict()["rod"].values + noise
    problem.measured["rod"] = dataclasses.replace(problem.measured["rod"], values=values)
    return problem


def cells_solved(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> tuple[LeastSquaresFit, dict[int, int]]:
    """A fit to its end, and how often a world of so many cells was solved."""
    seen: dict[int, int] = {}
    solve = PDEWorld.solve

    def counted(world: Any, *asks: Any, **more: Any) -> Any:
        cells = world.pde.cells[-1]
        seen[cells] = seen.get(cells, 0) + 1
        return solve(world, *asks, **more)

    monkeypatch.setattr(PDEWorld, "solve", counted)
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    monkeypatch.undo()
    return fit, seen


def test_a_search_begins_on_a_coarser_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, often = cells_solved(rod(tmp_path), monkeypatch)
    coarse, seen = cells_solved(rod(tmp_path, "coarse = 4"), monkeypatch)
    assert set(often) == {60} and set(seen) == {15, 60}
    assert seen[60] < 0.7 * often[60]
    _, j = plain.problem.linearise(plain.z)
    assert float((j @ (coarse.z - plain.z)).square().sum()) < 1e-2  # of chi-square


def test_a_coarse_search_resumes_to_the_bit(tmp_path: Path) -> None:
    first = LeastSquaresFit(rod(tmp_path, "coarse = 4"))
    for _ in range(3):
        first.step()
    state = {name: value.clone() for name, value in first.state_dict().items()}
    again = LeastSquaresFit(rod(tmp_path, "coarse = 4"))
    again.load_state_dict(state)
    for fit in (first, again):
        while not fit.converged:
            fit.step()
    assert torch.equal(first.z, again.z)


def test_a_grid_that_cannot_be_coarser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"coarse: .*above 1"):
        rod(tmp_path, "coarse = 1.0")
    specimen = """
kind = "specimen"
material = { type = "paste", E = 1e3, nu = 0.4, yield_stress = 4.0, consistency = 2.5, exponent = 0.55 }
test.type = "steady_shear"
[observations.flow]
type = "curve"
against = "shear_rate"
file = "flow.csv"
columns = { shear_rate = "rate", shear_stress = "stress" }
sigma = 0.1
[inference]
coarse = 2
[unknowns]
"material.yield_stress" = {}
"""
    (tmp_path / "flow.csv").write_text("rate,stress\n0.1,5\n1,8\n10,14\n")
    scene = build_scene(tomllib.loads(specimen), directory=tmp_path, locate=lambda key: "scene.toml")
    with pytest.raises(SceneError, match=r"inference\.coarse: "):
        LeastSquaresFit(Problem(scene))
