"""What is public has its type: the share that pyright counts (`pyright --verifytypes`), which may only rise."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.96  # asked: 0.95; 0.965 when this was last counted


@pytest.mark.slow
def test_what_is_public_has_its_type(tmp_path: Path) -> None:
    """As of an installed package: `kernels` lies within it there, and nothing of other packages counts."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    pyright = shutil.which("pyright", path=path)
    if pyright is None:
        pytest.skip("pyright is not at hand; pip install -c constraints.txt '.[oracles]' brings it")
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    shutil.copytree(ROOT / "simengine", site / "simengine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "kernels", site / "simengine" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [pyright, "--ignoreexternal", "--outputjson", "--verifytypes", "simengine"],
        cwd=empty,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    told = json.loads(done.stdout)["typeCompleteness"]
    counts = told["exportedSymbolCounts"]
    untyped = [symbol["name"] for symbol in told["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert sum(counts.values()) > 10_000, counts
    assert told["completenessScore"] >= SHARE, f"{told['completenessScore']:.4f} of {counts}; not: {untyped}"
