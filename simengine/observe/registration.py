"""Where windows of one picture lie in another: normalised correlation, coarse to fine, to a part of a pixel."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REACH = 4  # pixels of a level about what the coarser one found
LEAST = 9  # pixels of the smallest window


def matched(
    first: Floats, second: Floats, centers: Floats, *, window: int, halvings: int
) -> tuple[Floats, NDArray[np.float64]]:
    """Displacements of windows.

    Args:
        first: Grey picture (h, w).
        second: Grey picture (h, w).
        centers: Of the windows in the first, x to the right and y down, (rows, columns, 2) [px].
        window: Pixels along each side.
        halvings: Of the resolution at which the search begins, over the whole picture; a level too coarse to hold a
            window is passed over.

    Returns:
        Displacements (rows, columns, 2) [px] and the correlations (rows, columns), NaN where a window leaves a picture.
    """
    found = np.zeros(centers.shape)
    score = np.zeros(centers.shape[:2])
    for level in range(halvings, -1, -1):
        scale = 2**level
        a, b = _halved(first, level), _halved(second, level)
        half = max(round((window if level == 0 else 1.5 * window) / scale), LEAST) // 2
        known = ~np.isnan(score) & (level < halvings)
        reach = REACH if known.any() else max(b.shape)  # nothing yet: over the whole picture
        start = _median_of_neighbours(found, known) / scale
        for index in np.ndindex(*score.shape):
            moved, score[index] = _one(a, b, (centers[index] + 0.5) / scale - 0.5, start[index], half, reach)
            found[index] = moved * scale
    return found, score


def _halved(picture: Floats, times: int) -> Floats:
    for _ in range(times):
        h, w = (n // 2 * 2 for n in picture.shape)
        picture = picture[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))
    return picture


def _one(a: Floats, b: Floats, center: Floats, start: Floats, half: int, reach: int) -> tuple[Floats, float]:
    """Displacement and correlation of one window; what of it lies in the picture counts."""
    from scipy.signal import fftconvolve

    nothing = (np.full(2, np.nan), np.nan)
    x, y = (round(float(v)) for v in center)
    if not (half <= x < a.shape[1] - half and half <= y < a.shape[0] - half) or not np.isfinite(start).all():
        return nothing
    template = a[y - half : y + half + 1, x - half : x + half + 1]
    template = template - template.mean()
    power = float((template**2).sum())
    dx, dy = (round(float(v)) for v in start)
    top, left = max(y + dy - reach - half, 0), max(x + dx - reach - half, 0)
    part = b[top : max(y + dy + reach + half + 1, 0), left : max(x + dx + reach + half + 1, 0)]
    side = 2 * half + 1
    if part.shape[0] < side + 2 or part.shape[1] < side + 2 or power <= 0:
        return nothing
    product = fftconvolve(part, template[::-1, ::-1], mode="valid")
    sums = np.pad(part, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    squares = np.pad(part**2, ((1, 0), (1, 0))).cumsum(0).cumsum(1)

    def boxed(total: Floats) -> Floats:
        result: Floats = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
        return result

    spread = boxed(squares) - boxed(sums) ** 2 / side**2
    correlation = product / np.sqrt(np.maximum(spread, 1e-12 * power) * power)
    i, j = (int(v) for v in np.unravel_index(int(correlation.argmax()), correlation.shape))
    if not (0 < i < correlation.shape[0] - 1 and 0 < j < correlation.shape[1] - 1):
        return nothing
    right = _peak(correlation[i, j - 1 : j + 2])
    down = _peak(correlation[i - 1 : i + 2, j])
    moved = np.array([left + j + right + half - x, top + i + down + half - y])
    return moved, float(correlation[i, j])


def _peak(three: Floats) -> float:
    """Where the parabola through three values is greatest, from the middle one."""
    below = three[0] - 2 * three[1] + three[2]
    return float(0.5 * (three[0] - three[2]) / below) if below < 0 else 0.0


def _median_of_neighbours(found: Floats, known: NDArray[np.bool_]) -> Floats:
    """Of the nine displacements about each, unknown ones left out: a start that one wrong window does not spoil.

    Where none of the nine is known, as at the edge of a coarse picture, the median of all.
    """
    if not known.any():
        return np.zeros_like(found)
    padded = np.pad(np.where(known[..., None], found, np.nan), ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1)).reshape(*found.shape, 9)
    empty = np.isnan(views).all(-1)
    medians: Floats = np.nanmedian(np.where(empty[..., None], 0.0, views), axis=-1)
    return np.where(empty, np.median(found[known], axis=0), medians)
