"""What the packages offer says what its arguments are, and how much of the rest does: the shares may only rise."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import simengine

ROOT = Path(__file__).resolve().parents[1]
ALL = 0.20  # share of all public functions with arguments that tell them; 0.187 when this was first counted
OFFERED = 0.98  # of what `simengine` and its packages offer by `__all__`; all 209 when this was last counted


def tells(text: str | None, arguments: list[str]) -> bool:
    """Whether a docstring has a section of arguments, or names each of them in its text."""
    text = text or ""
    return (
        not arguments
        or bool(re.search(r"^\s*(Args|Attributes):", text, re.MULTILINE))
        or all(re.search(rf"`{re.escape(name)}\b|\b{re.escape(name)} \[", text) for name in arguments)
    )


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and node.name[0] != "_":
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            yield f"{prefix}{node.name}", node


def everywhere() -> dict[str, bool]:
    """Every public function of the sources with arguments -> whether it tells them; verbs tell theirs by --help."""
    found = {}
    for file in sorted((ROOT / "simengine").rglob("*.py")):
        if "cli" not in file.parts:
            for name, node in _functions(ast.parse(file.read_text(encoding="utf-8"))):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments = [a.arg for a in every if a.arg not in ("self", "cls") and a.arg[0] != "_"]
                if arguments:
                    found[f"{file.relative_to(ROOT)}:{name}"] = tells(ast.get_docstring(node), arguments)
    return found


def _arguments(thing: Any) -> list[str]:
    if dataclasses.is_dataclass(thing):
        return [field.name for field in dataclasses.fields(thing) if field.init and field.name[0] != "_"]
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.kind not in loose and p.name[0] != "_"]


def offered() -> dict[str, bool]:
    """Every function and class in an `__all__` -> whether it tells its arguments, a class those of its making."""
    found = {}
    packages = [
        simengine,
        *(getattr(simengine, n) for n in simengine.__all__ if inspect.ismodule(getattr(simengine, n))),
    ]
    for package in packages:
        for name in getattr(package, "__all__", ()):
            thing = getattr(package, name)
            if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, BaseException)):
                told = tells(vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__, _arguments(thing))
                found[f"{package.__name__}.{name}"] = told
    return found


def test_what_is_offered_tells_its_arguments() -> None:
    found = offered()
    silent = [name for name, told in found.items() if not told]
    assert len(found) > 150
    assert 1 - len(silent) / len(found) >= OFFERED, f"of {len(found)} these do not tell their arguments: {silent}"


def test_the_share_of_all_functions_only_rises() -> None:
    found = everywhere()
    share = sum(found.values()) / len(found)
    assert len(found) > 1500 and share >= ALL, f"{share:.3f} of {len(found)} public functions tell their arguments"


def test_a_silent_function_is_seen() -> None:
    assert not tells("Does it.", ["x"]) and tells("Does it.", []) and tells("Does it.\n\nArgs:\n    x: y", ["x"])
    assert tells("Does it to `x`.", ["x"]) and not tells("Does it to `x`.", ["x", "y"])


if __name__ == "__main__":
    for found in (offered(), everywhere()):
        print(sum(found.values()), "of", len(found))
        print("\n".join(name for name, told in found.items() if not told))
