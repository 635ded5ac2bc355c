"""Pages of the kinds of worlds and of the instruments, from the schema: every key, unit and range."""

import inspect
import re
import tomllib
from pathlib import Path

from simengine.scene import named_scenes
from simengine.scene.keys_page import page_of
from simengine.scene.kinds import classes

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"


def write(source: Path) -> None:
    """Write worlds/*.md and instruments/*.md.

    Args:
        source: Of the site.
    """
    _write(source / "worlds", _worlds(), WORLDS)
    _write(source / "instruments", _instruments(), INSTRUMENTS)


WORLDS = """# Worlds

What is believed: a scene names one kind of world, and its tables hold the numbers. `simengine list kinds` names them,
`simengine new my.toml --kind KIND` writes a scene to start from.
"""
INSTRUMENTS = """# Instruments

What was measured: a table `[observations.NAME]` names a file and the `type` of its instrument.
[From a file to numbers](../instrument.md) says how a file meets a world.
"""


def _write(folder: Path, pages: dict[str, str], head: str) -> None:
    folder.mkdir(parents=True)
    rows = ["| name | what |", "| --- | --- |"]
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        said = next(line for line in text.partition("\n# ")[2].splitlines()[1:] if line.strip())
        rows.append(f"| [{name}]({name}.md) | {said} |")
    tree = ["```{toctree}", ":hidden:", "", *pages, "```", ""]
    (folder / "index.md").write_text("\n".join([head, *rows, "", *tree]), encoding="utf-8")


def _worlds() -> dict[str, str]:
    shipped: dict[str, list[str]] = {}
    for name, path in named_scenes().items():
        shipped.setdefault(tomllib.loads(Path(path).read_text(encoding="utf-8")).get("kind", "mpm"), []).append(name)
    pages = {}
    for kind, cls in classes("kind").items():
        parts = [_more(cls), f'A scene says `kind = "{kind}"`' + (", which may be left out." if kind == "mpm" else ".")]
        if kind in shipped:
            parts += ["Scenes that ship: " + ", ".join(f"`{name}`" for name in shipped[kind]) + "."]
        pages[kind] = _page(cls, kind, parts, f"world_{kind}")
    return pages


def _instruments() -> dict[str, str]:
    names: dict[type, list[str]] = {}
    for name, cls in classes("type").items():
        names.setdefault(cls, []).append(name)
    pages = {}
    for cls, same in names.items():
        said = " or ".join(f'`type = "{name}"`' for name in same)
        before = [_more(cls), f"An observation says {said}."]
        pages[same[0]] = _page(cls, ", ".join(same), before, "")
    return pages


def _page(cls: type, heading: str, before: list[str], picture: str) -> str:
    found = list(PICTURES.glob(f"{picture}.*")) if picture else []
    shown = [f"![an example of the world {heading}](../pictures/{found[0].name})"] if found else []
    text = page_of(cls, heading, "\n\n".join([*(part for part in before if part), *shown]))
    text = f"---\nhtml_theme.sidebar_secondary.remove: true\n---\n{text}"  # tables need the width
    return re.sub(r"(\[scene of kind (\w+)\])\(#\w+\)", r"\1(../worlds/\2.md)", text)


def _more(cls: type) -> str:
    """What a docstring says between its first line and its sections."""
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()[1:]
    end = next((k for k, line in enumerate(lines) if re.fullmatch(r"(Attributes|Args|Raises|Returns):", line)), None)
    return "\n".join(lines[:end]).strip()
