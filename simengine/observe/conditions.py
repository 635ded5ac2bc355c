"""What changes a photograph: exposure, blur, noise, compression, size, what hides an object; each with its unit."""

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from simengine.scene.strict import Range, nearest


@dataclasses.dataclass(frozen=True)
class Axis:
    """Along what pictures are changed.

    Attributes:
        unit: Of the values.
        neutral: The value that changes nothing.
        allowed: Of the values.
    """

    unit: str
    neutral: float
    allowed: Range


AXES = {
    "light": Axis("1", 1.0, Range(gt=0)),
    "blur": Axis("px", 0.0, Range(ge=0)),
    "motion": Axis("px", 0.0, Range(ge=0)),
    "defocus": Axis("px", 0.0, Range(ge=0)),
    "noise": Axis("1", 0.0, Range(ge=0)),
    "jpeg": Axis("1", 100.0, Range(ge=1, le=100)),
    "scale": Axis("1", 1.0, Range(gt=0)),
    "hidden": Axis("1", 0.0, Range(ge=0, lt=1)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestSpec:
    """Along what the pictures are changed to see what it costs.

    Attributes:
        axes: Name -> values: `light` (gain of the linear light [1]), `blur` (standard deviation of a Gaussian [px]),
            `motion` (length of a level movement while exposed [px]), `defocus` (radius of the circle of confusion
            [px]), `noise` (standard deviation of the encoded picture [1]), `jpeg` (quality of the compression, 100
            leaves the picture [1]), `scale` (size over that as given [1]), `hidden` (share of each object's height,
            from below, behind grey [1]).
    """

    __test__ = False  # no test of pytest's
    axes: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if name not in AXES:
                raise ValueError(f"axes: {name!r} is no axis; {nearest(name, AXES)}")
            for value in values:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(f"axes.{name}: expected numbers, got {value!r}")
                if told := AXES[name].allowed.check(float(value)):
                    raise ValueError(f"axes.{name}: {told}")


def changed(
    linear: torch.Tensor, axis: str, value: float, *, seed: int = 0, boxes: np.ndarray | None = None
) -> torch.Tensor:
    """An encoded picture under one changed condition; boxes move under `scale` alone.

    Light is gained, blurred and resized before it is encoded, as in a camera; noise and compression come after.

    Args:
        linear: Linear light, (3, h, w).
        axis: See `TestSpec`.
        value: Along it.
        seed: Of the noise.
        boxes: Corners [px] of the objects that `hidden` hides, (n, 4).

    Returns:
        SRGB in [0, 1], (3, h', w').
    """
    from simengine.render.tone import encode_srgb

    if value != AXES[axis].neutral and axis in BEFORE:
        linear = BEFORE[axis](linear, value)
    if axis == "hidden" and value > 0:
        linear = _hidden(linear, value, boxes if boxes is not None else np.zeros((0, 4)))
    encoded = encode_srgb(linear.clamp(0, 1))
    if axis == "noise" and value > 0:
        generator = torch.Generator().manual_seed(seed)
        encoded = encoded + value * torch.randn(encoded.shape, generator=generator)
    if axis == "jpeg" and value < AXES["jpeg"].neutral:
        encoded = _compressed(encoded, round(value))
    return encoded.clamp(0, 1)


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """An image (c, h, w) through a Gaussian of standard deviation `sigma` [px], borders continued."""
    reach = max(round(4 * sigma), 1)
    x = torch.arange(-reach, reach + 1, dtype=image.dtype)
    line = torch.exp(-0.5 * (x / sigma) ** 2)
    return _filtered(_filtered(image, line[None]), line[:, None])


def motion_blur(image: torch.Tensor, length: float) -> torch.Tensor:
    """An image (c, h, w) that moved `length` [px] along its rows while it was exposed, borders continued."""
    reach = math.ceil(length / 2)
    x = torch.arange(-reach, reach + 1, dtype=image.dtype)
    # a box of that length, each pixel weighted by the part of it that lies inside
    line = (length / 2 + 0.5 - x.abs()).clamp(0, 1)
    return _filtered(image, line[None])


def defocus_blur(image: torch.Tensor, radius: float) -> torch.Tensor:
    """An image (c, h, w) with a circle of confusion of `radius` [px], borders continued."""
    reach, fine = math.ceil(radius), 16
    sub = (torch.arange(fine, dtype=image.dtype) + 0.5) / fine - 0.5
    x = (torch.arange(-reach, reach + 1, dtype=image.dtype)[:, None] + sub).reshape(-1)
    inside = (x[:, None] ** 2 + x**2 <= radius**2).to(image)
    n = 2 * reach + 1
    return _filtered(image, inside.reshape(n, fine, n, fine).mean((1, 3)))


def _filtered(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Each channel of (c, h, w) through a kernel with odd sides, made to sum to 1; borders continued."""
    rows, columns = (n // 2 for n in kernel.shape)
    padded = torch.nn.functional.pad(image[:, None], (columns, columns, rows, rows), mode="replicate")
    return torch.nn.functional.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def _resized(linear: torch.Tensor, factor: float) -> torch.Tensor:
    h, w = linear.shape[1:]
    size = max(round(h * factor), 1), max(round(w * factor), 1)
    return torch.nn.functional.interpolate(linear[None], size, mode="bilinear", antialias=factor < 1)[0]


def _hidden(linear: torch.Tensor, share: float, boxes: np.ndarray) -> torch.Tensor:
    """The lower `share` of each box behind a grey as light as the picture is on average."""
    out, grey = linear.clone(), linear.mean()
    for left, top, right, bottom in boxes:
        above = bottom - share * (bottom - top)
        out[:, max(round(above), 0) : max(round(bottom), 0), max(round(left), 0) : max(round(right), 0)] = grey
    return out


def _compressed(encoded: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = (encoded.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        back = np.asarray(Image.open(file).convert("RGB"))
    return torch.from_numpy(back.copy()).permute(2, 0, 1).to(encoded) / 255


BEFORE: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "light": lambda linear, gain: linear * gain,
    "blur": gaussian_blur,
    "motion": motion_blur,
    "defocus": defocus_blur,
    "scale": _resized,
}
