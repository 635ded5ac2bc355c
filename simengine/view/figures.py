"""Figures as arrays: curves and fields with axes, units and colour bars. Drawn by matplotlib without a display."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Curve = tuple[Any, Any]  # abscissae and ordinates
Band = tuple[Any, Any, Any]  # abscissae, lower and upper ends
F = TypeVar("F", bound=Callable[..., NDArray[np.uint8]])


def costs_the_figure_only(draw: F) -> F:
    """A drawing function that gives an empty picture, with a remark on standard error, where it cannot draw here.

    For want of matplotlib, Pillow or a font: the results that the figure would show are worth more than it.
    """

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> NDArray[np.uint8]:
        try:
            return draw(*args, **kwargs)
        except (ImportError, OSError) as error:
            print(f"warning: a figure is left empty: {error}", file=sys.stderr)
            return np.full((16, 16, 3), 255, np.uint8)

    return drawn  # type: ignore[return-value]


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _pixels(figure: Any) -> NDArray[np.uint8]:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


@costs_the_figure_only
def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    xlabel: str,
    log: Sequence[str] = (),
    points: Sequence[str] = (),
    bands: Mapping[str, Band | Mapping[str, Band]] | None = None,
) -> NDArray[np.uint8]:
    """Panels of curves side by side.

    Args:
        panels: Label of the ordinate (with unit) -> name of the curve -> (x, y), each of shape (n,).
        xlabel: Label of the abscissa, with unit.
        log: Panels whose ordinate is logarithmic.
        points: Curves drawn as points, as measurements are.
        bands: Panel -> (x, lower, upper), a shaded band of 95 %, or names of bands -> such; of the colour of the first
            curve that is a line.

    Returns:
        8-bit sRGB image, shape (h, w, 3).
    """
    figure, axes = _canvas(max(4.2 * len(panels), 6.4), 3.2, len(panels))
    for axis, (label, entries) in zip(axes, panels.items(), strict=True):
        for name, (x, y) in entries.items():
            style = "o" if name in points else "-"
            axis.plot(np.asarray(x), np.asarray(y), style, markersize=3, label=name)
        if bands and label in bands:
            shades = bands[label]
            first = next((k for k, name in enumerate(entries) if name not in points), 1)
            for name, parts in (shades if isinstance(shades, Mapping) else {"95 %": shades}).items():
                x, low, high = (np.asarray(part) for part in parts)
                axis.fill_between(x, low, high, alpha=0.25, lw=0, color=f"C{first}", label=name)
        axis.set(xlabel=xlabel, ylabel=label)
        axis.locator_params(axis="x", nbins=6)
        axis.ticklabel_format(axis="x", scilimits=(-3, 5))  # 0.0005 as 5 beside 1e-4: long labels would touch
        if label in log:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        if len(entries) > 1 or (bands and label in bands):
            axis.legend(fontsize=8)
    return _pixels(figure)


@costs_the_figure_only
def slices(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[Any, ...]]]],
    *,
    xlabel: str,
) -> NDArray[np.uint8]:
    """Panels of measured points over predicted lines, a colour for each moment or place.

    Args:
        panels: Label of the ordinate (with unit) -> what is held, in words -> `measured`, `predicted` and what other
            models say as (x, y), and `95 %` as (x, lower, upper).
        xlabel: Label of the abscissa, with unit.

    Returns:
        8-bit sRGB image, shape (h, w, 3).
    """
    figure, axes = _canvas(max(4.2 * len(panels), 6.4), 3.2, len(panels))
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        for color, (held, entries) in enumerate(lines.items()):
            for name, (x, *ys) in entries.items():
                own = {"color": f"C{color}", "label": held if name == "predicted" else None}
                if len(ys) == 2:
                    axis.fill_between(np.asarray(x), *(np.asarray(y) for y in ys), alpha=0.25, lw=0, color=own["color"])
                    continue
                style = {"measured": "o", "predicted": "-"}.get(name, "--")
                axis.plot(np.asarray(x), np.asarray(ys[0]), style, markersize=3, **own)
        axis.set(xlabel=xlabel, ylabel=label)
        axis.locator_params(axis="x", nbins=6)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, title="points measured, lines predicted", title_fontsize=8)
    return _pixels(figure)


@costs_the_figure_only
def fields(
    panels: Mapping[str, Any],
    *,
    extent: tuple[float, float, float, float],
    xlabel: str,
    ylabel: str,
    symmetric: Sequence[str] = (),
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> NDArray[np.uint8]:
    """Fields of two coordinates side by side, each with its colour bar.

    Args:
        panels: Title (with unit) -> values, shape (ny, nx), row 0 at the bottom.
        extent: Left, right, bottom, top in the unit of the axes.
        xlabel: Label of the abscissa, with unit.
        ylabel: Label of the ordinate, with unit.
        symmetric: Panels coloured symmetrically about zero, as errors are.
        limits: Values of the ends of the colour bar per panel, so that frames of a film compare; else the panel's own.

    Returns:
        8-bit sRGB image, shape (h, w, 3).
    """
    figure, axes = _canvas(4.0 * len(panels), 3.2, len(panels))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        values = np.asarray(values)
        limit = float(np.abs(values).max()) or 1.0
        options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if title in symmetric else {"cmap": "viridis"}
        if limits and title in limits:
            options = {**options, "vmin": limits[title][0], "vmax": limits[title][1]}
        image = axis.imshow(values, origin="lower", aspect="auto", extent=extent, **options)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        figure.colorbar(image, ax=axis)
    return _pixels(figure)


def label(image: Any, text: str) -> NDArray[np.uint8]:
    """An 8-bit `image` (h, w, 3) with a line of `text` in its upper left corner."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return np.asarray(image)
    picture = Image.fromarray(np.asarray(image))
    ImageDraw.Draw(picture).text((6, 4), text, fill=(20, 20, 20), font_size=max(10, picture.height // 16))
    return np.asarray(picture)
