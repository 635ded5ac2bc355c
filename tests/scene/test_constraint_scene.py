"""Scenes of hard constraints, run and fitted on small grids."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.fit import fit
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved
from simengine.scene.base import SceneError

SMALL = ["problem.nt=41", "problem.nx=64", "experts.rows_per_block=2000"]


def directory(path: Path, scene: object) -> RunDirectory:
    return RunDirectory.create(path, resolved(scene), overwrite=False, resume=True)  # type: ignore[arg-type]


def test_run(tmp_path: Path) -> None:
    scene = load_scene("diffusion_sorption", [*SMALL, "experts.counts=[1,3]"])
    summary = scene.run(directory(tmp_path, scene), device="cpu")
    assert summary["result"] == "SUCCESS" and summary["largest_interface_jump"] < 1e-3
    assert max(summary["relative_error"]) < 5e-3  # dt is 2.5 times that of the scene: 6 times 0.05 %, and some room
    assert {"fields.png", "profiles.png", "solution.npz"} <= {file.name for file in tmp_path.iterdir()}
    with np.load(tmp_path / "solution.npz") as file:
        error = np.linalg.norm(file["u"] - file["reference"]) / np.linalg.norm(file["reference"])
    assert error < 5e-3
    assert scene.check()["experts"] == 3


def test_too_few_snapshots(tmp_path: Path) -> None:
    scene = load_scene("diffusion_sorption", [*SMALL, "snapshots=4"])
    with pytest.raises(SceneError, match="4 solutions do not give"):
        scene.run(directory(tmp_path, scene), device="cpu")


def test_training_improves_and_resumes_bitwise(tmp_path: Path) -> None:
    changes = [*SMALL, "basis_size=6", "fit.iterations=6", "fit.on.nt=21", "fit.on.nx=24", "fit.backbone.width=12"]
    changes += ["fit.optimiser=adam", "fit.fresh=true", "fit.members=3", "fit.learning_rate=5e-3"]
    scene = load_scene("diffusion_sorption", changes)
    torch.manual_seed(5)
    whole = scene.training(device="cpu")
    torch.manual_seed(6)
    result = fit(whole, directory(tmp_path / "whole", scene), progress=False)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert len(result.summary["relative_error"]) == 3
    torch.manual_seed(6)
    first = scene.training(device="cpu")
    torch.manual_seed(6)
    for _ in range(3):
        first.step()
    state, random = first.state_dict(), torch.get_rng_state()
    second = scene.training(device="cpu")
    second.load_state_dict(state)
    torch.set_rng_state(random)
    for _ in range(3):
        second.step()
    ends = zip(whole.state_dict().items(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for (name, a), b in ends if name.startswith("module."))


def test_constants_are_recovered(tmp_path: Path) -> None:
    changes = ["problem.nt=41", "problem.nx=64", "problem.skip=3", "experts.rows_per_block=2000"]
    scene = load_scene("diffusion_sorption_inverse", changes)
    result = fit(scene.training(device="cpu"), directory(tmp_path, scene), progress=False)
    assert result.converged and (tmp_path / "observations.png").is_file()
    summary = result.summary
    for name, truth, guess in (("D", 5e-4, 6e-4), ("k", 3.5e-4, 3e-4)):
        # the standard deviation is 13 %; three of them would prove little, so: nearer than the guess, within one
        assert abs(result.parameters[name] - truth) < min(summary["std"][name], 0.5 * abs(guess - truth))
    assert summary["correlation"][0][1] > 0.99 and summary["conditioning"] > 100  # and the fit says so
    # the retarded diffusivity D/R at u = 0.5 is what the data tell: the noise of 0.2 % leaves it 1 % and better
    pde = scene.build().pde
    u = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def retarded(D: float, k: float) -> float:
        return D / float(torch.autograd.grad(pde.theta(u, k), u)[0])

    found = retarded(result.parameters["D"], result.parameters["k"])
    assert found == pytest.approx(retarded(5e-4, 3.5e-4), rel=1e-2)
