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
    inside = {f"simengine.{p.parent.name}" for p in (ROOT / "simengine").glob("*/__init__.py")}
    assert set(setuptools["packages"]) == {"simengine", *inside, *setuptools["package-dir"]}


def test_data_folders_are_flat() -> None:
    for folder in ("kernels", "scenes", "assets"):
        deeper = [p for p in (ROOT / folder).iterdir() if p.is_dir() and p.name != "__pycache__"]
        assert not deeper, f"{folder}/ must be flat to be installed whole"


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
