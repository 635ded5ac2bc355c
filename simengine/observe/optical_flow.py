"""Optical flow: how far what each pixel shows has moved in the next picture; files of it, and flow out of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simengine.extras import extra
from simengine.io.pictures import MAX_PIXELS, MAX_VALUES, PictureSeries
from simengine.io.tables import file_hash

FLOWS = (".flo", ".npy")
UNKNOWN = 1e9  # of .flo files: what is larger is no flow
AGREES = 0.5  # pixels by which there and back may miss
STRUCTURE = 1e-4  # of the mean of slopes times slopes, full scale 1 [1/px^2]: its least eigenvalue where there is any
AROUND = 5  # pixels of that mean
_TAG = b"PIEH"  # 202021.25 as float32: the file is little-endian

Floats = NDArray[np.float64]


def read_flows(files: Sequence[Path]) -> PictureSeries:
    """Flow of files, one for each picture but the last: right and down [px], NaN where none is told, (f, h, w, 2).

    Args:
        files: .flo (Middlebury's), or .npy (h, w, 2), or a single .npy (f, h, w, 2).

    Raises:
        ValueError: A file is no such file, or they differ in size.
    """
    parts: list[Floats] = []
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
        parts.append(_flo(file) if file.suffix.lower() == ".flo" else _npy(file))
        if parts[-1].shape[1:] != parts[0].shape[1:]:
            (h, w), (h0, w0) = parts[-1].shape[1:3], parts[0].shape[1:3]
            raise ValueError(f"{file.name}: {w} x {h} pixels, and {files[0].name} has {w0} x {h0}")
        if parts[-1].size * len(files) > MAX_VALUES:
            raise ValueError(f"{file.name}: the series has more than {MAX_VALUES} values; cut it")
    return PictureSeries(
        values=np.concatenate(parts),
        bits=0,
        linear=True,
        alpha=None,
        times=None,
        names=tuple(file.name for file in files),
        hashes={file.name: file_hash(file) for file in files},
    )


def _flo(file: Path) -> Floats:
    data = file.read_bytes()
    if len(data) < 12 or data[:4] != _TAG:
        raise ValueError(f"{file.name}: no .flo file: it does not begin with PIEH")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, offset=4))
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS // width) or len(data) != 12 + 8 * width * height:
        raise ValueError(f"{file.name}: {len(data)} bytes are no flow of {width} x {height} pixels; is it whole?")
    return _told(np.frombuffer(data, "<f4", offset=12).reshape(1, height, width, 2))


def _npy(file: Path) -> Floats:
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # the header is parsed as Python, with all that this may raise
        raise ValueError(f"{file.name}: not a readable array ({' '.join(str(error).split())[:120]})") from None
    if array.ndim not in (3, 4) or array.shape[-1] != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise ValueError(f"{file.name}: expected flow (h, w, 2) or (pictures, h, w, 2), got shape {array.shape}")
    return _told(array if array.ndim == 4 else array[None])


def _told(flow: NDArray[np.generic]) -> Floats:
    values = flow.astype(np.float64)
    known = (np.abs(values) < UNKNOWN).all(-1, keepdims=True)  # not so of NaN
    return np.where(known, values, np.nan)


def write_flows(path: Path, flows: Floats) -> None:
    """Write flows (f, h, w, 2) as .flo or .npy, as `read_flows` reads them; several with a star in the name.

    Raises:
        ValueError: The suffix is another one, or the star is missing.
    """
    if path.suffix.lower() not in FLOWS:
        raise ValueError(f"{path.name}: flow is written as .flo or .npy")
    if len(flows) > 1 and "*" not in path.name:
        raise ValueError(f"{path.name}: {len(flows)} flows; name them with a star, as in flow_*{path.suffix}")
    for number, flow in enumerate(flows):
        file = path.with_name(path.name.replace("*", f"{number:04d}"))
        if file.suffix.lower() == ".npy":
            np.save(file, flow)
            continue
        told = np.where(np.isfinite(flow), flow, 10 * UNKNOWN).astype("<f4")
        file.write_bytes(_TAG + np.array(flow.shape[1::-1], "<i4").tobytes() + told.tobytes())


def flow_between(first: Floats, second: Floats) -> Floats:
    """Flow from one grey picture (h, w) in [0, 1] to the next by OpenCV's dense inverse search, (h, w, 2) [px].

    NaN where the picture has no structure in all directions, and where there and back do not agree.

    Raises:
        RuntimeError: OpenCV is not installed.
    """
    cv2 = extra("cv2", of="camera", what='compare = "flow" of pictures')
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    a, b = ((255 * np.clip(picture, 0, 1)).round().astype(np.uint8) for picture in (first, second))
    least = 32  # pixels, below which its windows do not fit
    grow = max(1, -(-least // min(a.shape)))
    a, b = (np.kron(picture, np.ones((grow, grow), np.uint8)) for picture in (a, b))
    there, back = (search.calc(*pair, None)[::grow, ::grow].astype(np.float64) / grow for pair in ((a, b), (b, a)))
    height, width = first.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    at = [(x + there[..., 0]).astype(np.float32), (y + there[..., 1]).astype(np.float32)]
    home = cv2.remap(back.astype(np.float32), *at, cv2.INTER_LINEAR, borderValue=(np.nan, np.nan)).astype(np.float64)
    agrees = np.hypot(*np.moveaxis(there + home, -1, 0)) < AGREES  # not so of NaN
    down, right = np.gradient(first)
    mean = [cv2.blur(product, (AROUND, AROUND)) for product in (right * right, right * down, down * down)]
    least_slope = (mean[0] + mean[2]) / 2 - np.hypot((mean[0] - mean[2]) / 2, mean[1])
    found: Floats = np.where((agrees & (least_slope > STRUCTURE))[..., None], there, np.nan)
    return found
