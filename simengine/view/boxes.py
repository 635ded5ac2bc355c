"""Boxes drawn on pictures: those that people drew, those that a detector found, with names and scores."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TURNED = 5  # numbers of a turned box
COLOURS = {"hit": (60, 220, 90), "missed": (255, 60, 60), "alarm": (255, 170, 0), "ignored": (150, 150, 160)}


def draw_boxes(image: Any, boxes: Sequence[tuple[Sequence[float], str, str]], *, width: int = 640) -> NDArray[np.uint8]:
    """An 8-bit picture with boxes.

    Args:
        image: 8-bit sRGB, (h, w, 3).
        boxes: Corners of an upright box, or middle, sides and angle of a turned one [px, rad], key of `COLOURS`, and a
            text above it.
        width: Columns that smaller pictures are brought near to, by a whole factor, so that texts can be read.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(np.asarray(image))
    factor = max(1, round(width / picture.width))
    picture = picture.resize((picture.width * factor, picture.height * factor))
    pen = ImageDraw.Draw(picture)
    for corners, kind, text in boxes:
        colour = COLOURS[kind]
        if len(corners) == TURNED:
            around = [(factor * x, factor * y) for x, y in _around(corners)]
            pen.polygon(around, outline=(0, 0, 0), width=4)
            pen.polygon(around, outline=colour, width=2)
            x0, y0 = min(x for x, _ in around), min(y for _, y in around)
        else:
            x0, y0, x1, y1 = (factor * float(v) for v in corners)
            pen.rectangle((x0, y0, max(x1, x0), max(y1, y0)), outline=(0, 0, 0), width=4)
            pen.rectangle((x0 + 1, y0 + 1, max(x1 - 1, x0 + 1), max(y1 - 1, y0 + 1)), outline=colour, width=2)
        if text:
            place = (x0 + 3, y0 - 15 if y0 > 16 else y0 + 3)
            pen.rectangle(pen.textbbox(place, text, font_size=13), fill=(0, 0, 0))
            pen.text(place, text, fill=colour, font_size=13)
    return np.asarray(picture)


def _around(box: Sequence[float]) -> list[tuple[float, float]]:
    """The four corners of a turned box, in order."""
    x, y, w, h, angle = map(float, box)
    cos, sin = math.cos(angle) / 2, math.sin(angle) / 2
    return [
        (x + i * w * cos - j * h * sin, y + i * w * sin + j * h * cos) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def sheet(tiles: Sequence[NDArray[np.uint8]], *, columns: int = 4) -> NDArray[np.uint8]:
    """Pictures of one size, (h, w, 3), beside one another in rows of `columns`, white where there is none."""
    filled = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % min(columns, len(tiles)))]
    return np.concatenate([np.concatenate(filled[k : k + columns], 1) for k in range(0, len(filled), columns)], 0)
