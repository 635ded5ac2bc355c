"""The Python of the README runs as it stands."""

import re
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = README.split("## From Python")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", section, flags=re.MULTILINE)
    code = [textwrap.dedent(block) for block in blocks if "import" in block]
    assert len(code) == 2
    for block in code:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "out" / "jelly.mp4").stat().st_size > 1000


def test_links_lead_somewhere() -> None:
    root = Path(__file__).resolve().parents[1]
    for page in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
