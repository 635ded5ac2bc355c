"""What `import simengine as se` offers is there, and editors are told of the same."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import simengine

ROOT = Path(simengine.__file__).parent
ON_USE = ["simengine", "simengine.dtn", "simengine.view"]
PACKAGES = [f"simengine.{name}" for name in dir(simengine) if (ROOT / name / "__init__.py").is_file()]


def _told(package: str) -> set[str]:
    """Names that the block under TYPE_CHECKING imports."""
    file = importlib.import_module(package).__file__
    assert file is not None
    blocks = [n for n in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(n, ast.If)]
    block = next(b for b in blocks if isinstance(b.test, ast.Name) and b.test.id == "TYPE_CHECKING")
    found = {a.asname or a.name for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
    return found | {ast.unparse(node.target) for node in block.body if isinstance(node, ast.AnnAssign)}


@pytest.mark.parametrize("package", ON_USE)
def test_editors_are_told_what_is_there(package: str) -> None:
    module = importlib.import_module(package)
    message = f"{package}/__init__.py: one name in three places: under TYPE_CHECKING, in on_use(...), in __all__"
    assert _told(package) == set(dir(module)) == set(module.__all__) - {"__version__"}, message


@pytest.mark.parametrize("package", ["simengine", *PACKAGES])
def test_every_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    for name in {*dir(module), *getattr(module, "__all__", ())}:
        assert getattr(module, name) is not None or name.startswith("_"), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_most_packages_are_looked_at() -> None:
    assert len(PACKAGES) >= 14
    for name in ("least", "FreeFlame", "read_nothing"):
        assert not hasattr(simengine, name)


def test_a_name_on_use_is_the_one_of_its_module() -> None:
    from simengine.dtn.protocol import Detector
    from simengine.fit.problem import Problem

    assert simengine.dtn.Detector is Detector and simengine.Problem is Problem


def test_importing_stays_light() -> None:
    code = "import sys, simengine, simengine.dtn, simengine.view; print(*[m for m in sys.modules if '.' not in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "warp", "pint"}.isdisjoint(done.stdout.split())


@pytest.mark.slow
def test_types_are_seen(tmp_path: Path) -> None:
    """A type checker knows the types of what `se` offers, and what it does not offer."""
    file = tmp_path / "script.py"
    file.write_text(
        "import simengine as se\n"
        "reveal_type(se.Unknown(initial=1.0))\n"
        "reveal_type(se.dtn.average_precision)\n"
        "reveal_type(se.io.write)\n"
        "se.nothing_like_this\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT.parent / "pyproject.toml"), str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
    )
    lines = done.stdout.splitlines()
    assert 'type is "simengine.scene.sought.Unknown"' in lines[0], done.stdout
    assert "DetectionTable" in lines[1] and "Estimate" in lines[1] and "Path" in lines[2]
    assert "no_such" not in done.stdout and 'has no attribute "nothing_like_this"' in done.stdout
