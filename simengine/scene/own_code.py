"""Code of one's own beside a scene: `--with FILE.py`. A scene file never imports anything; the command line does."""

import runpy
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from simengine.scene.base import SceneError
from simengine.shown import cut

F = TypeVar("F", bound=Callable[..., Any])
_DETECTORS: dict[str, Callable[..., Any]] = {}
_SCRIPTS: dict[Path, None] = {}


def detector(name: str) -> Callable[[F], F]:
    """Register what makes a detector: a function of `weights=` (text of the scene; "" if it has none).

        @se.detector("mine")
        def mine(weights):
            return MyModule(weights)          # an nn.Module with predict(images) and, for attacks, dense(images)

    Args:
        name: What a scene writes for `detector.architecture`.
    """

    def keep(make: F) -> F:
        _DETECTORS[name] = make
        return make

    return keep


def own_detectors() -> Mapping[str, Callable[..., Any]]:
    """Detectors registered so far, by name."""
    return _DETECTORS


def own_scripts() -> tuple[Path, ...]:
    """Scripts that were run by `--with`, in order."""
    return tuple(_SCRIPTS)


def run_own(scripts: "tuple[Path, ...] | list[Path]") -> None:
    """Run scripts for what they register; only scripts you trust.

    Raises:
        SceneError: A script is missing, or fails; with its line.
    """
    for script in scripts:
        path = Path(script).expanduser()
        if not path.is_file() or path.suffix != ".py":
            raise SceneError(f"--with {script}: expected a Python file that exists")
        path = path.resolve()
        try:
            runpy.run_path(str(path))
        except (KeyboardInterrupt, SceneError):
            raise
        except BaseException as error:  # SystemExit too
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
            where = f"{path}:{lines[-1]}" if lines else str(path)
            raise SceneError(f"{where}: {type(error).__name__}: {cut(str(error))}") from error
        _SCRIPTS[path] = None
