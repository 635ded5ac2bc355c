"""Pages of the examples: what each does, its picture, its code, and what it prints."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = """# Gallery

Short scripts; each runs in seconds on a CPU, checks a number of its own and draws its picture (`tests/test_examples.py`
runs them all).

"""


def write(source: Path) -> None:
    """Write gallery/*.md.

    Args:
        source: Of the site.
    """
    folder = source / "gallery"
    folder.mkdir()
    cards, names = [], []
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8")
        tree = ast.parse(code)
        said = " ".join((ast.get_docstring(tree) or "").split())
        title = file.stem.replace("_", " ").capitalize()
        picture = f"../pictures/example_{file.stem}.png"
        shown = f"![{said}]({picture})\n\n```python\n{code}```\n\n"
        page = f"# {title}\n\n{said}\n\n{shown}Run it: `python examples/{file.name}`; it writes the picture beside.\n"
        (folder / f"{file.stem}.md").write_text(page, encoding="utf-8")
        top = f":img-top: {picture}\n:img-alt: {said}\n"
        cards.append(f":::{{grid-item-card}} {title}\n:link: {file.stem}\n:link-type: doc\n{top}\n{said}\n:::\n")
        names.append(file.stem)
    grid = "::::{grid} 1 2 2 3\n:gutter: 3\n\n" + "\n".join(cards) + "::::\n"
    tree_ = "\n```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
    (folder / "index.md").write_text(HEAD + grid + tree_, encoding="utf-8")
