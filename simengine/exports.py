"""Names that a package offers and imports on first use, so that importing the package costs nothing."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def on_use(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    A block under `TYPE_CHECKING` names the same for editors and type checkers; a test holds the two together.

    Args:
        package: Its name.
        names: What it offers -> the module that defines it; a module that is named like what it offers is meant itself.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(names[name])
        return module if names[name] == f"{package}.{name}" else getattr(module, name)

    return get, lambda: sorted(names)
