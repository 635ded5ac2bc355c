"""What makes a picture readable: colours of a field with their bar, axes with ticks, captions; a body cut out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.image import to_srgb8

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
    """8-bit frames (..., h, w, 3 or 4) with the bar of a field beside them.

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
    picture = np.asarray(canvas.buffer_rgba())[:height, :, : frames.shape[-1]]
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


def with_captions(frames: Any, texts: Sequence[str]) -> NDArray[np.uint8]:
    """8-bit frames (k, h, w, 3 or 4) with a line of text each, in the lower left corner."""
    from PIL import Image, ImageDraw

    result = np.array(frames)
    size = max(10, result.shape[1] // 24)
    for picture, text in zip(result, texts, strict=True):
        drawn = Image.fromarray(picture)
        place, halo = (size / 2, result.shape[1] - size / 2), max(1, size // 10)
        ImageDraw.Draw(drawn).text(
            place, text, fill=(30, 30, 40), font_size=size, anchor="lb", stroke_width=halo, stroke_fill=(255, 255, 255)
        )
        picture[:] = np.asarray(drawn)
    return result


def times_told(times: Any) -> list[str]:
    """Moments [s] as captions, with the digits that tell them apart, a unit that keeps these few."""
    times = np.asarray(times, dtype=float)
    step = float(np.diff(times).min()) if len(times) > 1 else float(np.abs(times).max()) or 1.0
    factor, unit = next(((f, u) for f, u in ((1.0, "s"), (1e3, "ms"), (1e6, "us")) if step * f >= 1e-3), (1e9, "ns"))
    own = step * factor
    digits = next((d for d in range(4) if abs(round(own, d) - own) < 1e-3 * own), 4)
    return [f"t = {time * factor:.{digits}f} {unit}" for time in times]


def cut_out(black: Any, white: Any) -> NDArray[np.uint8]:
    """8-bit sRGB with opacity (..., h, w, 4) of the same pictures in linear light over black and over white.

    What a pixel gains from black to white is what it lets through (triangulation matting, Smith & Blinn 1996).
    """
    black, white = np.asarray(black, dtype=float), np.asarray(white, dtype=float)
    alpha = np.clip(1 - (white - black).mean(-1, keepdims=True), 0, 1)
    colour = np.where(alpha > 1e-3, black / np.maximum(alpha, 1e-3), 0.0)
    return np.concatenate([to_srgb8(colour), np.round(255 * alpha).astype(np.uint8)], axis=-1)
