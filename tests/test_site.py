"""The site: every world, instrument, public name and example has its page; `make docs` builds without a warning."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import simengine
from simengine.scene.kinds import classes
from simengine.scene.schema import keys_of, tables_below

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_key_of_every_world_and_instrument_is_on_its_page(tmp_path: Path) -> None:
    module("reference").write(tmp_path)
    seen = 0
    for role, folder in (("kind", "worlds"), ("type", "instruments")):
        pages = {page.stem: page.read_text(encoding="utf-8") for page in (tmp_path / folder).glob("*.md")}
        for name, cls in classes(role).items():
            told = (t for t in pages.values() if f"`{name}`" in t or f'"{name}"' in t)
            text = pages[name] if name in pages else next(told)
            for table in tables_below([cls]):
                for key in keys_of(table):
                    if key.name != "type":
                        assert f"| `{key.name}` |" in text, f"{folder}/{name}: {table.__name__}.{key.name}"
                        seen += 1
    assert seen > 500


def test_every_public_name_is_in_the_reference(tmp_path: Path) -> None:
    api = module("api")
    api.write(tmp_path)
    text = (tmp_path / "api" / "simengine.rst").read_text(encoding="utf-8")
    names = [n for n in simengine.__all__ if n[0] != "_" and not inspect.ismodule(getattr(simengine, n))]
    assert len(names) > 15 and not [n for n in names if f"simengine.{n}\n" not in text]
    told = {
        *api.PACKAGES,
        *api.MODULES,
        "kernels",
        "cli",
        "worlds",
    }  # kernels: in ops; cli: --help; worlds: their pages
    packages = {n for n in simengine.__all__ if inspect.ismodule(getattr(simengine, n))}
    assert packages <= told, f"docs/site/api.py does not tell of {packages - told}"
    for package in api.PACKAGES:
        page = (tmp_path / "api" / f"{package}.rst").read_text(encoding="utf-8")
        offered = importlib.import_module(f"simengine.{package}").__all__
        assert not [name for name in offered if not re.search(rf"\b{re.escape(name)}\b", page)], package


def test_every_example_has_its_page(tmp_path: Path) -> None:
    module("gallery").write(tmp_path)
    pages = {page.stem for page in (tmp_path / "gallery").glob("*.md")} - {"index"}
    assert pages == {file.stem for file in (ROOT / "examples").glob("*.py")} and len(pages) >= 24


def test_blocks_are_coloured_and_links_lead_out_of_the_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = module("build")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    page = "text\n\n    import torch\n    x = 1\n\n    y = 2\n\nmore\n\n    simengine run x\n"
    made = build.fenced(page)
    assert "```python\nimport torch\nx = 1\n\ny = 2\n```" in made and "```bash\nsimengine run x\n```" in made
    at = ROOT / "docs" / "results" / "mpm.md"
    assert build.linked("[a](../../examples/see_a_cloud.py)", at) == "[a](../gallery/see_a_cloud.md)"
    assert build.linked("[a](../../LICENSE)", at) == "[a](../files/LICENSE)" and (tmp_path / "files/LICENSE").is_file()
    assert build.linked("[a](../mpm.md#b)", at) == "[a](../mpm.md#b)"


def test_pictures_are_small_and_are_told_in_words() -> None:
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert pictures and all(file.stat().st_size < 1_000_000 for file in pictures)
    assert sum(file.stat().st_size for file in pictures) < 4_000_000
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert len(alt) > 10 and (page.parent / target).is_file(), f"{page.name}: {target}"
    assert "![" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_site_builds_without_a_warning() -> None:
    pytest.importorskip("sphinx", reason="make docs installs it")
    pytest.importorskip("latex2mathml")
    done = subprocess.run([sys.executable, str(SITE / "build.py")], capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    html = ROOT / "out" / "site" / "html"
    page = (html / "concepts.html").read_text(encoding="utf-8")
    assert page.count("<math") > 10 and "mathjax.js" not in page.lower() and "cdn" not in page.lower()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not loaded, f"the site loads from the network: {loaded}"
