"""The package list, the wheel's contents, lazy imports, and the order of imports."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={**os.environ, **environment},
    )


def test_package_list_is_the_tree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inside = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "simengine").rglob("__init__.py")}
    inside |= {
        ".".join(("simengine", *p.parent.relative_to(ROOT).parts)) for p in (ROOT / "kernels").rglob("__init__.py")
    }
    assert len(inside) >= 15
    assert set(setuptools["packages"]) == inside | set(setuptools["package-dir"])


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {p.parent for top in ("simengine", "kernels") for p in (ROOT / top).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_data_folders_are_installed_whole() -> None:
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    for folder in ("scenes", "assets"):
        deeper = [p for p in (ROOT / folder).rglob("*") if p.is_dir() and p.name != "__pycache__"]
        lost = [p.name for p in deeper if f"{p.relative_to(ROOT / folder)}/*" not in globs[f"simengine.{folder}"]]
        assert not lost, f"{folder}/{lost}: name its files in package-data, or they are not installed"


def test_kernels_refuse_their_bare_name() -> None:
    done = _python(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import kernels")
    assert done.returncode == 1 and "import simengine.kernels" in done.stderr


def test_source_checkout_needs_no_install() -> None:
    code = f"""
import sys
sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]
sys.path.insert(0, {str(ROOT)!r})
import simengine.kernels, simengine.scenes, simengine.assets
print(simengine.kernels.__file__)"""
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "kernels" / "__init__.py"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, simengine.cli as c; c.main(['--help']); sys.exit('torch' in sys.modules or 'warp' in sys.modules)"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


@pytest.mark.parametrize("order", ["torch, warp", "warp, torch", "taichi, torch, warp", "torch, warp, taichi"])
def test_imports_in_any_order(order: str) -> None:
    done = _python(f"import {order}\nimport simengine.ops.bridge as b, torch\nprint(b.array(torch.ones(3)).shape)")
    assert done.returncode == 0, done.stderr
    assert "(3,)" in done.stdout


def test_every_benchmark_can_be_run_by_its_name() -> None:
    """Each has a `main` and finds its helpers, wherever `simengine bench` is called."""
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")]
    assert len(names) > 25
    done = _python(f"""
import importlib
for name in {names!r}:
    assert callable(importlib.import_module("simengine.benchmarks." + name).main), name""")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_wheel_holds_kernels_scenes_and_assets(tmp_path: Path) -> None:
    import shutil
    import zipfile

    source = tmp_path / "source"
    ignore = shutil.ignore_patterns(".git", ".venv", "out", "runs", "build", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignore)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    for folder in ("kernels", "scenes", "assets", "benchmarks"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"simengine/{file.relative_to(ROOT)}" in names
    assert "simengine/py.typed" in names and not any(name.startswith(("tests/", "kernels/")) for name in names)
    code = f"""
import sys
sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]
sys.path.insert(0, {str(tmp_path / "installed")!r})
import simengine.kernels.matter.mpm, simengine, simengine.benchmarks.least_squares
assert simengine.load_world('jelly_drop').bodies
print(simengine.__file__)"""
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(tmp_path / "installed"))
