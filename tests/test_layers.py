"""The layer rule of docs/architecture.md, read off the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVEL = {
    "kernels": 0,
    "ops": 1,
    "solve": 2,
    **dict.fromkeys(("materials", "mpm", "flame", "constraint", "render", "dtn"), 3),
    **dict.fromkeys(("scene", "fit"), 4),
    "cli": 5,
}
AREAS = {name for name, level in LEVEL.items() if level == 3}
ALLOWED_BETWEEN_AREAS = {("mpm", "materials"), ("dtn", "render")}
DATA_ONLY = {"io", "view"}  # take arrays and dicts, never models


def _imports(path: Path) -> set[str]:
    """The packages of simengine that a file imports, type-checking blocks left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name.split(".")[1] for name in names if name.startswith("simengine."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & (set(LEVEL) | DATA_ONLY)


def _modules() -> list[tuple[str, Path]]:
    modules = [(path.parent.name, path) for path in sorted((ROOT / "simengine").glob("*/*.py"))]
    return modules + [("kernels", path) for path in sorted((ROOT / "kernels").glob("*.py"))]


@pytest.mark.parametrize(("package", "path"), _modules(), ids=lambda value: getattr(value, "stem", value))
def test_imports_go_down(package: str, path: Path) -> None:
    for other in _imports(path) - {package}:
        if package in DATA_ONLY:
            assert other in DATA_ONLY, f"{path.name}: {package} takes arrays, and must not import {other}"
        elif other in DATA_ONLY:
            assert LEVEL[package] >= 4, f"{path.name}: {package} must not write files or draw ({other})"
        elif {package, other} <= AREAS:
            assert (package, other) in ALLOWED_BETWEEN_AREAS, f"{path.name}: {package} must not import {other}"
        else:
            assert LEVEL[other] <= LEVEL[package], f"{path.name}: {package} must not import {other}, a layer above"


def test_kernels_import_only_kernel_languages() -> None:
    for path in (ROOT / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if node.level == 0 else []
            else:
                continue
            for name in names:
                allowed = ("warp", "taichi", "simengine.kernels", "typing", "types", "functools", "math")
                assert name.startswith(allowed), f"{path.name} imports {name}"
