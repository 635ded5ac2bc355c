"""A learned operator on a new member of its family."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from simengine.io.arrays import read_npz
from simengine.io.model_folder import Model
from simengine.scene import load_scene
from simengine.scene.base import SceneError
from simengine.worlds.fields.report import relative_error
from simengine.worlds.fields.specs import OperatorLearner
from simengine.worlds.fields.world import ConstraintWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

ANSWER = "u"  # a solution in the file, to compare with


def solve_member(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """Solve members from an npz file: an array for each name that the model reads, (members, ...) or one without.

    Writes what a training's test does: `fields.png`, `profiles.png`, `solution.npz` beside the classical solver's.

    Args:
        model: The operator.
        on: The npz file.
        out: Where pictures and the solution go.

    Raises:
        SceneError: The file does not hold what the model reads.
    """
    scene = load_scene(model.scene)
    world, fit = scene.world, scene.learner
    assert isinstance(world, ConstraintWorld) and isinstance(fit, OperatorLearner)
    try:
        data = read_npz(on)
    except ValueError as error:
        raise SceneError(f"--on {on}: {error}") from None
    members = {name: _taken(data, name, like, on) for name, like in world.problem.solved_for(world.seed).items()}
    backbone, router = world.backbone(fit), world.router(fit)
    tensors = model.tensors()
    for prefix, module in {"backbone.": backbone, "router.": router}.items():
        if module is not None:
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    summary = world.tested(out, fit, backbone, router, members)
    if ANSWER in data:
        found = torch.as_tensor(read_npz(out.path / "solution.npz")["u"])
        answer = torch.as_tensor(data[ANSWER], dtype=torch.float64)
        answer = answer[None] if answer.ndim == found.ndim - 1 else answer
        if answer.shape != found.shape:
            raise SceneError(f"--on {on}: {ANSWER}: expected shape {tuple(found.shape)}, got {tuple(answer.shape)}")
        summary["relative_error_of_the_file"] = relative_error(found, answer).tolist()
    return summary


def _taken(data: dict[str, Any], name: str, like: torch.Tensor, on: Path) -> torch.Tensor:
    if name not in data:
        held = ", ".join(data) or "nothing"
        raise SceneError(f"--on {on}: holds no array {name!r} {tuple(like.shape[1:])}; it holds {held}")
    value = torch.as_tensor(data[name], dtype=torch.float64)
    value = value[None] if value.ndim == like.ndim - 1 else value
    if value.shape[1:] != like.shape[1:] or value.ndim != like.ndim:
        raise SceneError(
            f"--on {on}: {name}: expected shape (members, *{tuple(like.shape[1:])}), got {tuple(value.shape)}"
        )
    if not bool(value.isfinite().all()):
        raise SceneError(f"--on {on}: {name}: a value is not finite")
    return value
