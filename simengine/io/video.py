"""Moving pictures: mp4 through PyAV, GIF through Pillow."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.image import to_srgb8
from simengine.io.registry import MissingWriterError

CODEC = "libx264"
SHOWN, MEASURED = 23, 10  # libx264's own, at which outlines of 96 pixels fray; of a film that is data


def _frames(frames: Any) -> NDArray[np.uint8]:
    if isinstance(frames, Iterable) and not hasattr(frames, "shape"):
        frames = [to_srgb8(frame) for frame in frames]
        if not frames:
            raise ValueError("a video needs at least one frame, got none")
        return np.stack(frames)
    pixels = to_srgb8(frames)
    if pixels.ndim != 4:
        raise ValueError(f"frames: expected shape (n, h, w, 3), got {pixels.shape}")
    return pixels


def write_mp4(path: Path, frames: Any, *, fps: float = 30, crf: int = SHOWN) -> None:
    """Write frames (n, h, w, 3) as H.264; odd sizes are cropped by a pixel, since the codec needs even ones.

    Args:
        path: The file.
        frames: What `to_srgb8` takes.
        fps: Frames a second [1/s].
        crf: How much is lost, 0 for nothing beside the halved chroma to 51: `SHOWN` to be looked at, `MEASURED` where
            the film is data.

    Raises:
        ValueError: The frames do not fit.
        MissingWriterError: The library or its codec is missing here.
    """
    if not fps > 0:
        raise ValueError(f"fps: expected a number above 0, got {fps}")
    pixels = _frames(frames)
    height, width = pixels.shape[1] // 2 * 2, pixels.shape[2] // 2 * 2
    if height == 0 or width == 0:
        raise ValueError(f"an mp4 needs frames of at least 2 x 2 pixels, got {pixels.shape[1]} x {pixels.shape[2]}")
    try:
        import av

        with av.open(str(path), "w") as film:
            stream = film.add_stream(CODEC, rate=Fraction(fps).limit_denominator(65535), options={"crf": str(crf)})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in pixels[:, :height, :width]:
                film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            film.mux(stream.encode(None))
    except ImportError as error:
        raise MissingWriterError(
            f"mp4 needs PyAV ({error}): pip install 'simengine[video]', or write a .gif"
        ) from error
    except ValueError as error:  # also PyAV's UnknownCodecError
        if CODEC not in str(error):
            raise
        raise MissingWriterError(
            f"the FFmpeg of PyAV here has no {CODEC}: pip install --upgrade av, or write a .gif"
        ) from error


def write_gif(path: Path, frames: Any, *, fps: float = 20) -> None:
    """Write frames (n, h, w, 3) as a looping GIF."""
    from PIL import Image

    if not fps > 0:
        raise ValueError(f"fps: expected a number above 0, got {fps}")
    pixels = _frames(frames)
    # FASTOCTREE is some 40 times faster than the default quantiser
    images = [Image.fromarray(frame).quantize(128, method=Image.Quantize.FASTOCTREE) for frame in pixels]
    images[0].save(path, save_all=True, append_images=images[1:], duration=1000 / fps, loop=0)
