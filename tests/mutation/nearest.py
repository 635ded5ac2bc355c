"""Which tests are nearest to a change: by what they name and import, by where they lie, by what a small scene runs."""

import ast
import importlib
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import CodeType

from mutation.changes import Mutation

WORD = re.compile(r"\w+")


def named(one: Mutation, root: Path) -> tuple[set[str], set[str]]:
    """The public names around a mutation, with those of its module that use its private ones, and all of the module."""
    source = (root / one.path).read_text(encoding="utf-8")
    body = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    words = {node.name: set(WORD.findall(ast.get_source_segment(source, node) or "")) for node in body}
    own, new = set(one.within), {n for n in one.within if n[0] == "_" and not n.startswith("__")}
    if not one.within:  # a constant
        new = set(re.findall(r"\b[A-Z_][A-Z_0-9]+\b(?=.*=)", source.splitlines()[one.line - 1]))
    while new:
        new = {name for name in words if words[name] & new and name not in own}
        own |= new
        new = {name for name in new if name[0] == "_"}
    return {n for n in own if n[0] != "_"}, {n for n in words if n[0] != "_"}


def users(one: Mutation, root: Path) -> set[str]:
    """Public names of the modules that import what a mutation is in."""
    dotted = re.escape(Path(one.path).with_suffix("").as_posix().replace("/", ".").removeprefix("simengine."))
    found: set[str] = set()
    for file in (root / "simengine").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if re.search(rf"simengine\.{dotted} import", text):
            found |= set(re.findall(r"^(?:def|class) ([A-Za-z]\w+)", text, re.MULTILINE))
    return found


def small_runs(copy: Path) -> dict[str, dict[str, float]]:
    """Of each function, by path and qualified name, the small scenes that run it, with their CPU seconds."""
    sys.path[:0] = [str(copy), str(copy / "tests")]
    cases, runs = (importlib.import_module(name) for name in ("key_cases.cases", "scene.test_small_runs"))
    ran: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases.write_files(Path(folder))
        for name in runs.kept_cases():
            seen: set[CodeType] = set()
            start = time.process_time()
            sys.settrace(lambda frame, event, value, seen=seen: seen.add(frame.f_code))
            dict(runs.levels(name, Path(folder)))
            sys.settrace(None)
            for code in seen:
                if code.co_filename.startswith(str(copy)):
                    path = Path(code.co_filename).relative_to(copy).as_posix()
                    key = f"{path}:{code.co_qualname.replace('.<locals>', '')}"
                    ran.setdefault(key, {})[name] = time.process_time() - start
    return ran


def small_runs_of(one: Mutation, ran: dict[str, dict[str, float]]) -> list[str]:
    """The two quickest small scenes that run what a mutation is in: its function, or else what is around that."""
    for length in range(len(one.within), -1, -1):
        head = f"{one.path}:{'.'.join(one.within[:length])}"
        found = {
            name: s
            for key, of in ran.items()
            if key == head or (not length and key.startswith(head))
            for name, s in of.items()
        }
        if found:
            quickest = sorted(found, key=lambda name: found[name])[:2]
            return [f"tests/scene/test_small_runs.py::test_nothing_has_moved[{name}]" for name in quickest]
    return []


def tests_of(one: Mutation, most: int, root: Path) -> list[str]:
    """The files of tests that are nearest to a mutation: by what they name and import, and by where they lie."""
    folder, module = Path(one.path).parent.as_posix().removeprefix("simengine/"), Path(one.path).parent.name
    stem = re.sub("_(taichi|reference|adjoint)$", "", Path(one.path).stem)
    own, public = named(one, root)
    used = users(one, root) - own - public
    mirror = {"worlds/motion/rigid": "worlds/motion"}.get(folder, folder.replace("kernels", "ops"))
    texts = {p: p.read_text(encoding="utf-8") for p in sorted((root / "tests").rglob("test_*.py"))}
    texts = {p: text for p, text in texts.items() if p.parent != root / "tests"}
    words = {path: set(WORD.findall(text)) for path, text in texts.items()}
    common = Counter(word for some in words.values() for word in some & (own | public | used | {stem}))
    scores = Counter()
    for path, text in texts.items():
        score = sum(40 / (1 + common[name]) for name in own & words[path])
        score += sum(8 / (1 + common[name]) for name in public & words[path])
        score += sum(4 / (1 + common[name]) for name in used & words[path])
        score += 15 * (f"{module}.{stem}" in text) + 15 * (path.stem == f"test_{stem}")
        score += 12 / (1 + common[stem]) * (stem in words[path])
        score += 5 * bool(set(stem.split("_")) & set(path.stem.split("_")))
        place = path.parent.relative_to(root / "tests").as_posix()
        score += 8 * f"{mirror}/".startswith(f"{place}/") + 3 * (place.split("/")[0] == mirror.split("/")[0])
        scores[path.relative_to(root).as_posix()] = score
    nearest = [name for name, _ in scores.most_common(most)]
    return ["tests/test_defaults.py", *nearest] if one.kind == "default" else nearest
