"""What makes a picture readable: colours of a field with their bar, and axes with ticks in metres."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOUR_MAP = "viridis"


def field_limits(values: Any) -> tuple[float, float]:
    """Least and greatest value over all frames, apart from each other even where a field is constant.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    values = np.asarray(values, dtype=float)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("the field has no values, or some that are not finite, which have no colour")
    low, high = float(values.min()), float(values.max())
    apart = max(0.5, 1e-3 * abs(low))
    return (low, high) if high > low else (low - apart, high + apart)


def field_colours(values: Any, limits: tuple[float, float], *, srgb: bool = False) -> NDArray[np.float64]:
    """Linear RGB of values (...), shape (..., 3); encoded with `srgb`."""
    import matplotlib

    share = (np.asarray(values, dtype=float) - limits[0]) / (limits[1] - limits[0])
    encoded = matplotlib.colormaps[COLOUR_MAP](np.clip(share, 0, 1))[..., :3]
    return encoded if srgb else np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def with_colour_bar(frames: Any, limits: tuple[float, float], title: str) -> NDArray[np.uint8]:
    """8-bit frames (..., h, w, 3) with the bar of a field beside them.

    Args:
        frames: 8-bit sRGB.
        limits: Values at the ends of the bar.
        title: Name of the field, with its unit.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    frames = np.asarray(frames)
    height = frames.shape[-3]
    figure = Figure(figsize=(0.9, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0.12, 0.08, 0.2, 0.84))
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), COLOUR_MAP), cax=axis)
    bar.set_label(title, fontsize=8)
    axis.tick_params(labelsize=7)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[:height, :, :3]
    picture = np.broadcast_to(picture, (*frames.shape[:-3], *picture.shape))
    return np.concatenate([frames, picture], axis=-2)


def with_axes(frames: Any, lines: Any, labels: Any) -> NDArray[np.uint8]:
    """8-bit frames with lines and labels drawn over them.

    Args:
        frames: 8-bit sRGB, shape (..., h, w, 3).
        lines: Pixel coordinates of their ends, shape (k, 2, 2).
        labels: Pairs of a pixel coordinate (2,) and a text.
    """
    from PIL import Image, ImageDraw

    frames = np.asarray(frames)
    result = np.array(frames)
    size = max(9, frames.shape[-3] // 32)
    for index in np.ndindex(*frames.shape[:-3]):
        picture = Image.fromarray(frames[index])
        pen = ImageDraw.Draw(picture)
        for start, end in np.asarray(lines, dtype=float).reshape(-1, 2, 2):
            pen.line([*start, *end], fill=(90, 90, 100))
        for place, text in labels:
            pen.text(tuple(np.asarray(place, dtype=float)), text, fill=(40, 40, 50), font_size=size, anchor="mm")
        result[index] = np.asarray(picture)
    return result
