"""Packages that only some features need; without one the feature says so in a line, and nothing else suffers."""

import importlib
from typing import Any


def extra(module: str, *, of: str, what: str) -> Any:
    """A module that an extra of this package installs.

    Args:
        module: Its name.
        of: The extra, as in pyproject.toml.
        what: What asks for it, as the message begins.

    Raises:
        RuntimeError: It is not installed; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise RuntimeError(f"{what} needs {package}: pip install 'simengine[{of}]'") from error
