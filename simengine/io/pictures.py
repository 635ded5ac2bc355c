"""Pictures and videos in: png, jpg, bmp, tif, exr, hdr, npy, what FFmpeg reads; folders and stars in order of numbers.

What the numbers of a file mean is decided here: 8- and 16-bit integers are shares of full scale as a screen shows them
(sRGB), floats are linear light, or metres, as they stand.
"""

import dataclasses
import glob
import re
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.image import from_srgb
from simengine.io.tables import file_hash

STILLS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".exr", ".hdr", ".npy")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
MAX_PIXELS = 1 << 27  # of one picture
MAX_VALUES = 1 << 30  # of a series


@dataclasses.dataclass(frozen=True)
class PictureSeries:
    """Pictures of one size.

    Attributes:
        values: (f, h, w, c) float64; shares of full scale where `bits` is not 0, else as the file has them.
        bits: Of each channel of the file; 0 for floats.
        linear: Whether the values are linear light rather than sRGB.
        alpha: Opacity that the files tell, (f, h, w), or None.
        times: Of the frames of a video [s], (f,); None for stills.
        names: Of the files, or `name#frame`.
        hashes: Name of each file -> its SHA-256.
    """

    values: NDArray[np.float64]
    bits: int
    linear: bool
    alpha: NDArray[np.float64] | None
    times: NDArray[np.float64] | None
    names: tuple[str, ...]
    hashes: dict[str, str]

    @property
    def colours_are_halved(self) -> bool:
        """Whether the files keep colours for every second pixel, as videos and jpg do, and so smear them."""
        return any(Path(name).suffix.lower() in (*VIDEOS, ".jpg", ".jpeg") for name in self.hashes)

    def light(self) -> NDArray[np.float64]:
        """Linear light, (f, h, w, c)."""
        return self.values if self.linear else from_srgb(self.values)


def read_picture(path: str | Path) -> NDArray[np.float64]:
    """Linear light of one picture, (h, w, c).

    Raises:
        ValueError: The file is missing, damaged, too large, or of a kind that is not read.
    """
    return read_stills([Path(path)]).light()[0]


def read_rgb(path: str | Path) -> NDArray[np.float32]:
    """Linear light of one picture as RGB, (h, w, 3); a grey one three times, opacity left out.

    Raises:
        ValueError: As of `read_picture`; or it has two channels.
    """
    light = read_picture(path)
    if light.shape[2] == 1:
        light = np.repeat(light, 3, axis=2)
    if light.shape[2] != 3:
        raise ValueError(f"{Path(path).name}: {light.shape[2]} channels; expected grey or RGB")
    if not (np.abs(light) <= np.finfo(np.float32).max).all():
        raise ValueError(f"{Path(path).name}: it holds values that are no light: not finite, or beyond 3e38")
    return light.astype(np.float32)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Rows and columns of a picture; of most formats the header alone is read.

    Raises:
        ValueError: As of `read_picture`.
    """
    path = Path(path)
    if path.suffix.lower() in (".exr", ".hdr", ".npy", ".tif", ".tiff") or not path.is_file():
        h, w, _ = read_picture(path).shape
        return h, w
    from PIL import Image

    try:
        with Image.open(path) as opened:
            turned = opened.getexif().get(0x0112, 1) >= 5  # orientations that swap rows and columns
            return (opened.width, opened.height) if turned else (opened.height, opened.width)
    except Exception as error:  # the library raises what its decoders do
        raise ValueError(f"{path.name}: not a readable picture ({' '.join(str(error).split())[:120]})") from None


def read_video(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear light (f, h, w, c) and times [s] (f,) of a video, as its frames carry them.

    Raises:
        ValueError: As of `read_picture`.
    """
    pictures = read_frames(Path(path))
    assert pictures.times is not None
    return pictures.light(), pictures.times


def read_series(path: str | Path, *, every: int = 1) -> PictureSeries:
    """Every `every`-th picture of a video, a still, a folder, or a path with stars, in order of the numbers in names.

    Raises:
        ValueError: As of `read_picture`; or the pictures differ in size.
    """
    files = series_files(path)
    if len(files) == 1 and files[0].suffix.lower() in VIDEOS:
        return read_frames(files[0], every=every)
    if video := next((file for file in files if file.suffix.lower() in VIDEOS), None):
        raise ValueError(f"{video.name}: one video, or stills; a series of videos is not one")
    return read_stills(files[::every])


def series_files(path: str | Path) -> list[Path]:
    """The files that a path, a folder or a path with stars names, in order of the numbers in their names.

    Raises:
        ValueError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in STILLS]
        if not found:
            raise ValueError(f"{path}: no picture in this folder; known are {', '.join(STILLS)}")
    elif path.exists():
        found = [path]
    elif any(mark in str(path) for mark in "*?["):
        found = [Path(name) for name in glob.glob(str(path))]
        if not found:
            raise ValueError(f"{path.name}: no file is like it in {path.parent}")
    else:
        raise ValueError(f"{path}: no such file")
    return sorted(found, key=lambda file: (_order(file.name), file.name))


def _order(name: str) -> list[tuple[int, int, str]]:
    """A key by which frame_9 comes before frame_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def read_stills(files: Sequence[Path]) -> PictureSeries:
    """Stills of one size; see `read_series`."""
    parts = []
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file}: no such file" if not file.exists() else f"{file}: not a regular file")
        parts.append(_still(file))
        values = parts[-1][0]
        if values.shape != parts[0][0].shape:
            raise ValueError(
                f"{file.name}: {_size(values.shape)}, and {files[0].name} is {_size(parts[0][0].shape)}; "
                f"pictures of a series have one size"
            )
        _check_values(values.size * len(files), file)
    alphas = [part[1] for part in parts]
    return PictureSeries(
        values=np.stack([part[0] for part in parts]),
        bits=max(part[2] for part in parts),
        linear=parts[0][3],
        alpha=None if any(alpha is None for alpha in alphas) else np.stack([a for a in alphas if a is not None]),
        times=None,
        names=tuple(file.name for file in files),
        hashes={file.name: file_hash(file) for file in files},
    )


Still = tuple[NDArray[np.float64], NDArray[np.float64] | None, int, bool]  # values, alpha, bits, linear


def _still(file: Path) -> Still:
    suffix = file.suffix.lower()
    if suffix == ".exr":
        return _exr(file)
    if suffix == ".hdr":
        from simengine.io.radiance import read_radiance

        return read_radiance(file), None, 0, True
    if suffix == ".npy":
        return _npy(file)
    if suffix in (".tif", ".tiff"):
        return _tif(file)
    if suffix in STILLS:
        return _pillow(file)
    raise ValueError(f"{file.name}: not a picture that is read; known are {', '.join((*STILLS, *VIDEOS))}")


def _pillow(file: Path) -> Still:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
            with Image.open(file) as opened:
                _check_pixels(opened.size[0] * opened.size[1], file)
                image = ImageOps.exif_transpose(opened)  # phones say how they were held
                if image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
                    image = image.convert("RGBA" if "transparency" in image.info else "RGB")
                elif image.mode in ("1", "La", "PA"):
                    image = image.convert("L" if image.mode == "1" else "LA")
                elif image.mode == "I" and image.format == "PNG":  # 16-bit grey
                    image = image.convert("I;16")
                array = np.asarray(image)
    except Exception as error:  # the library raises what its decoders do
        raise ValueError(f"{file.name}: not a readable picture ({' '.join(str(error).split())[:120]})") from None
    return _typed(array, file)


def _tif(file: Path) -> Still:
    try:
        import tifffile
    except ImportError:
        return _pillow(file)
    try:
        with tifffile.TiffFile(file) as tif:
            page = tif.pages[0]
            _check_pixels(int(np.prod(page.shape)), file)
            array = page.asarray()
    except Exception as error:  # the library raises what its decoders do
        raise ValueError(f"{file.name}: not a readable picture ({' '.join(str(error).split())[:120]})") from None
    return _typed(array, file)


def _npy(file: Path) -> Still:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        _check_pixels(int(np.prod(array.shape)), file)
        return _typed(np.array(array), file)
    except Exception as error:  # the header is parsed as Python, with all that this may raise
        text = " ".join(str(error).split())[:200]
        raise ValueError(
            text if text.startswith(file.name) else f"{file.name}: not a readable array ({text})"
        ) from None


def _exr(file: Path) -> Still:
    from simengine.io.exr import read_exr

    channels = read_exr(file)
    colour = [channels[name] for name in "RGB" if name in channels]
    if len(colour) not in (0, 3):
        raise ValueError(f"{file.name}: expected channels R, G and B, or one of depth or grey, got {sorted(channels)}")
    if not colour:
        name = next((name for name in ("Y", "Z", "R", "A") if name in channels), next(iter(channels)))
        colour = [channels[name]]
    alpha = channels.get("A")
    values = np.stack(colour, axis=-1).astype(np.float64)
    return values, None if alpha is None or len(colour) == 1 else alpha.astype(np.float64), 0, True


def _typed(array: NDArray[Any], file: Path) -> Still:
    """Channels last, alpha apart, integers as shares of full scale."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4) or 0 in array.shape:
        raise ValueError(f"{file.name}: expected (h, w) or (h, w, channels), got shape {array.shape}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        values, bits, linear = array.astype(np.float64), 1, False
    elif kind == "u" and size <= 2:
        values, bits, linear = array / float(2 ** (8 * size) - 1), 8 * size, False
    elif kind == "f" or kind in "iu":
        values, bits, linear = array.astype(np.float64), 0, True
    else:
        raise ValueError(f"{file.name}: values of type {array.dtype} are no picture")
    alpha = None
    if values.shape[-1] in (2, 4):
        alpha, values = values[..., -1], values[..., :-1]
    return values, alpha, bits, linear


def read_frames(file: Path, *, every: int = 1) -> PictureSeries:
    """Frames of a video with their own times; see `read_series`."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        import av
    except ImportError as error:
        raise ValueError(f"{file.name}: reading a video needs PyAV ({error}): pip install 'simengine[video]'") from None
    frames, times, bits = [], [], 8
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise ValueError(f"{file.name}: it holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            _check_pixels(stream.width * stream.height, file)
            rate = stream.average_rate or Fraction(25)
            for number, frame in enumerate(container.decode(stream)):
                if number % every:
                    continue
                bits = max((c.bits for c in frame.format.components), default=8)
                pixels = frame.to_ndarray(format="rgb48le" if bits > 8 else "rgb24")
                pixels = np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90) % 4)
                frames.append(pixels / (65535.0 if bits > 8 else 255.0))
                times.append(float(frame.time) if frame.time is not None else float(number / rate))
                _check_values(frames[0].size * len(frames), file)
    except AttributeError:  # a stream without a codec has no width
        raise ValueError(f"{file.name}: not a readable video (its codec is not known)") from None
    except av.FFmpegError as error:
        raise ValueError(f"{file.name}: not a readable video ({' '.join(str(error).split())[:120]})") from None
    if not frames:
        raise ValueError(f"{file.name}: it holds no frame")
    moments = np.array(times)
    if (np.diff(moments) <= 0).any():
        raise ValueError(f"{file.name}: the times of its frames do not grow; give `times` or `fps`")
    return PictureSeries(
        values=np.stack(frames),
        bits=bits,
        linear=False,
        alpha=None,
        times=moments,
        names=tuple(f"{file.name}#{k * every}" for k in range(len(frames))),
        hashes={file.name: file_hash(file)},
    )


def write_series(path: Path, light: NDArray[np.float64] | NDArray[np.uint8], *, fps: float | None = None) -> list[Path]:
    """Write linear light (f, h, w, 3), or plain values (f, h, w, 1), as `read_series` reads them.

    Args:
        path: A video; a still with a star for the number, as in frame_*.png; or a single still.
        light: The pictures.
        fps: Of a video.

    Raises:
        ValueError: The suffix is none of those written (mp4, png, exr, npy).
    """
    from simengine.io.registry import write
    from simengine.io.video import MEASURED

    suffix = path.suffix.lower()
    if suffix in (".mp4", ".gif"):
        options = {"crf": MEASURED} if suffix == ".mp4" else {}
        write(path, np.broadcast_to(light, (*light.shape[:3], 3)), fps=fps or 30.0, **options)
        return [path]
    if suffix not in (".png", ".exr", ".npy"):
        raise ValueError(f"{path.name}: pictures are written as .mp4, .png, .exr or .npy")
    if len(light) > 1 and "*" not in path.name:
        raise ValueError(f"{path.name}: {len(light)} pictures; name them with a star, as in frame_*{suffix}")
    return list(_stills(path, light, suffix))


def _stills(path: Path, light: NDArray[np.float64] | NDArray[np.uint8], suffix: str) -> Iterator[Path]:
    from simengine.io.registry import write

    for number, picture in enumerate(light):
        file = path.with_name(path.name.replace("*", f"{number:04d}"))
        if suffix == ".npy":
            np.save(file, picture)
        elif suffix == ".exr" and picture.shape[-1] == 1:
            write(file, {"Z": picture[..., 0]})
        else:
            write(file, np.broadcast_to(picture, (*picture.shape[:2], 3)))
        yield file


def _check_pixels(count: int, file: Path) -> None:
    if count > MAX_PIXELS:
        raise ValueError(f"{file.name}: {count} pixels; at most {MAX_PIXELS} are read; make it smaller")


def _check_values(count: int, file: Path) -> None:
    if count > MAX_VALUES:
        raise ValueError(f"{file.name}: the series has more than {MAX_VALUES} values; cut it, or take `every` n-th")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels of {shape[2]} channels"
