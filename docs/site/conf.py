"""How the site is set; `make docs` builds it from what `docs/site/build.py` lays out."""

import re
from collections.abc import Mapping
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

import simengine

project, author = "simengine", "the authors of simengine"
copyright = "2026, the authors of simengine"
version = release = simengine.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
suppress_warnings = ["ref.python"]  # a name that two packages offer is told in both
nitpicky = False  # signatures name types of torch, whose inventory would have to be fetched

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "simengine"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
    "header_links_before_dropdown": 9,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars: dict[str, list[str]] = {"index": [], "start": [], "concepts": []}

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_MARK = re.compile(r"(``[^`]+``|`[^`]+`)")


def plain_docstring(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are prose with code between backticks: what reStructuredText would take as marks is escaped."""
    _mark_code(lines)
    for k, line in enumerate(lines):
        if line.startswith("    ") and _inside_code(lines, k):
            continue
        parts = _MARK.split(line)
        for j, part in enumerate(parts):
            if j % 2:
                parts[j] = f"``{part.strip('`')}``"
            else:
                parts[j] = re.sub(r"([*|])", r"\\\1", re.sub(r"(\w)_(?!\w)", r"\1\\_", part))
        lines[k] = "".join(parts)


def _mark_code(lines: list[str]) -> None:
    """An indented block of a docstring, outside its sections, is code: `::` before it says so."""
    k = 1
    while k < len(lines):
        before = next((line for line in reversed(lines[:k]) if line.strip()), "")
        starts = lines[k].startswith("    ") and not lines[k - 1].strip()
        if starts and before and before[0] != " " and not _SECTION.fullmatch(before):
            lines[k:k] = ["::", ""]
            k += 2
            while k < len(lines) and (lines[k].startswith("    ") or not lines[k].strip()):
                k += 1
        k += 1


def _inside_code(lines: list[str], k: int) -> bool:
    above = next((line for line in reversed(lines[:k]) if line.strip() and not line.startswith("    ")), "")
    return above == "::"


def mathml(self: Any, node: nodes.Element) -> None:
    """An equation in the line as MathML, which browsers set themselves: no script, no network."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def mathml_block(self: Any, node: nodes.Element) -> None:
    """An equation on a line of its own."""
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> Mapping[str, bool]:
    """Add the renderer of equations, and what prepares docstrings."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
