"""Pictures in, by suffix: whether a file holds encoded or linear light is decided here, at the door."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 1 << 28  # of a picture; a small file can claim more than any memory holds
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".exr", ".npy")
_LINEAR = (".exr",)


def read_picture(path: str | Path, *, linear: bool = True) -> NDArray[np.float32]:
    """Read a picture as RGB, rows as the file stores them.

    png, jpg, bmp and tif hold sRGB of 8 or 16 bits; exr holds linear light; npy holds sRGB where its numbers are
    whole ones, linear light where they are not.

    Args:
        path: The file.
        linear: Linear light, else sRGB in [0, 1] (light above 1 is cut).

    Returns:
        Shape (h, w, 3).

    Raises:
        ValueError: The file is missing, damaged, no picture, or claims too many pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a picture is a {', '.join(SUFFIXES)} file")
    if suffix == ".npy":
        pixels, encoded = _read_npy(path)
    elif suffix in _LINEAR:
        from simengine.io.exr import read_exr, rgb_of

        pixels, encoded = np.asarray(rgb_of(read_exr(path)), dtype=np.float32), False
    else:
        pixels, encoded = _read_pillow(path), True
    if not np.isfinite(pixels).all():
        raise ValueError(f"{path}: {np.count_nonzero(~np.isfinite(pixels))} values are not finite")
    if linear == (not encoded):
        return pixels
    return decode(pixels) if linear else encode(pixels)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Rows and columns of a picture; of most formats the header alone is read.

    Raises:
        ValueError: As `read_picture`.
    """
    path = Path(path)
    if path.suffix.lower() in (".exr", ".npy") or not path.is_file() or path.suffix.lower() not in SUFFIXES:
        h, w, _ = read_picture(path).shape
        return h, w
    with _opened(path) as image:
        return image.height, image.width


def encode(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """SRGB in [0, 1] of linear light (IEC 61966-2-1)."""
    x = np.clip(linear, 0.0, 1.0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-12) ** (1 / 2.4) - 0.055).astype(np.float32)


def decode(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light of sRGB in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable picture ({str(error).splitlines()[0]})") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{path}: {image.width} x {image.height} pixels; at most {MAX_PIXELS} are read")
    return image


def _read_pillow(path: Path) -> NDArray[np.float32]:
    with _opened(path) as image:
        try:
            if image.mode.startswith("I"):  # 16 bits of grey
                grey = np.asarray(image, dtype=np.float32) / np.float32(65535)
                return np.repeat(grey[..., None], 3, -1)
            return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: damaged picture ({str(error).splitlines()[0]})") from None


def _read_npy(path: Path) -> tuple[NDArray[np.float32], bool]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a readable npy file ({str(error).splitlines()[0]})") from None
    if array.ndim == 2:
        array = np.broadcast_to(array[..., None], (*array.shape, 3))
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape or array.dtype.kind not in "uif":
        raise ValueError(f"{path}: expected a picture (h, w) or (h, w, 3), got {array.dtype} {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"{path}: {array.shape[1]} x {array.shape[0]} pixels; at most {MAX_PIXELS} are read")
    whole = array.dtype.kind in "ui"
    top = np.iinfo(array.dtype).max if whole else 1
    return np.asarray(array[..., :3], dtype=np.float32) / np.float32(top), whole
