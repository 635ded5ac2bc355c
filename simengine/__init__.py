"""simengine: a differentiable simulation runtime that finds the parameters behind observations.

Sub-packages are imported on first use, so `import simengine` costs nothing: `simengine.mpm`, `simengine.flame`, ...
"""

import importlib
import pathlib
from typing import Any

__version__ = "0.2.0"

_root = pathlib.Path(__file__).resolve().parent.parent
if not (_root / "simengine" / "kernels").exists() and (_root / "kernels" / "__init__.py").exists():
    __path__.append(str(_root))  # a source checkout: kernels/, scenes/ and assets/ lie beside this package

_SUBPACKAGES = frozenset(
    (
        *("cli", "constraint", "dtn", "fit", "flame", "io", "kernels", "materials", "mpm"),
        *("observe", "ops", "render", "scene", "solve", "view", "worlds"),
    )
)
_SHORTCUTS = {
    **dict.fromkeys(("Inference", "OwnMotion", "OwnNumber", "OwnWorld", "Prior", "Scene", "Unknown"), "scene"),
    **dict.fromkeys(("load_scene", "load_world", "detector"), "scene"),
    **dict.fromkeys(("Problem", "identify"), "fit"),
    "equation": "worlds.fields.equations",
    **dict.fromkeys(("rollout", "DirectAdjoint", "CheckpointAdjoint"), "solve"),
}


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"simengine.{name}")
    if name in _SHORTCUTS:
        return getattr(importlib.import_module(f"simengine.{_SHORTCUTS[name]}"), name)
    raise AttributeError(f"module 'simengine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_SHORTCUTS})
