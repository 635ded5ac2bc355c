"""A self-contained HTML page: tables, figures and moving pictures, everything embedded."""

import base64
import dataclasses
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simengine.io.image import to_srgb8

LEAST, ROOM = 320, 1068  # pixels of the screen: that a picture is wide, and that there are
LETTERS = 600  # a picture wider than this is not made narrower on a phone, where its letters could not be read
_STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ddd;--soft:#f6f6f6;--good:#17692b;--bad:#a11}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#16181b;--line:#3a3d42;--soft:#22252a;--good:#6c9;--bad:#f88}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:var(--ink);
background:var(--paper)}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:.5em 0}
td,th{border-bottom:1px solid var(--line);padding:.25em .9em;text-align:left;vertical-align:top}
img,video{max-width:100%;border:1px solid var(--line);background:#fff}
video{min-width:min(320px,100%)}.small{image-rendering:pixelated}figure{margin:1em 0}
figcaption{font-size:.9em;opacity:.8}pre{background:var(--soft);padding:1em;overflow:auto}
.good{color:var(--good)}.bad{color:var(--bad)}.whole{white-space:nowrap}
@media(max-width:600px){td:not(:last-child),th:not(:last-child){white-space:nowrap}td:last-child{min-width:10em}
figure{overflow-x:auto}.wide{max-width:1068px}}
"""


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """`rows` under a `header`, all turned into text."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image: `pixels` (h, w, 3), 8-bit sRGB or linear float; its `caption` stands below and is read aloud.

    A small one is shown larger: each of those `abreast` in it 320 pixels of the screen wide, where they find room.
    """

    pixels: Any
    caption: str = ""
    abreast: int = 1


@dataclasses.dataclass(frozen=True)
class Movie:
    """A video `file` that browsers play (mp4 or GIF), embedded whole, with a `caption`."""

    file: Path
    caption: str = ""


Block = ReportTable | Picture | Movie | str


def write_report(path: Path, title: str, sections: Mapping[str, Sequence[Block]]) -> None:
    """Write the page, completely or not at all.

    Args:
        path: The .html file.
        title: Heading of the page.
        sections: Heading -> blocks; a string is a paragraph. A heading without blocks is left out.
    """
    body = [f"<h1>{html.escape(title)}</h1>"]
    for heading, blocks in sections.items():
        if not blocks:
            continue
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body += [_block(block) for block in blocks]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{html.escape(block)}</p>"
    if isinstance(block, ReportTable):
        head = "".join(f'<th scope="col">{html.escape(str(cell))}</th>' for cell in block.header)
        rows = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in block.rows)
        box = f'<div class="scroll" tabindex="0" role="region" aria-label="{_words(block.header)}">'
        return f"{box}<table><tr>{head}</tr>{rows}</table></div>"
    if isinstance(block, Picture):
        try:
            source = _png(block.pixels)
        except ImportError as error:
            return f"<p>{html.escape(block.caption)}: not drawn ({html.escape(str(error))})</p>"
        wide = int(block.pixels.shape[1]) > LETTERS
        shown = ' class="wide"' if wide else _enlarged(block)
        return _figure(f'<img alt="{_alt(block)}"{shown} src="{source}">', block.caption, scrolls=wide)
    if not block.file.is_file():
        return f"<p>{html.escape(block.caption)}: {html.escape(block.file.name)} was not written</p>"
    data = base64.b64encode(block.file.read_bytes()).decode()
    if block.file.suffix == ".gif":
        return _figure(f'<img alt="{_alt(block)}" src="data:image/gif;base64,{data}">', block.caption)
    options = f'controls autoplay loop muted playsinline aria-label="{_alt(block)}"'
    video = f'<video {options} src="data:video/mp4;base64,{data}"></video>'
    return _figure(video, block.caption)


def _enlarged(block: Picture) -> str:
    """Width of a small picture on the screen, a multiple of its own so that pixels stay even; '' for a large one."""
    width = int(block.pixels.shape[1])
    factor = min(math.ceil(LEAST * block.abreast / width), ROOM // width)
    return f' width="{factor * width}" class="small"' if factor > 1 else ""


def _alt(block: Picture | Movie) -> str:
    """What a reader who does not see the picture is told."""
    plain = block.file.stem if isinstance(block, Movie) else "a picture without a caption"
    return html.escape(block.caption or plain)


def _words(header: Sequence[str]) -> str:
    return html.escape("table of " + ", ".join(str(cell) for cell in header if cell))


def _figure(content: str, caption: str, *, scrolls: bool = False) -> str:
    keys = ' tabindex="0"' if scrolls else ""  # what scrolls has to be reached by keys
    return f"<figure{keys}>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return f'<span class="{"good" if value else "bad"}">{"yes" if value else "no"}</span>'
    text = html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))
    return re.sub(r"[-+.\d]+e[-+]\d+", r'<span class="whole">\g<0></span>', text)  # or lines end after the e-


def _png(pixels: Any) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(to_srgb8(pixels)).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
