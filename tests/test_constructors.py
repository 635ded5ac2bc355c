"""A constructor takes at most eight parameters; what belongs together is a frozen table of settings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST = 8
# A model is said in one line, by keywords of which most have a default; two tables more (a grid, its particles) would
# only name what `num_grids=`, `dt=`, `volume=`, `mass=` name already.
STAYS = {"simengine/mpm/model.py:MPMModel": 12}


def _constructors(source: str) -> dict[str, int]:
    """Written-out constructors of a module and how many parameters each has, without `self`."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                own = item.args
                found[node.name] = len([*own.posonlyargs, *own.args, *own.kwonlyargs]) - 1
    return found


def test_parameters_are_counted() -> None:
    source = "class A:\n    def __init__(self, a, /, b, *, c=1, **d): ...\n    class B:\n        def __init__(s): 0"
    assert _constructors(source) == {"A": 3, "B": 0}


@pytest.mark.parametrize("folder", ["simengine", "kernels"])
def test_constructors_take_few_parameters(folder: str) -> None:
    counted = {
        f"{path.relative_to(ROOT)}:{name}": count
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, count in _constructors(path.read_text(encoding="utf-8")).items()
    }
    assert counted or folder == "kernels"
    many = {name: count for name, count in counted.items() if count > MOST}
    assert many == {name: count for name, count in STAYS.items() if name.startswith(folder)}
