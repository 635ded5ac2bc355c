"""A global search on misfits whose slopes lead astray: a frequency among many local minima, and two answers."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.trainings.search import basins
from simengine.observe import Curve
from simengine.scene import SceneError
from simengine.scene.base import Refused

pytest.importorskip("optuna")


class Swing(se.OwnWorld):
    """y = sin(frequency t), with no run beyond a frequency of 45, and the same of a distance from 20."""

    parameters: ClassVar = {"frequency": se.OwnNumber(3.0), "from_twenty": se.OwnNumber(3.0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 10.0, 201, dtype=torch.float64)
        if float(values["frequency"]) > 45:
            raise Refused("frequency: too fast")
        scalars = {"y": (values["frequency"] * t).sin(), "both": ((values["from_twenty"] - 20.0).abs() * t).sin()}
        return se.OwnMotion(t, scalars=scalars)


def _problem(folder: Path, column: str, name: str, **inference: Any) -> Problem:
    t = np.linspace(0, 10, 201)
    y = np.sin(7.0 * t) + 0.05 * np.random.default_rng(3).standard_normal(201)
    text = "\n".join([f"time [s],{column}", *(f"{a},{b}" for a, b in zip(t, y, strict=True))])
    (folder / f"{column}.csv").write_text(text, encoding="utf-8")
    curve = Curve(directory=folder, file=f"{column}.csv", columns={"time": "time", column: column}, sigma=0.05)
    unknowns = {name: se.Unknown(prior=se.Prior(normal=(20.0, 10.0)), initial=20.5)}
    chosen = se.Inference(stages=(1.0,), **inference)
    return Problem(Swing(), observations={"o": curve}, unknowns=unknowns, inference=chosen)


def _ended(training: Any) -> Any:
    for _ in range(3000):
        if training.converged:
            return training
        training.step()
    raise AssertionError("no end")


def test_what_gradients_do_not_find_is_found(tmp_path: Path) -> None:
    alone = _ended(training_of(_problem(tmp_path, "y", "frequency", starts=3)))
    found = _ended(training_of(_problem(tmp_path, "y", "frequency", starts=3, search=120)))
    frequency = found.minima[0].values["frequency"]
    assert frequency == pytest.approx(7.0, abs=2e-3) and found.minima[0].misfit < 300
    assert alone.minima[0].misfit > 10 * found.minima[0].misfit, "this misfit misleads no gradients"


def test_two_basins_are_two_answers(tmp_path: Path) -> None:
    found = _ended(training_of(_problem(tmp_path, "both", "from_twenty", starts=6, search=200)))
    answers = sorted(m.values["from_twenty"] for m in found.minima if m.answer)
    assert answers == pytest.approx([13.0, 27.0], abs=2e-3)


def test_a_search_goes_on_where_it_was_left(tmp_path: Path) -> None:
    def made() -> Any:
        return training_of(_problem(tmp_path, "y", "frequency", starts=3, search=25))

    whole, states = made(), []
    while not whole.converged:
        states.append({k: v.clone() for k, v in whole.state_dict().items()})
        whole.step()
    tried = [k for k, state in enumerate(states) if 0 < len(state["trials.heights"]) < 25]
    assert len(tried) == 24
    for k in (0, tried[3], tried[-1], len(states) - 1):
        again = made()
        again.load_state_dict(states[k])
        _ended(again)
        assert torch.equal(again.z, whole.z)
        assert [m.misfit for m in again.minima] == [m.misfit for m in whole.minima]
    assert bool(whole.state_dict()["trials.heights"].isinf().any()), "no place without a run was tried"


def test_a_large_seed_is_one_that_the_sampler_takes(tmp_path: Path) -> None:
    problem = _problem(tmp_path, "y", "frequency", starts=2, search=2)
    own = dataclasses.replace(problem.scene, world=Swing(seed=2**31))
    training = training_of(Problem(own))
    training._trials.step()
    assert len(training._trials) == 1


def test_basins_are_the_lowest_of_their_neighbours() -> None:
    x = torch.linspace(0, 1, 41, dtype=torch.float64)[:, None]
    heights = torch.cos(4 * torch.pi * x[:, 0]) + 0.1 * x[:, 0]
    assert basins(x, heights) == [10, 30]
    assert basins(x[:1], heights[:1]) == [0]


def test_what_a_search_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="search: it finds where further starts begin; give starts too, 4 say"):
        se.Inference(search=10)
    problem = _problem(tmp_path, "y", "frequency", starts=2, search=3)
    own = dataclasses.replace(problem.scene, inference=dataclasses.replace(problem.scene.inference, method="other"))
    with pytest.raises(SceneError, match=r"inference\.search: only numbers found by least squares"):
        training_of(Problem(own))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SceneError, match=r"inference\.search: needs optuna: pip install 'simengine\[search\]'"):
        training_of(problem)


def test_a_world_without_a_run_ends_the_search_in_a_line(tmp_path: Path) -> None:
    problem = _problem(tmp_path, "y", "frequency", starts=2, search=3)
    training = training_of(problem)

    def none(z: torch.Tensor) -> float:
        raise SceneError("no run")

    training._trials._height = none
    with pytest.raises(SceneError, match=r"inference\.search: the world has no run at 3 places in the priors"):
        _ended(training)
