"""Networks for flames from scenes: forward with an ensemble, inverse beside the solver, resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from simengine.fit import fit
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.method import training_of
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, load_world
from simengine.scene.base import SceneError
from simengine.worlds.flames.world import FlameWorld


def _directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", {}, overwrite=False, resume=False)


def test_an_ensemble_is_trained_from_a_scene_and_resumed_bitwise(tmp_path: Path) -> None:
    small = ["network.width=10", "network.cells=24", "network.members=2", "resolution=1e-3"]
    training, other = (load_world("free_flame_network", small).training() for _ in range(2))
    for _ in range(5):  # units and cells are placed anew at the fourth
        training.step()
    other.load_state_dict(training.state_dict())
    assert training.step() == other.step()
    assert not torch.equal(training.members[0].theta, training.members[1].theta)
    summary = training.finish(_directory(tmp_path))
    assert summary["spread"]["flame_speed"] > 0 and len(summary["checks"]) == 2
    assert (tmp_path / "run" / "profiles.png").is_file()
    assert not summary["ok"]  # ten units are too few, and the check says so


def trained(name: str, tmp_path: Path, *changes: str) -> dict[str, Any]:
    training = training_of(Problem(load_scene(name, list(changes))))
    return fit(training, _directory(tmp_path), progress=False).summary


def by_the_solver(name: str, *changes: str) -> dict[str, Any]:
    problem = Problem(load_scene(name, list(changes)))
    training = LeastSquaresFit(problem)
    while not training.converged:
        training.step()
    found = posterior(problem, training.z, problem.predict(training.z)).estimates
    assert isinstance(problem.scene.world, FlameWorld)
    return {problem.scene.world._name_in_flame(c.targets): found[c.name] for c in problem.coordinates}


@pytest.mark.parametrize(("seed", "starts"), [(0, [1]), (3, [2])])
def test_simplified_flame_with_noise_is_found_as_by_the_solver(seed: int, starts: list[int], tmp_path: Path) -> None:
    """Also from first weights that lead to the branch that blows off: then the training begins again."""
    summary = trained("free_flame_simple_network", tmp_path, f"seed={seed}")
    assert summary["starts"] == starts
    for name, e in by_the_solver("free_flame_simple").items():
        # The data say so much and no more; the network differs by less than a fifth of it.
        assert abs(summary[name] - e.value) < 0.2 * e.std, name
        assert summary["std"][name] == pytest.approx(e.std, rel=0.25), name
    assert summary["ok"]
    assert "of one network none is known" in summary["spread"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counterflow_network", "free_flame_methane"])
def test_kinetics_and_transport_are_found_as_by_the_solver(name: str, tmp_path: Path) -> None:
    plain = "counterflow_methane" if name == "counterflow_network" else name
    extra = [] if name == "counterflow_network" else ["network.num_iterations=120", 'inference.method="network"']
    summary = trained(name, tmp_path, *extra)
    for key, e in by_the_solver(plain, "resolution=1e-5").items():
        assert abs(summary[key] - e.value) < 0.2 * e.std, key
        assert summary["std"][key] == pytest.approx(e.std, rel=0.2), key
    assert summary["ok"]


NETWORK = 'inference.method="network"'


@pytest.mark.parametrize(
    ("scene", "changes", "message"),
    [
        ("free_flame_simple", ["network.optimiser='adam'", NETWORK], "trained by 'lm' only"),
        ("free_flame_methane", ['flame.type="burner"', NETWORK], "network: trained for"),
        ("calibrate_methane", [NETWORK], "one observation, profiles against x"),
        ("free_flame_simple", ['observations.profiles.sigma="estimate"', NETWORK], "a network needs a sigma"),
        ("free_flame_simple", ['unknowns."observations.profiles.shift"={ scale = 1e-4 }', NETWORK], "does not seek it"),
        ("free_flame_simple", ['inference.method="networks"'], "did you mean 'network'"),
    ],
)
def test_what_a_network_cannot_do_is_said(scene: str, changes: list[str], message: str) -> None:
    with pytest.raises((SceneError, ValueError), match=message):
        training_of(Problem(load_scene(scene, changes)))
