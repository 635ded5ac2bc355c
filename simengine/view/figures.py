"""Figures as arrays: curves and fields with axes, units and colour bars. Drawn by matplotlib without a display."""

import functools
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

DECADES = 100.0  # from the least to the greatest, from which on positive numbers lie by their logarithm
Curve = tuple[Any, Any]  # abscissae and ordinates
Band = tuple[Any, Any, Any]  # abscissae, lower and upper ends
Density = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CELLS = {1: 5.8, 2: 2.9, 3: 2.3, 4: 2.1, 5: 1.9, 6: 1.7}  # numbers of a corner -> inches of a panel
POINTS = 2000  # of a panel, at most
BARS = 8, 30  # of a histogram: the root of the samples, but not fewer nor more
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


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    figure = _figure(width, height)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _pixels(figure: Any) -> NDArray[np.uint8]:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def wide(values: Sequence[float]) -> bool:
    """Whether numbers (n,) are positive and run over two decades or more."""
    return len(values) > 0 and min(values) > 0 and max(values) >= DECADES * min(values)


@costs_the_figure_only
def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    xlabel: str,
    log: Sequence[str] = (),
    log_x: bool = False,
    points: Sequence[str] = (),
    bands: Mapping[str, Band | Mapping[str, Band]] | None = None,
) -> NDArray[np.uint8]:
    """Panels of curves side by side.

    Args:
        panels: Label of the ordinate (with unit) -> name of the curve -> (x, y), each of shape (n,).
        xlabel: Label of the abscissa, with unit.
        log: Panels whose ordinate is logarithmic.
        log_x: Whether abscissas are logarithmic.
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
        if log_x:
            axis.set_xscale("log")
        else:
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
def corner(
    numbers: Mapping[str, NDArray[np.float64]],
    *,
    priors: Mapping[str, Density] | None = None,
    marks: Mapping[str, float] | None = None,
) -> NDArray[np.uint8]:
    """Samples of several numbers: how each is spread on the diagonal, each pair below it.

    Positive numbers over two decades or more lie by their logarithm, and so does what they are spread by.

    Args:
        numbers: Label with unit -> samples, (n,), the same n for all.
        priors: Label -> density of its prior in the number itself, values (m,) to (m,).
        marks: Label -> a value to compare with, as one that was published.

    Returns:
        8-bit sRGB image, shape (h, w, 3).
    """
    labels, count = list(numbers), len(numbers)
    cell = CELLS.get(count, CELLS[max(CELLS)])
    figure = _figure(max(cell * count, 5.8), cell * count if count > 1 else 3.2)
    grid = figure.subplots(count, count, squeeze=False, sharex="col")
    kept = np.unique(np.linspace(0, len(numbers[labels[0]]) - 1, POINTS).round().astype(int))
    shown: dict[str, Any] = {}
    for row, col in np.ndindex(count, count):
        axis, label = grid[row][col], labels[col]
        if col > row:
            axis.set_axis_off()
            continue
        x, mark = np.asarray(numbers[label]), (marks or {}).get(label)
        if row == col:
            shown |= _spread(axis, x, (priors or {}).get(label))
            axis.set_yticks([])
        else:
            y, beside = np.asarray(numbers[labels[row]]), (marks or {}).get(labels[row])
            axis.plot(x[kept], y[kept], ".", ms=3, alpha=0.35 if len(kept) > 500 else 0.7, color="C0", mew=0)
            _ticks(axis.yaxis, y)
            if beside is not None:
                axis.axhline(beside, color="C3", lw=1)
        if mark is not None:
            shown["reference"] = axis.axvline(mark, color="C3", lw=1)
        _ticks(axis.xaxis, x)
        axis.tick_params("x", labelrotation=40, labelsize=8)
        axis.tick_params("y", labelsize=8, labelleft=col == 0 < row)
        axis.label_outer(remove_inner_ticks=False)
        room = int(14 * cell)  # letters that stand beside a panel
        if row == count - 1:
            axis.set_xlabel(_short(label, room), fontsize=8)
        if col == 0 < row:
            axis.set_ylabel(_short(labels[row], room), fontsize=8)
    place = {"loc": "upper right"} if count > 1 else {"loc": "outside upper center", "ncols": 4}
    figure.legend(list(shown.values()), list(shown), fontsize=8, **place)
    return _pixels(figure)


def _spread(axis: Any, x: NDArray[np.float64], prior: Density | None) -> dict[str, Any]:
    """A histogram of samples (n,), its middle 95 % dark, and the prior; what is drawn, by its name."""
    low, high = float(x.min()), float(x.max())
    count = int(np.clip(len(x) ** 0.5, *BARS)) + 1
    edges = np.geomspace(low, high, count) if wide([low, high]) else np.linspace(low, high, count)
    width = np.diff(np.log(edges)) if wide([low, high]) else np.diff(edges)
    heights = np.histogram(x, edges)[0] / (len(x) * width)
    inside = x[(x >= np.quantile(x, 0.025)) & (x <= np.quantile(x, 0.975))]
    most = np.histogram(inside, edges)[0] / (len(x) * width)
    shown = {
        "samples": axis.stairs(heights, edges, fill=True, alpha=0.35, color="C0"),
        "their middle 95 %": axis.stairs(most, edges, fill=True, color="C0"),
    }
    if prior is not None:
        at = np.geomspace(low, high, 200) if wide([low, high]) else np.linspace(low, high, 200)
        shown["prior"] = axis.plot(at, prior(at) * (at if wide([low, high]) else 1.0), "--", color="0.25", lw=1.2)[0]
    return shown


def _ticks(axis: Any, values: NDArray[np.float64]) -> None:
    """Few ticks whose labels say the whole number: no offset stands apart from them."""
    low, high = float(values.min()), float(values.max())
    if wide([low, high]):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        return
    span = max(high - low, 1e-300)
    digits = int(np.clip(np.log10(max(abs(low), abs(high), 1e-300) / span) + 2.5, 6, 15))
    axis.set_major_locator(_locator())
    axis.set_major_formatter(lambda value, _: f"{value:.{digits}g}" if abs(value) > 1e-9 * span else "0")


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


@costs_the_figure_only
def parallel(columns: Mapping[str, Sequence[Any]], *, by: Sequence[Any]) -> NDArray[np.uint8]:
    """Parallel coordinates: an axis for each column, a line for each row.

    Args:
        columns: Name -> its values, numbers or words, (n,); a line ends where a number is NaN. Positive numbers over
            two decades or more lie by their logarithm.
        by: Of one of them: what the lines are coloured by, (n,).

    Returns:
        8-bit sRGB image, shape (h, w, 3).
    """
    from matplotlib import colormaps

    figure, (axis,) = _canvas(max(1.5 * len(columns) + 1.5, 6.4), 3.8)
    scaled = np.stack([_between(values)[0] for values in columns.values()], 1)
    shade = np.nan_to_num(_between(by)[0], nan=0.0)
    for row, place in zip(scaled, shade, strict=True):
        axis.plot(range(len(columns)), row, color=colormaps["viridis"](0.95 * place), lw=1, alpha=0.8, marker=".", ms=3)
    for k, (name, values) in enumerate(columns.items()):
        low, high = _between(values)[1]
        axis.axvline(k, color="0.5", lw=0.8)
        axis.annotate(low, (k, -0.03), ha="center", va="top", fontsize=8)
        axis.annotate(high, (k, 1.03), ha="center", va="bottom", fontsize=8)
        side = {0: "left", len(columns) - 1: "right"}.get(k, "center")
        height = -0.14 - 0.09 * (k % 2)  # two rows: long names stand beside one another
        axis.annotate(_short(name), (k, height), ha=side, va="top", fontsize=8, annotation_clip=False)
    axis.set(xlim=(-0.4, len(columns) - 0.6), ylim=(-0.32, 1.12))
    axis.set_axis_off()
    return _pixels(figure)


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"...{name[-most:]}"


def _between(values: Sequence[Any]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Values (n,) from 0 for the least to 1 for the greatest, words in their order; and what stands at both ends."""
    if any(isinstance(v, str) for v in values):
        words = sorted(set(values))
        numbers, ends = np.array([float(words.index(v)) for v in values]), (words[0], words[-1])
    else:
        numbers = np.array(values, dtype=np.float64)
        seen = numbers[np.isfinite(numbers)]
        least, most = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
        ends = (f"{least:.4g}", f"{most:.4g}")
        if wide([least, most]):
            numbers = np.log(numbers)
    seen = numbers[np.isfinite(numbers)]
    low, width = (float(seen.min()), float(np.ptp(seen))) if len(seen) else (0.0, 0.0)
    return (numbers - low) / width if width > 0 else np.full(len(numbers), 0.5), ends


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
        axis.set(title="\n".join(textwrap.wrap(title, 40)), xlabel=xlabel, ylabel=ylabel)
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
