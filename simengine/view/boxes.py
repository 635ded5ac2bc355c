"""Boxes drawn on pictures: those that people drew, those that a detector found, with names and scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = {"hit": (60, 220, 90), "missed": (255, 60, 60), "alarm": (255, 170, 0), "ignored": (150, 150, 160)}


def draw_boxes(image: Any, boxes: Sequence[tuple[Sequence[float], str, str]], *, width: int = 640) -> NDArray[np.uint8]:
    """An 8-bit picture with boxes.

    Args:
        image: 8-bit sRGB, (h, w, 3).
        boxes: Corners [px], key of `COLOURS`, and a text above it.
        width: Columns that smaller pictures are brought near to, by a whole factor, so that texts can be read.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(np.asarray(image))
    factor = max(1, round(width / picture.width))
    picture = picture.resize((picture.width * factor, picture.height * factor))
    pen = ImageDraw.Draw(picture)
    for corners, kind, text in boxes:
        x0, y0, x1, y1 = (factor * float(v) for v in corners)
        colour = COLOURS[kind]
        pen.rectangle((x0, y0, max(x1, x0), max(y1, y0)), outline=(0, 0, 0), width=4)
        pen.rectangle((x0 + 1, y0 + 1, max(x1 - 1, x0 + 1), max(y1 - 1, y0 + 1)), outline=colour, width=2)
        if text:
            place = (x0 + 3, y0 - 15 if y0 > 16 else y0 + 3)
            pen.rectangle(pen.textbbox(place, text, font_size=13), fill=(0, 0, 0))
            pen.text(place, text, fill=colour, font_size=13)
    return np.asarray(picture)


def sheet(tiles: Sequence[NDArray[np.uint8]], *, columns: int = 4) -> NDArray[np.uint8]:
    """Pictures of one size, (h, w, 3), beside one another in rows of `columns`, white where there is none."""
    filled = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % min(columns, len(tiles)))]
    return np.concatenate([np.concatenate(filled[k : k + columns], 1) for k in range(0, len(filled), columns)], 0)
