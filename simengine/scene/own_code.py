"""Code of one's own beside a scene: `--with FILE.py`. A scene file never imports anything; the command line does."""

import contextlib
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from simengine.scene.base import SceneError
from simengine.shown import cut

F = TypeVar("F", bound=Callable[..., Any])
_DETECTORS: dict[str, Callable[..., Any]] = {}
_SCRIPTS: dict[Path, None] = {}
_BESIDE: dict[str, Path] = {}  # modules that scripts imported from their own folder -> that folder


@contextlib.contextmanager
def imports_beside(script: Path) -> Iterator[None]:
    """Let a script import the modules that lie beside it, and not those of the same names beside another script."""
    folder = script.resolve().parent
    for name in [name for name, other in _BESIDE.items() if other != folder]:
        sys.modules.pop(name, None)
        del _BESIDE[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the script may have taken it away
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).resolve().is_relative_to(folder):
                _BESIDE[name] = folder


def modules_beside(script: Path) -> list[Path]:
    """Files of the modules that a script imported from its own folder, when it was last run."""
    folder = script.resolve().parent
    found = [sys.modules[name].__file__ for name, other in _BESIDE.items() if other == folder and name in sys.modules]
    return sorted(Path(file).resolve() for file in found if file is not None)


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
