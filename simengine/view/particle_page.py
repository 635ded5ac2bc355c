"""A page for a browser that shows moving particles: time slider, colours by a field, axes; turned by the mouse.

It needs no graphics library in the browser, only a 2-D canvas, and fetches its numbers from the server that it came
from.
"""

import dataclasses
import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from simengine.view.overlay import field_colours, field_limits

MOST = 200_000  # particles that are shown; of more, every k-th


@dataclasses.dataclass(frozen=True)
class ParticlePage:
    """What a server hands to a browser.

    Attributes:
        page: HTML.
        parts: Path -> little-endian float32 numbers that the page fetches from there.
    """

    page: bytes
    parts: dict[str, bytes]


def particle_page(
    title: str, times: Any, positions: Any, fields: Mapping[str, Any], *, size: float, links: Mapping[str, str]
) -> ParticlePage:
    """Build the page.

    Args:
        title: Its heading.
        times: Of the frames [s], shape (k,).
        positions: y up [m], shape (k, n, 3).
        fields: Name with unit -> value of each particle, shape (k, n), at least one.
        size: Edge of the cube [0, size]^3 whose edges are drawn as axes [m].
        links: Text -> address of further pages.

    Raises:
        ValueError: A shape does not fit, or a value is not finite.
    """
    x, t = np.asarray(positions, dtype="<f4"), np.asarray(times, dtype=float)
    if x.ndim != 3 or x.shape[2] != 3 or 0 in x.shape or t.shape != x.shape[:1]:
        raise ValueError(f"positions, times: expected shapes (k, n, 3), (k,), got {x.shape}, {t.shape}")
    if not np.isfinite(x).all():
        raise ValueError("positions: some are not finite")
    if not fields:
        raise ValueError("fields: expected at least one")
    every = -(-x.shape[1] // MOST)
    parts = {"/positions": np.ascontiguousarray(x[:, ::every]).tobytes()}
    limits = []
    for index, (name, value) in enumerate(fields.items()):
        values = np.asarray(value, dtype="<f4")
        if values.shape != x.shape[:2]:
            raise ValueError(f"fields: {name}: expected shape {x.shape[:2]}, got {values.shape}")
        limits.append(field_limits(values))
        parts[f"/fields/{index}"] = np.ascontiguousarray(values[:, ::every]).tobytes()
    colours = np.round(255 * field_colours(np.linspace(0, 1, 256), (0.0, 1.0), srgb=True)).astype(int)
    facts = {
        "times": t.tolist(),
        "count": len(range(0, x.shape[1], every)),
        "fields": list(fields),
        "limits": limits,
        "colours": colours.tolist(),
        "size": size,
    }
    anchors = " ".join(f'<a href="{html.escape(to)}">{html.escape(text)}</a>' for text, to in links.items())
    options = "".join(f'<option value="{k}">{html.escape(name)}</option>' for k, name in enumerate(fields))
    data = json.dumps(facts).replace("<", "\\u003c")
    template = (resources.files("simengine.assets") / "particle_page.html").read_text(encoding="utf-8")
    page = template.replace("@TITLE@", html.escape(title)).replace("@LINKS@", anchors).replace("@OPTIONS@", options)
    return ParticlePage(page.replace("@FACTS@", data).encode(), parts)


def pair_page(first: str, second: str) -> bytes:
    """A page that shows two pages side by side, of `0/` and `1/`: one slider of time, one way of looking.

    Args:
        first: Name of what `0/` shows.
        second: Of what `1/` shows.
    """
    template = (resources.files("simengine.assets") / "pair_page.html").read_text(encoding="utf-8")
    words = {"@TITLE@": f"{first} | {second}", "@FIRST@": first, "@SECOND@": second}
    for mark, text in words.items():
        template = template.replace(mark, html.escape(text))
    return template.encode()
