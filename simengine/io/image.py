"""Images: float linear RGB inside, 8-bit sRGB in a PNG."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_array(image: Any) -> NDArray[np.floating]:
    """A numpy image from a tensor, an array or anything with an `.rgb`; shape (..., h, w, 3).

    Raises:
        ValueError: The shape is not that of RGB images, or a value is not finite.
    """
    image = getattr(image, "rgb", image)
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    pixels = np.asarray(image)
    if pixels.ndim < 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise ValueError(f"image: expected shape (..., h, w, 3), got {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError(f"image: {np.count_nonzero(~np.isfinite(pixels))} values are not finite")
    return pixels


def to_srgb8(image: Any) -> NDArray[np.uint8]:
    """8-bit sRGB (IEC 61966-2-1) from linear RGB; 8-bit input is passed through."""
    pixels = to_array(image)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    linear = np.clip(pixels, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def from_srgb(encoded: NDArray[np.floating]) -> NDArray[np.float64]:
    """Linear light of sRGB (IEC 61966-2-1) in [0, 1]; the inverse of the curve in `to_srgb8`."""
    encoded = np.asarray(encoded, dtype=np.float64)
    power = ((np.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(encoded <= 0.04045, encoded / 12.92, power)


def write_png(path: Path, image: Any) -> None:
    """Write one image (h, w, 3), linear RGB or 8-bit sRGB; or 8-bit sRGB with opacity, (h, w, 4)."""
    from PIL import Image

    given = np.asarray(getattr(image, "rgb", image)) if not hasattr(image, "detach") else np.zeros(0)
    pixels = given if given.dtype == np.uint8 and given.shape[-1:] == (4,) else to_srgb8(image)
    if pixels.ndim != 3:
        raise ValueError(f"a PNG holds one image (h, w, 3), got {pixels.shape}")
    Image.fromarray(pixels).save(path)
