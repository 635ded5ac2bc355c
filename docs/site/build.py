"""Build the site into out/site/html, from the pages of docs/, the schema, the docstrings and the examples; no network.

`make docs` calls it. Warnings are errors. What is generated lies in out/site/source and is made anew each time.
"""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SITE = ROOT / "out" / "site"
SOURCE = SITE / "source"
BESIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "readme.md"}


def _module(name: str) -> object:
    spec = importlib.util.spec_from_file_location(f"site_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fenced(text: str) -> str:
    """Indented blocks of a page as fenced ones, with the language that they hold, so that they are coloured."""
    lines, out, k, inside = text.splitlines(), [], 0, False
    while k < len(lines):
        if lines[k].startswith("```"):
            inside = not inside
            out.append("```text" if lines[k] == "```csv" else lines[k])
            k += 1
            continue
        if not inside and lines[k].startswith("    ") and (k == 0 or not lines[k - 1].strip()):
            start = k
            while k < len(lines) and (lines[k].startswith("    ") or not lines[k].strip()):
                k += 1
            block = [line[4:] for line in lines[start:k]]
            while not block[-1].strip():
                block.pop()
            out += [f"```{language(block[0])}", *block, "```", ""]
            continue
        out.append(lines[k])
        k += 1
    return "\n".join(out) + "\n"


def language(first: str) -> str:
    """Of a block, from its first line."""
    if first.split()[0] in ("simengine", "make", "open", "python", "python3", "torchrun", "pip", "apt-get"):
        return "console" if first.startswith("$") else "bash"
    return "toml" if first.startswith("[") else "python"


def linked(text: str, page: Path) -> str:
    """Links of a page that lead out of docs/: to the gallery, to copies beside the site, or to files of the project."""

    def new(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        file = (page.parent / target).resolve()
        if "://" in target or not file.is_file() or file.is_relative_to(ROOT / "docs"):
            return match[0]
        inside = file.relative_to(ROOT)
        depth = "../" * (len(page.relative_to(ROOT).parts) - (2 if page.is_relative_to(ROOT / "docs") else 1))
        if str(inside) in BESIDE:
            return f"]({depth}{BESIDE[str(inside)]}{anchor})"
        if inside.parts[0] == "examples":
            return f"]({depth}gallery/{inside.stem}.md)"
        (SOURCE / "files" / inside.parent).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, SOURCE / "files" / inside)
        return f"]({depth}files/{inside})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", new, text)


def _tree(folder: Path) -> str:
    """The pages of the folder of a page, for the navigation."""
    pages = [page for page in sorted(folder.glob("*")) if page.suffix in (".md", ".ipynb")]
    names = [f"{folder.name}/{page.stem}" for page in pages]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *names, "```", ""]) if names else ""


def lay_out() -> None:
    """Write the source of the site."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for file in sorted((ROOT / "docs").rglob("*")):
        place = SOURCE / file.relative_to(ROOT / "docs")
        if not file.is_file() or file.is_relative_to(HERE):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = linked(fenced(file.read_text(encoding="utf-8")), file).replace(".ipynb)", ".md)")
            place.write_text(text + _tree(file.with_suffix("")), encoding="utf-8")
        else:
            shutil.copyfile(file, place)
    for name, place in BESIDE.items():
        if name != "README.md":
            text = linked(fenced((ROOT / name).read_text(encoding="utf-8")), ROOT / name)
            (SOURCE / place).write_text(re.sub(r"\]\(docs/", "](", text), encoding="utf-8")
    shutil.copyfile(HERE / "conf.py", SOURCE / "conf.py")
    (SOURCE / "_static").mkdir()
    shutil.copyfile(HERE / "site.css", SOURCE / "_static" / "site.css")
    for name in ("reference", "api", "gallery", "notebooks"):
        _module(name).write(SOURCE)  # type: ignore[attr-defined]


def main() -> int:
    """Lay out and build; the exit code of Sphinx."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    lay_out()
    from sphinx.cmd.build import main as sphinx

    code = sphinx(
        ["-W", "--keep-going", "-q", "-b", "html", "-d", str(SITE / "doctrees"), str(SOURCE), str(SITE / "html")]
    )
    if code == 0:
        print(f"open {(SITE / 'html' / 'index.html').relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
