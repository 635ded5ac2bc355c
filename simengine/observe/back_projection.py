"""Filtered back-projection of a slice: what projections tell without a fit (Kak & Slaney 1988, ch. 3)."""

import math

import torch


def filtered_back_projection(
    views: torch.Tensor,
    angles: torch.Tensor,
    pitch: float,
    points: torch.Tensor,
    *,
    axis_offset: float = 0.0,
    source_to_axis: float = math.inf,
    source_to_detector: float = math.inf,
) -> torch.Tensor:
    """The field at points, by the band-limited ramp filter, without a window.

    At angle t the elements follow one another along (cos t, sin t), rays run along (-sin t, cos t). An arc that is not
    full counts as it is: nothing stands for the views that are missing.

    Args:
        views: Integrals along rays, (views, elements).
        angles: Of the views, evenly turned (views,) [rad].
        pitch: From one element to the next [m]; negative where they follow one another the other way.
        points: Where, (q, 2) [m].
        axis_offset: Where the axis meets the detector, from its middle [m].
        source_to_axis: Of a fan beam [m]; infinite for parallel rays.
        source_to_detector: Of a fan beam [m].

    Returns:
        (q,), in the unit of the integrals over m.

    Raises:
        ValueError: There are fewer than two views.
    """
    if len(views) < 2 or len(views) != len(angles):
        raise ValueError(f"views: expected two or more with an angle each, got {len(views)} and {len(angles)} angles")
    fan = math.isfinite(source_to_axis)
    smaller = source_to_axis / source_to_detector if fan else 1.0  # from the detector to the axis
    count, step = views.shape[1], abs(pitch) * smaller
    at = ((torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * pitch - axis_offset) * smaller
    weighed = views.double()
    if fan:
        weighed = weighed * source_to_axis / (source_to_axis**2 + at.square()).sqrt()
    filtered = _ramp(weighed, step)
    arc = abs(float(angles[-1] - angles[0])) * len(angles) / (len(angles) - 1)
    share = min(math.pi, arc) / len(angles)  # beyond half a turn lines are seen again
    total = points.new_zeros(len(points), dtype=torch.float64)
    for view, t in zip(filtered, angles.double(), strict=True):
        across = points[:, 0] * t.cos() + points[:, 1] * t.sin()
        depth = points[:, 1] * t.cos() - points[:, 0] * t.sin()
        ratio = source_to_axis / (source_to_axis + depth) if fan else torch.ones_like(depth)
        place = (across * ratio - float(at[0])) / float(at[1] - at[0])
        below = place.floor().long().clamp(0, count - 2)
        part = place - below
        value = (1 - part) * view[below] + part * view[below + 1]
        total += share * ratio.square() * torch.where((place >= 0) & (place <= count - 1), value, 0.0)
    return total


def _ramp(views: torch.Tensor, step: float) -> torch.Tensor:
    """Each view convolved with the band-limited ramp (Ramachandran & Lakshminarayanan 1971)."""
    count = views.shape[1]
    length = 2 ** math.ceil(math.log2(2 * count))
    k = torch.arange(length, dtype=torch.float64)
    k = torch.minimum(k, length - k)  # both ways from the first
    kernel = torch.where(k % 2 == 1, -1.0 / (math.pi * k * step).square(), 0.0)
    kernel[0] = 1.0 / (4 * step**2)
    padded = torch.nn.functional.pad(views, (0, length - count))
    found = torch.fft.irfft(torch.fft.rfft(padded) * torch.fft.rfft(kernel), n=length)
    return found[:, :count] * step
