"""simengine: a differentiable simulation runtime that finds the parameters behind observations.

Sub-packages are imported on first use, so `import simengine` costs nothing: `simengine.mpm`, `simengine.flame`, ...
"""

import pathlib
from typing import TYPE_CHECKING

from simengine.exports import on_use

if TYPE_CHECKING:  # for editors; a test holds this and the names below together
    import types

    from simengine import (
        cli,
        constraint,
        dtn,
        fit,
        flame,
        io,
        materials,
        mpm,
        observe,
        ops,
        render,
        scene,
        solve,
        view,
        worlds,
    )
    from simengine.fit import Problem
    from simengine.fit.identify import identify, predict
    from simengine.scene import (
        Inference,
        OwnMotion,
        OwnNumber,
        OwnWorld,
        Prior,
        Scene,
        Unknown,
        detector,
        load_scene,
        load_world,
        scene_of,
    )
    from simengine.solve import CheckpointAdjoint, DirectAdjoint, rollout
    from simengine.worlds.fields.equations import equation

    kernels: types.ModuleType  # its sources lie beside the package, and have no types

__version__ = "0.2.0"

_root = pathlib.Path(__file__).resolve().parent.parent
if not (_root / "simengine" / "kernels").exists() and (_root / "kernels" / "__init__.py").exists():
    __path__.append(str(_root))  # a source checkout: kernels/, scenes/ and assets/ lie beside this package

_SUBPACKAGES = (
    *("cli", "constraint", "dtn", "fit", "flame", "io", "kernels", "materials", "mpm"),
    *("observe", "ops", "render", "scene", "solve", "view", "worlds"),
)
_SHORTCUTS = {
    **dict.fromkeys(("Inference", "OwnMotion", "OwnNumber", "OwnWorld", "Prior", "Scene", "Unknown"), "scene"),
    **dict.fromkeys(("load_scene", "load_world", "scene_of", "detector"), "scene"),
    **dict.fromkeys(("Problem", "identify", "predict"), "fit"),
    "equation": "worlds.fields.equations",
    **dict.fromkeys(("rollout", "DirectAdjoint", "CheckpointAdjoint"), "solve"),
}
if not TYPE_CHECKING:  # a checker that sees __getattr__ takes any name
    __getattr__, __dir__ = on_use(
        __name__,
        {name: f"simengine.{name}" for name in _SUBPACKAGES}
        | {name: f"simengine.{package}" for name, package in _SHORTCUTS.items()},
    )
__all__ = [
    "CheckpointAdjoint",
    "DirectAdjoint",
    "Inference",
    "OwnMotion",
    "OwnNumber",
    "OwnWorld",
    "Prior",
    "Problem",
    "Scene",
    "Unknown",
    "__version__",
    "cli",
    "constraint",
    "detector",
    "dtn",
    "equation",
    "fit",
    "flame",
    "identify",
    "io",
    "kernels",
    "load_scene",
    "load_world",
    "materials",
    "mpm",
    "observe",
    "ops",
    "predict",
    "render",
    "rollout",
    "scene",
    "scene_of",
    "solve",
    "view",
    "worlds",
]
