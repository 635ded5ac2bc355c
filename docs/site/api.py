"""Pages of the names that the packages offer, from their docstrings."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import simengine

PACKAGES = (
    "scene",
    "observe",
    "fit",
    "solve",
    "mpm",
    "materials",
    "flame",
    "constraint",
    "render",
    "dtn",
    "io",
    "view",
)
MODULES = {  # offered as modules, not gathered under one name
    "ops": "simengine.ops",
    "fit.certainty": "simengine.fit.certainty",
    "flame.gas": "simengine.flame.gas",
}


def write(source: Path) -> None:
    """Write api/*.rst.

    Args:
        source: Of the site.
    """
    folder = source / "api"
    folder.mkdir()
    top = [name for name in simengine.__all__ if not inspect.ismodule(getattr(simengine, name)) and name[0] != "_"]
    pages = {"simengine": _names("simengine", top, again=True)}
    for package in PACKAGES:
        module = importlib.import_module(f"simengine.{package}")
        pages[package] = _names(
            module.__name__, [n for n in module.__all__ if not inspect.ismodule(getattr(module, n))]
        )
    for name, package in MODULES.items():
        pages[name] = _modules(package)
    for name, text in pages.items():
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
    listed = "\n".join(f"   {name}" for name in pages)
    (folder / "index.rst").write_text(f"{_title('Python')}{INDEX}\n.. toctree::\n\n{listed}\n", encoding="utf-8")


INDEX = """
``import simengine as se`` costs nothing: a package is imported when it is first used. Shapes stand in parentheses,
units in brackets; everything is in SI units, and everything that is a tensor has a gradient unless it says otherwise.
"""


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def _head(module: str) -> str:
    return f"{_title(module)}\n.. automodule:: {module}\n   :no-members:\n\n"


def _names(module: str, names: list[str], *, again: bool = False) -> str:
    """The page of a package; `again` if the names stand on another page too, which links then lead to."""
    package = importlib.import_module(module)
    parts = [_head(module)]
    for name in sorted(names, key=str.lower):
        found = getattr(package, name)
        what = "class" if inspect.isclass(found) else "function" if inspect.isroutine(found) else "data"
        if what == "data":
            parts.append(f".. py:data:: {name}\n   :type: {type(found).__name__}\n   :no-index:\n")
            continue
        options = "   :no-index:\n" if again and name not in ("equation", "detector") else ""
        options += _members(found) if what == "class" else ""
        parts.append(f".. auto{what}:: {module}.{name}\n{options}")
    return "\n".join(parts)


def _members(cls: type) -> str:
    """The option that names the methods and properties that a class itself defines and documents.

    Fields of dataclasses stand under Attributes: in its docstring, and would be told twice.
    """
    kinds = (property, classmethod, staticmethod)
    found = [
        name
        for name, item in vars(cls).items()
        if name[0] != "_" and (inspect.isfunction(item) or isinstance(item, kinds)) and inspect.getdoc(item)
    ]
    return f"   :members: {', '.join(found)}\n" if found else "   :no-members:\n"


def _modules(package: str) -> str:
    root = importlib.import_module(package)
    parts = [_head(package)]
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not info.ispkg:
            module = importlib.import_module(info.name)
            own = [n for n, x in vars(module).items() if n[0] != "_" and getattr(x, "__module__", "") == info.name]
            parts.append(_title(info.name.removeprefix(f"{package}."), "-"))
            parts.append(f".. automodule:: {info.name}\n   :no-members:\n")
            for name in own:
                found = getattr(module, name)
                if (inspect.isclass(found) or inspect.isfunction(found)) and inspect.getdoc(found):
                    what = "class" if inspect.isclass(found) else "function"
                    parts.append(f".. auto{what}:: {info.name}.{name}\n{_members(found) if what == 'class' else ''}")
    return "\n".join(parts)
