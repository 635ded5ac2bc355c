"""Single changes of lines that bear a meaning: all that a file offers, and a draw of them."""

import ast
import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

AREAS = {
    "ops": ("simengine/ops",),
    "mpm": ("simengine/mpm",),
    "motion": ("simengine/worlds/motion",),
    "laws": ("simengine/worlds/laws", "simengine/materials"),
    "flames": ("simengine/worlds/flames", "simengine/flame"),
    "solve": ("simengine/solve",),
    "fit": ("simengine/fit",),
    "observe": ("simengine/observe",),
    "scene": ("simengine/scene",),
    "render": ("simengine/render",),
    "objects": ("simengine/worlds/objects",),
    "detectors": ("simengine/worlds/detectors", "simengine/dtn"),
    "fields": ("simengine/worlds/fields", "simengine/constraint"),
    "io": ("simengine/io",),
    "view": ("simengine/view",),
    "kernels": ("kernels",),
}
SWAPS = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}
SILENT = {"print", "warn", "debug", "info", "log", "Literal", "Panel", "Column"}  # calls and types that tell a reader


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Attributes:
        area: Key of `AREAS`.
        path: Of the file, from the root.
        line: Where it begins.
        kind: What was changed.
        within: Names of the class and function around it.
        old: Text of the statement's first line before, and `new` after.
        start: Offset of the first changed letter, and `end` after the last.
        text: What stands there instead.
    """

    area: str
    path: str
    line: int
    kind: str
    within: tuple[str, ...]
    old: str
    new: str
    start: int
    end: int
    text: str


def mutations(area: str, path: Path, root: Path) -> Iterator[Mutation]:
    """All mutations of a file below `root` that are known here."""
    source = path.read_text(encoding="utf-8")
    starts = [0]
    for row in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    raw = source.encode()

    def span(node: ast.AST) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def text(node: ast.AST) -> str:
        begin, end = span(node)
        return raw[begin:end].decode()

    def made(kind: str, within: tuple[str, ...], begin: int, end: int, new: str) -> Mutation:
        left, right = raw.rfind(b"\n", 0, begin) + 1, raw.find(b"\n", end)
        line = raw.count(b"\n", 0, begin) + 1
        before, after = raw[left:right], raw[left:begin] + new.encode() + raw[end:right]
        name = path.relative_to(root).as_posix()
        return Mutation(area, name, line, kind, within, before.decode(), after.decode(), begin, end, new)

    def between(left: ast.AST, right: ast.AST, old: str, new: str) -> tuple[int, int, str] | None:
        begin, end = span(left)[1], span(right)[0]
        found = raw[begin:end].decode().find(old)
        return None if found < 0 else (begin + found, begin + found + len(old), new)

    def number(node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not None

    def changed(node: ast.Constant) -> str:
        if isinstance(node.value, bool):
            return str(not node.value)
        return repr(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0)

    def visit(node: ast.AST, within: tuple[str, ...]) -> Iterator[Mutation]:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.Call | ast.Subscript):
            called = node.func if isinstance(node, ast.Call) else node.value
            if getattr(called, "attr", getattr(called, "id", "")) in SILENT:
                return
            if isinstance(node, ast.Call) and getattr(called, "attr", getattr(called, "id", "")) in SWAPS:
                name = getattr(called, "attr", getattr(called, "id", ""))
                end = span(called)[1]
                yield made("bound", within, end - len(name), end, SWAPS[name])
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name in ("__repr__", "__str__", "_repr_html_"):
                return
            within = (*within, node.name)
        if isinstance(node, ast.BinOp):
            strings = any(isinstance(n, ast.JoinedStr | ast.List | ast.Tuple) for n in (node.left, node.right)) or any(
                isinstance(n, ast.Constant) and isinstance(n.value, str | bytes) for n in (node.left, node.right)
            )
            signs = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}
            if type(node.op) in signs and not strings:
                place = between(node.left, node.right, *signs[type(node.op)])
                if place:
                    yield made("sign" if isinstance(node.op, ast.Add | ast.Sub) else "factor", within, *place)
                yield made("missing term", within, *span(node), f"({text(node.left)})")
                if isinstance(node.op, ast.Add | ast.Mult):
                    yield made("missing term", within, *span(node), f"({text(node.right)})")
                for side in (node.left, node.right):
                    if number(side) and isinstance(node.op, ast.Mult | ast.Div):
                        yield made("factor", within, *span(side), changed(side))
            if isinstance(node.op, ast.Pow):
                if number(node.right):
                    yield made("exponent", within, *span(node.right), changed(node.right))
                else:
                    yield made("exponent", within, *span(node.right), f"({text(node.right)} + 1)")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sqrt":
            yield made("exponent", within, *span(node), f"({text(node.args[0] if node.args else node.func.value)})")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield made("sign", within, *span(node), f"({text(node.operand)})")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield made("condition", within, *span(node), f"({text(node.operand)})")
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
            place = between(node.left, node.comparators[0], *COMPARED[type(node.ops[0])])
            if place:
                kind = "condition" if isinstance(node.ops[0], ast.Eq | ast.NotEq) else "bound"
                yield made(kind, within, *place)
        if isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            place = between(node.values[0], node.values[1], old, new)
            if place:
                yield made("condition", within, *place)
        if isinstance(node, ast.If | ast.IfExp):
            yield made("condition", within, *span(node.test), f"(not ({text(node.test)}))")
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Store):
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            for part in parts:
                for end in (part.lower, part.upper) if isinstance(part, ast.Slice) else (part,):
                    value = end.operand if isinstance(end, ast.UnaryOp) else end
                    if value is not None and number(value) and not isinstance(value.value, bool):
                        yield made("index", within, *span(value), changed(value))
        if isinstance(node, ast.arguments):
            for default in (*node.defaults, *node.kw_defaults):
                if default is not None and number(default):
                    yield made("default", within, *span(default), changed(default))
        if isinstance(node, ast.AnnAssign) and node.value is not None and number(node.value):
            yield made("default", within, *span(node.value), changed(node.value))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, within)

    yield from visit(ast.parse(source), ())


def drawn(count: int, seed: int, areas: Sequence[str], root: Path) -> list[Mutation]:
    """So many mutations of the sources in a folder, as many of each area, the kinds of change alike; no line twice."""
    chance, found = random.Random(seed), []
    for position, area in enumerate(areas):
        files = [p for folder in AREAS[area] for p in sorted((root / folder).rglob("*.py"))]
        by_kind: dict[str, list[Mutation]] = {}
        for path in files:
            for one in mutations(area, path, root):
                by_kind.setdefault(one.kind, []).append(one)
        lines: set[tuple[str, int]] = set()
        share = count * (position + 1) // len(areas) - count * position // len(areas)
        while len(lines) < share:
            one = chance.choice(by_kind[chance.choice(sorted(by_kind))])
            if (one.path, one.line) not in lines:
                lines.add((one.path, one.line))
                found.append(one)
    return found
