"""How results look in a notebook: a line of text, and small pictures as SVG or PNG that need nothing else."""

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SIDE, MARGIN = 180, 6  # of a small picture [px]
MOST_POINTS, MOST_PICTURES = 400, 6
_FRAME = "fill:none;stroke:currentColor;stroke-opacity:.25"


def described(value: Any) -> str:
    """A tensor in words, as "float64 (3, 4)"; other things by their type."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def heading(text: str) -> str:
    """A line above a picture."""
    return f"<div><code>{html.escape(text)}</code></div>"


def dots(frames: "Sequence[tuple[torch.Tensor, torch.Tensor]]", titles: Sequence[str], *, equal: bool = True) -> str:
    """Small pictures of points side by side, all with the same axes.

    Args:
        frames: Abscissae and ordinates, each (n,); of many points evenly chosen ones are drawn.
        titles: Under each.
        equal: One scale along both axes.
    """
    drawn = [(_chosen(x), _chosen(y)) for x, y in frames]
    xs, ys = [v for x, _ in drawn for v in x], [v for _, y in drawn for v in y]
    known = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not known:
        return ""
    low = [min(p[k] for p in known) for k in range(2)]
    size = [max(max(p[k] for p in known) - low[k], 1e-300) for k in range(2)]
    if equal:
        size = [max(size)] * 2
    inner = SIDE - 2 * MARGIN
    parts = []
    for (x, y), title in zip(drawn, titles, strict=True):
        marks = "".join(
            f'<circle cx="{MARGIN + inner * (a - low[0]) / size[0]:.1f}" '
            f'cy="{SIDE - MARGIN - inner * (b - low[1]) / size[1]:.1f}" r="1.4"/>'
            for a, b in zip(x, y, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        )
        parts.append(
            f'<figure style="display:inline-block;margin:4px"><svg width="{SIDE}" height="{SIDE}" fill="currentColor">'
            f'<rect width="{SIDE}" height="{SIDE}" style="{_FRAME}"/>{marks}</svg>'
            f"<figcaption>{html.escape(title)}</figcaption></figure>"
        )
    return "".join(parts)


def _chosen(values: "torch.Tensor") -> list[float]:
    step = max(1, math.ceil(len(values) / MOST_POINTS))
    return [float(v) for v in values.detach()[::step].cpu()]


def pictures(encoded: "torch.Tensor") -> str:
    """Pictures (n, h, w, 3) of sRGB in [0, 1] side by side, at most six of them, as PNG."""
    from PIL import Image

    step = max(1, math.ceil(len(encoded) / MOST_PICTURES))
    parts = []
    for picture in (255 * encoded.detach()[::step]).round().byte().cpu():
        buffer = io.BytesIO()
        Image.fromarray(picture.numpy()).save(buffer, "PNG")
        code = base64.b64encode(buffer.getvalue()).decode()
        parts.append(f'<img style="min-width:96px;margin:2px" src="data:image/png;base64,{code}"/>')
    return "".join(parts)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""
    line = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><tr>{line}</tr>{body}</table>"
