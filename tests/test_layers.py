"""The house of docs/architecture.md, read off the imports: layers go down, no circles, no crowded folder."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVEL = {
    "kernels": 0,
    "ops": 1,
    "solve": 2,
    **dict.fromkeys(("materials", "mpm", "flame", "constraint", "render", "dtn"), 3),
    **dict.fromkeys(("scene", "fit", "observe"), 4),
    "worlds": 5,
    "cli": 6,
}
AREAS = {name for name, level in LEVEL.items() if level == 3}
ALLOWED_BETWEEN_AREAS = {("mpm", "materials"), ("dtn", "render")}
DATA_ONLY = {"io", "view"}  # take arrays and dicts, never models
MAX_MODULES = 20  # in a folder
SHARED_FAMILIES = {"motion", "flames"}  # any family may use them; they use no other


def _modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    files = dict.fromkeys(sorted((ROOT / "simengine").rglob("*.py")), "simengine")
    files |= dict.fromkeys(sorted((ROOT / "kernels").rglob("*.py")), "simengine.kernels")
    return {
        ".".join((top, *path.relative_to(ROOT).with_suffix("").parts[1:])).removesuffix(".__init__"): path
        for path, top in files.items()
    }


MODULES = _modules()


def _room(module: str) -> str:
    """The package of simengine that a module lies in; its own name for `simengine` itself and `simengine.__main__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _imports(module: str) -> set[str]:
    """The modules of simengine that a file imports, type-checking blocks left out, relative imports made absolute."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            start = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (start, node.module)))
            for alias in node.names:
                full = f"{source}.{alias.name}"
                names.append(full if full in MODULES else source)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name for name in names if name in MODULES)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found - {module}


GRAPH = {module: _imports(module) for module in MODULES}


def test_every_module_was_read() -> None:
    """A rule that sees no file holds of all of them."""
    assert len(MODULES) >= 260
    assert sum(len(targets) for targets in GRAPH.values()) >= 800
    assert {_room(module) for module in MODULES} >= set(LEVEL) - {"worlds", "observe"} | DATA_ONLY


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) in LEVEL or _room(m) in DATA_ONLY])
def test_imports_go_down(module: str) -> None:
    package = _room(module)
    for target in GRAPH[module]:
        other = _room(target)
        if other == package or (other not in LEVEL and other not in DATA_ONLY):
            continue
        if package in DATA_ONLY:
            assert other in DATA_ONLY, f"{module}: {package} takes arrays, and must not import {target}"
        elif other in DATA_ONLY:
            assert LEVEL[package] >= 4, f"{module}: {package} must not write files or draw ({target})"
        elif {package, other} <= AREAS:
            assert (package, other) in ALLOWED_BETWEEN_AREAS, f"{module}: {package} must not import {target}"
        else:
            assert LEVEL[other] <= LEVEL[package], f"{module}: {package} must not import {target}, a layer above"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one file (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_circle_between_files() -> None:
    """Whoever reads a file has to read only what lies below it; what runs a world is named in `scene/kinds.py`."""
    assert circles(GRAPH) == []


def test_families_use_only_motion_and_flames() -> None:
    for module, targets in GRAPH.items():
        family = module.split(".")[2:3] if module.startswith("simengine.worlds.") else []
        for other in {target.split(".")[2] for target in targets if target.startswith("simengine.worlds.")} - {*family}:
            if not family:
                continue  # worlds/__init__.py
            assert other in SHARED_FAMILIES, f"{module} must not use the family {other}"
            assert family[0] not in SHARED_FAMILIES, f"{module} must not use the family {other}: others use it"


def test_observe_and_fit_do_not_know_one_another() -> None:
    """A problem sees instruments by their contract in `scene/instrument.py`, instruments see no problem."""
    for module, targets in GRAPH.items():
        other = {"observe": "fit", "fit": "observe"}.get(_room(module))
        assert not [t for t in targets if _room(t) == other], f"{module} must not import {other}"


def test_no_folder_is_crowded() -> None:
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in MODULES.values() if path.name != "__init__.py")
    crowded = {folder for folder, count in folders.items() if count > MAX_MODULES}
    assert not crowded, f"{sorted(crowded)}: more than {MAX_MODULES} modules; make rooms"


def doubles(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Names of more than one class, nested and private ones too, and where these stand."""
    found: dict[str, list[str]] = {}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_classes_have_one_name() -> None:
    """A name says what a class is, wherever it is read: in an import, an error, a page of keys."""
    made = {"a": ast.parse("class One: pass\nclass Two:\n    class _In: pass"), "b": ast.parse("class _In: pass")}
    assert doubles(made) == {"_In": ["a:3", "b:1"]}
    trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
    assert not (found := doubles(trees)), f"name these by what each is: {found}"


def test_names_of_the_table_are_there() -> None:
    """What `scene/kinds.py` names as a string no reader of imports sees, so it is looked up here, and not imported."""
    from simengine.scene.kinds import INSTRUMENTS, KINDS, METHODS

    paths = [
        *KINDS.values(),
        *INSTRUMENTS.values(),
        *(path for methods in METHODS.values() for path in methods.values()),
    ]
    assert len(paths) >= 26
    for path in paths:
        module, _, name = path.partition(":")
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, f"{path} in scene/kinds.py names nothing"


def test_kernels_import_only_kernel_languages() -> None:
    paths = [path for module, path in MODULES.items() if module.startswith("simengine.kernels")]
    assert len(paths) >= 25
    for path in paths:
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


def test_least_squares_of_torch_say_their_driver() -> None:
    """The default on a CPU, gelsy, pivots by memory that nobody set: the last bits vary from call to call."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "simengine").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "torch.linalg.lstsq"
        and "driver" not in {keyword.arg for keyword in node.keywords}
    ]
    assert not silent
