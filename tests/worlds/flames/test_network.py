"""Networks for flames from scenes: forward with an ensemble, inverse beside the solver, resumed."""

from pathlib import Path

import pytest
import torch

from simengine.fit import fit
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_world
from simengine.scene.base import SceneError


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


def test_simplified_flame_without_noise_comes_back(tmp_path: Path) -> None:
    scene = load_world("free_flame_simple_network", ["fit.noise=0.0", "network.num_iterations=24"])
    summary = fit(scene.training(), _directory(tmp_path), progress=False).summary
    for name, value in {"lam": 2.6e-2, "Ea": 1.214172e5, "flame_speed": 0.29278611206}.items():
        assert summary[name] == pytest.approx(value, rel=1e-4), name
    assert summary["ok"] and summary["relative_l2"]["T"] < 1e-4
    assert "of one network none is known" in summary["spread"]


def test_simplified_flame_with_noise_is_found_as_by_the_solver(tmp_path: Path) -> None:
    summary = fit(load_world("free_flame_simple_network").training(), _directory(tmp_path), progress=False).summary
    solver = load_world("free_flame_simple").training()
    while not solver.converged:
        solver.step()
    known = solver.uncertainty()["std"]
    for name, value in solver.parameters.values().items():
        # The data say so much and no more; the network differs by less than a fifth of it.
        assert abs(summary[name] - value) < 0.2 * known[name], name
        assert summary["std"][name] == pytest.approx(known[name], rel=0.25), name
    assert summary["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counterflow_network", "free_flame_methane"])
def test_kinetics_and_transport_are_found_as_by_the_solver(name: str, tmp_path: Path) -> None:
    plain = "counterflow_methane" if name == "counterflow_network" else name
    extra = [] if name == "counterflow_network" else ["network.num_iterations=40"]
    summary = fit(load_world(name, extra).training(), _directory(tmp_path), progress=False).summary
    solver = load_world(plain, ["resolution=1e-5"]).training()
    while not solver.converged:
        solver.step()
    known = solver.uncertainty()["std"]
    for key, value in solver.parameters.values().items():
        assert abs(summary[key] - value) < 0.2 * known[key], key
        assert summary["std"][key] == pytest.approx(known[key], rel=0.2), key
    assert summary["ok"]


@pytest.mark.parametrize(
    ("scene", "changes", "message"),
    [
        ("free_flame_simple", ["network.optimiser='adam'"], "trained by 'lm' only"),
        ("free_flame_simple", ["network.width=6", "fit.parameters.viscosity={ initial = 1.0 }"], "viscosity"),
        ("free_flame_network", ["flame.type='burner'"], "network: trained for"),
        ("calibrate_methane", ["network.width=6"], "remove the network"),
    ],
)
def test_what_a_network_cannot_do_is_said(scene: str, changes: list[str], message: str) -> None:
    with pytest.raises((SceneError, ValueError), match=message):
        load_world(scene, changes).training()
