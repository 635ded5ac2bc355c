"""The defaults of what is public are a contract: who leaves an argument out gets the same today as yesterday.

Numbers and switches that public functions, methods and classes of the engine and of its kernels take by default stand
in `data/defaults.txt`; those of the keys of scenes stand in docs/keys.md too. A wanted change is written there anew by
`python tests/test_defaults.py`, and told in CHANGELOG.md: it changes the results of those who did not ask for it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).parent / "data" / "defaults.txt"


def _numbers(node: ast.expr | None) -> bool:
    """Whether an expression is made of numbers and switches alone."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and all(_numbers(item) for item in node.elts)
    if isinstance(node, ast.BinOp):
        return _numbers(node.left) and _numbers(node.right)
    return isinstance(node, ast.UnaryOp) and _numbers(node.operand)


def _defaults(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted name and text of each default, of what does not begin with an underscore."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] == "_" and node.name != "__init__":
            continue
        if isinstance(node, ast.ClassDef):
            yield from _defaults(node.body, f"{prefix}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            own = node.args
            ordered = [*own.posonlyargs, *own.args]
            pairs = [*zip(ordered[len(ordered) - len(own.defaults) :], own.defaults, strict=True)]
            for argument, value in [*pairs, *zip(own.kwonlyargs, own.kw_defaults, strict=True)]:
                if value is not None and _numbers(value):
                    yield f"{prefix}.{node.name}({argument.arg})", ast.unparse(value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None and _numbers(node.value):
            name = ast.unparse(node.target)
            if name[0] != "_":
                yield f"{prefix}.{name}", ast.unparse(node.value)


def defaults() -> list[str]:
    """A line for each default of the sources."""
    found = []
    for folder in ("simengine", "kernels"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found += [f"{key} = {value}" for key, value in _defaults(ast.parse(file.read_text("utf-8")).body, name)]
    return found


def test_defaults_are_as_they_were() -> None:
    kept, found = set(KEPT.read_text(encoding="utf-8").splitlines()), set(defaults())
    names = {line.partition(" = ")[0] for line in kept}
    new = [line for line in sorted(found - kept) if line.partition(" = ")[0] in names]
    assert not new, "these defaults have changed; if it is wanted: python tests/test_defaults.py, and CHANGELOG.md"
    gone = {line.partition(" = ")[0] for line in kept} - {line.partition(" = ")[0] for line in found}
    assert len(gone) < 0.2 * len(names) and len(names) > 0.8 * len(found), "the table is old: write it anew"


if __name__ == "__main__":
    KEPT.write_text("\n".join(sorted(defaults())) + "\n", encoding="utf-8")
