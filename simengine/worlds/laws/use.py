"""A learned law in a new scene."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simengine.fit.problem import Problem
from simengine.fit.report import misfit_report
from simengine.io.model_folder import Model
from simengine.scene import load_scene
from simengine.scene.base import SceneError
from simengine.worlds.motion.materials import Neural
from simengine.worlds.motion.world import MPMWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.scene.base import AbstractWorld


def move_by_law(model: Model, on: Path, out: "RunDirectory") -> dict[str, Any]:
    """Run a scene of kind mpm with the law in every body, each with its own density; its observations are compared.

    Args:
        model: The law.
        on: The scene.
        out: Where states and reports go.

    Raises:
        SceneError: It is no scene of that kind.
    """
    scene = load_scene(on)
    worlds = {run: _with_law(world, model, on) for run, world in scene.runs.items()}
    if scene.observations:
        made = dataclasses.replace(scene, world=_with_law(scene.world, model, on), runs=worlds, unknowns={})
        return misfit_report(Problem(made), out)
    return _with_law(scene.world, model, on).run(out)


def _with_law(world: "AbstractWorld", model: Model, on: Path) -> MPMWorld:
    if not isinstance(world, MPMWorld):
        raise SceneError(f"--on {on}: a law moves scenes of kind mpm, this one is of kind {world.kind!r}")
    bodies = tuple(
        dataclasses.replace(body, material=Neural(density=body.material.density, weights=model.weights))
        for body in world.bodies
    )
    return dataclasses.replace(world, bodies=bodies)
