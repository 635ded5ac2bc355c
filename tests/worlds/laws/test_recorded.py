"""A law from a motion in a file, beside the formula by which an independent program made that motion."""

from pathlib import Path

import pytest
import torch

from simengine import materials
from simengine.fit.trainings.learned import learning_of
from simengine.io.model_folder import read_model
from simengine.io.run_directory import RunDirectory
from simengine.materials.weights import load_material
from simengine.scene import SceneError, load_scene
from simengine.scene.loader import resolved

SHORT = ("observations.particles.hold_out=0.7",)  # .15 s are learned from


def test_the_law_of_another_programs_motion(tmp_path: Path) -> None:
    """Every tenth step of NCLaw's reference simulator; its jelly is E = 1e5 Pa, nu = .2 (fixed corotated)."""
    scene = load_scene("law_from_motion", SHORT)
    out = RunDirectory.create(tmp_path / "run", resolved(scene), overwrite=False, resume=False)
    training = learning_of(scene)
    while not training.converged:
        training.step()
    summary = training.finish(out)
    assert summary["position_rms"] < 0.01 * summary["moved_rms"]
    # .35 s more are not learned from; there the distance grows, and is still that of a law 5 % off at most
    assert summary["position_rms"] < summary["held_out_position_rms"] < 0.05 * summary["moved_rms"]
    model = read_model(tmp_path / "run")
    learned, true = load_material(model.weights), materials.jelly(E=1e5, nu=0.2)
    H = torch.randn(200, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    H = 0.05 * (H + H.mT) / torch.linalg.matrix_norm(H + H.mT)[:, None, None]
    F = torch.matrix_exp(H)
    with torch.no_grad():
        off = learned.elasticity(F.float()).double() - true.elasticity(F)
    assert float(off.norm() / true.elasticity(F).norm()) < 0.05  # at a strain of .05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bodies.jelly.velocity=[0.0, 0.0, 0.0]", r"bodies\.0\.velocity: the ways in the file start at \[1"),
        ("bodies.jelly.velocity=[1.0, -1.5, -1.1]", r"0\.52 m/s from what velocity"),
        ("bodies.jelly.shape.counts=[5, 5, 5]", r"bodies\.0\.shape: 125 particles, and the file follows 1000"),
        ("training.epochs=3", r"training\.epochs: a file tells one motion by its positions"),
        ("examples.observe='states'", r"examples\.observe: a file tells"),
    ],
)
def test_what_a_recording_has_to_be(change: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        learning_of(load_scene("law_from_motion", [change]))


def test_a_start_that_is_told_roughly_is_taken() -> None:
    """By a tenth of the speed; the end of a spline through what was seen is no better."""
    learning_of(load_scene("law_from_motion", ["bodies.jelly.velocity=[1.0, -1.5, -1.7]"]))
