"""How many faults the tests see: lines that bear a meaning are changed one at a time, and the nearest tests are run.

    .venv/bin/python tests/mutate.py --seed 1 --count 80 --out mutations.jsonl
    .venv/bin/python tests/mutate.py --again mutations.jsonl --out again.jsonl       # the ones that lived, once more

A mutation is one sign, factor, bound, index, exponent, condition, default or missing term, drawn evenly over the areas
and over these kinds. It is put into a copy of the source; the tests that name what was changed, that import its module
or that lie in its mirrored folder run there, the nearest first, until one falls or the CPU seconds are spent. What
fells a mutation must pass without it; this is looked at in the end. A mutation that lives is a gap, a twin of the
original, or out of reach of the tests that were run: who reads the table has to say which.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "out", "runs")
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
WORD = re.compile(r"\w+")
HOW = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu")


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


def mutations(area: str, path: Path) -> Iterator[Mutation]:
    """All mutations of a file that are known here."""
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
        name = path.relative_to(ROOT).as_posix()
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


def drawn(count: int, seed: int, areas: Sequence[str]) -> list[Mutation]:
    """So many mutations, the same number of each area, the kinds of change alike; no line twice."""
    chance, found = random.Random(seed), []
    for position, area in enumerate(areas):
        files = [p for folder in AREAS[area] for p in sorted((ROOT / folder).rglob("*.py"))]
        by_kind: dict[str, list[Mutation]] = {}
        for path in files:
            for one in mutations(area, path):
                by_kind.setdefault(one.kind, []).append(one)
        lines: set[tuple[str, int]] = set()
        share = count * (position + 1) // len(areas) - count * position // len(areas)
        while len(lines) < share:
            one = chance.choice(by_kind[chance.choice(sorted(by_kind))])
            if (one.path, one.line) not in lines:
                lines.add((one.path, one.line))
                found.append(one)
    return found


def named(one: Mutation) -> tuple[set[str], set[str]]:
    """The public names around a mutation, and those of its module."""
    body = ast.parse((ROOT / one.path).read_text(encoding="utf-8")).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {n for n in one.within if n[0] != "_"}, {n for n in names if n[0] != "_"}


def tests_of(one: Mutation, most: int) -> list[str]:
    """The files of tests that are nearest to a mutation: by what they name and import, and by where they lie."""
    folder, module = Path(one.path).parent.as_posix().removeprefix("simengine/"), Path(one.path).parent.name
    stem = re.sub("_(taichi|reference|adjoint)$", "", Path(one.path).stem)
    own, public = named(one)
    mirror = {"worlds/motion/rigid": "worlds/motion"}.get(folder, folder.replace("kernels", "ops"))
    texts = {p: p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests").rglob("test_*.py"))}
    texts = {p: text for p, text in texts.items() if p.parent != ROOT / "tests"}
    words = {path: set(WORD.findall(text)) for path, text in texts.items()}
    common = Counter(word for some in words.values() for word in some & (own | public | {stem}))
    scores = Counter()
    for path, text in texts.items():
        score = sum(40 / (1 + common[name]) for name in own & words[path])
        score += sum(8 / (1 + common[name]) for name in public & words[path])
        score += 15 * (f"{module}.{stem}" in text) + 15 * (path.stem == f"test_{stem}")
        score += 12 / (1 + common[stem]) * (stem in words[path])
        score += 5 * bool(set(stem.split("_")) & set(path.stem.split("_")))
        place = path.parent.relative_to(ROOT / "tests").as_posix()
        score += 8 * (place == mirror) + 3 * (place.split("/")[0] == mirror.split("/")[0])
        scores[path.relative_to(ROOT).as_posix()] = score
    return [name for name, _ in scores.most_common(most)]


class NearestFirst:
    """Runs the tests that name what was changed before the others.

    Args:
        names: Of the class and function around it, and of what their module offers.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort what was collected; of tests that name as much, in the order of the files."""
        named = {id(i): len(self.names & set(WORD.findall(inspect.getsource(i.function)))) for i in items}
        items.sort(key=lambda item: -named[id(item)])


def run(copy: Path, names: Sequence[str], seconds: int, nearest: set[str] = frozenset()) -> tuple[int, str]:
    """Exit status of these tests in the copy, and what fell first; negative where the CPU seconds were spent.

    They run in a fork of this process, which holds torch and warp: reading them anew would cost more than many a test.
    """
    with tempfile.NamedTemporaryFile("r", errors="replace") as told:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(told.name, os.O_WRONLY), 1)
            os.dup2(1, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            os.chdir(copy)
            os.environ["PYTHONPATH"] = str(copy)
            sys.path[0] = str(copy)
            sys.dont_write_bytecode = True
            code = pytest.main([*HOW, *names], plugins=[NearestFirst(nearest)])
            sys.stdout.flush()
            os._exit(int(code))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = told.read()
    fallen = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", text, re.M)
    return code, fallen.group(1) if fallen else (text.strip().splitlines() or [""])[-1]


def judged(one: Mutation, copy: Path, seconds: int, most: int) -> dict[str, object]:
    """What the tests say of a mutation; the copy is as before when this returns."""
    file = copy / one.path
    before = file.read_bytes()
    names = tests_of(one, most)
    try:
        file.write_bytes(before[: one.start] + one.text.encode() + before[one.end :])
        code, why = run(copy, names, seconds, set.union(*named(one)))
    finally:
        file.write_bytes(before)
    verdict = {0: "lives", 5: "lives", 1: "falls", 2: "falls", 4: "falls"}.get(code, "time")
    return {**dataclasses.asdict(one), "verdict": verdict, "by": why, "tests": names}


def moved(kept: dict[str, object]) -> Mutation | None:
    """A mutation of an earlier table in the file as it is now."""
    one = Mutation(**{f.name: kept[f.name] for f in dataclasses.fields(Mutation)})  # type: ignore[arg-type]
    alike = [m for m in mutations(one.area, ROOT / one.path) if (m.old, m.new) == (one.old, one.new)]
    return min(alike, key=lambda m: abs(m.line - one.line), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", nargs="*", default=list(AREAS), choices=list(AREAS))
    parser.add_argument("--seconds", type=int, default=40, help="of CPU for each mutation")
    parser.add_argument("--files", type=int, default=3, help="files of tests for each, at most")
    parser.add_argument("--again", type=Path, help="the mutations of an earlier table that lived, or ran out of time")
    parser.add_argument("--list", action="store_true", help="only show what was drawn")
    parser.add_argument("--out", type=Path, help="table, a line of JSON for each")
    told = parser.parse_args()
    if told.again:
        rows = [json.loads(row) for row in told.again.read_text().splitlines()]
        chosen = [m for m in (moved(row) for row in rows if row["verdict"] != "falls") if m is not None]
    else:
        chosen = drawn(told.count, told.seed, told.areas)
    if told.list:
        for position, one in enumerate(chosen):
            print(f"{position:3} {one.area:9} {one.kind:12} {one.path}:{one.line}\n      - {one.old.strip()}")
            print(f"      + {one.new.strip()}")
        return
    done = told.out.read_text(encoding="utf-8").splitlines() if told.out and told.out.exists() else []
    results = [json.loads(row) for row in done]  # of a run that was stopped
    os.environ["OMP_NUM_THREADS"] = "1"
    for heavy in ("numpy", "scipy.sparse", "torch", "warp"):
        importlib.import_module(heavy)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT, dirs_exist_ok=True)
        for position, one in enumerate(chosen[len(results) :], len(results)):
            results.append(judged(one, copy, told.seconds, told.files))
            row = results[-1]
            print(f"{position:3} {row['verdict']:6} {one.area:9} {one.kind:12} {one.path}:{one.line}  {row['by']}")
            print(f"      - {one.old.strip()}\n      + {one.new.strip()}", flush=True)
            if told.out:
                with told.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        fell = sorted({str(row["by"]) for row in results if row["verdict"] == "falls" and "::" in str(row["by"])})
        code, why = run(copy, fell, 3600) if fell else (0, "")
        print("without mutations:", why if code else "every test that felled one passes")
    print("\n| area | mutations | fall | live | out of time |\n|---|---|---|---|---|")
    for area in dict.fromkeys(m.area for m in chosen):
        count = Counter(str(row["verdict"]) for row in results if row["area"] == area)
        print(f"| {area} | {count.total()} | {count['falls']} | {count['lives']} | {count['time']} |")
    count = Counter(str(row["verdict"]) for row in results)
    print(f"| all | {count.total()} | {count['falls']} | {count['lives']} | {count['time']} |")


if __name__ == "__main__":
    main()
