"""OpenEXR images: linear radiance as it is, without clipping, with any further channels such as alpha and depth.

Scanline files of one part, 32-bit floats compressed by ZIP in blocks of 16 lines; whatever has HALF, FLOAT or UINT
channels and no or ZIP compression is read. Source: "OpenEXR File Layout" of the Academy Software Foundation.
"""

import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.arrays import to_numpy
from simengine.io.image import to_array

MAGIC, VERSION = 20000630, 2
LINES = {0: 1, 2: 1, 3: 16}  # of a block: none, ZIPS, ZIP
TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
LARGEST = 1 << 28  # numbers in an image that is read


def write_exr(path: Path, data: Any) -> None:
    """Write an image.

    Args:
        path: The file.
        data: Linear RGB (h, w, 3); or a picture with `.rgb` and, where it has them, `.alpha` (channel A), `.depth` (Z)
            and `.normal` (normal.X, .Y, .Z); or a dict of channel name -> (h, w).
    """
    planes = {name: np.ascontiguousarray(value, dtype="<f4") for name, value in _planes(data).items()}
    shapes = {plane.shape for plane in planes.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or 0 in next(iter(shapes)):
        raise ValueError(f"an EXR holds channels of one shape (h, w), got {sorted(map(str, shapes))}")
    for name, plane in planes.items():
        if not np.isfinite(plane).all():
            raise ValueError(f"channel {name}: {np.count_nonzero(~np.isfinite(plane))} values are not finite")
    ((height, width),) = shapes
    names = sorted(planes)
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for name in names) + b"\0"
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<ii", MAGIC, VERSION)
    for name, kind, value in (
        ("channels", "chlist", channels),
        ("compression", "compression", b"\3"),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ):
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    header += b"\0"
    table = np.stack([planes[name] for name in names], axis=1)  # lines of all channels one after another
    blocks = []
    for first in range(0, height, LINES[3]):
        raw = table[first : first + LINES[3]].tobytes()
        packed = zlib.compress(_mix(raw))
        packed = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", first, len(packed)) + packed)
    start = len(header) + 8 * len(blocks)
    offsets = np.cumsum([start, *map(len, blocks)])[:-1].astype("<u8")
    path.write_bytes(header + offsets.tobytes() + b"".join(blocks))


def read_exr(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """The channels of an image by name, shape (h, w) each.

    Raises:
        ValueError: The file is missing, damaged or of a kind that is not read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a folder, or a pipe that nobody writes to
        raise ValueError(f"{path}: not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return _parse(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except zlib.error:
        raise ValueError(f"{path}: damaged (a block does not decompress)") from None
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def rgb_of(channels: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The image (h, w, 3) of the channels R, G and B."""
    missing = [name for name in "RGB" if name not in channels]
    if missing:
        raise ValueError(f"channels: expected R, G and B, got {sorted(channels)}")
    return np.stack([channels[name] for name in "RGB"], axis=-1)


def _planes(data: Any) -> dict[str, NDArray[Any]]:
    if isinstance(data, Mapping):
        if not data:
            raise ValueError("an EXR needs at least one channel, got none")
        return {str(name): to_numpy(value) for name, value in data.items()}
    planes = dict(zip("RGB", np.moveaxis(to_array(data), -1, 0), strict=True))
    for attribute, names in (("alpha", ["A"]), ("depth", ["Z"]), ("normal", ["normal.X", "normal.Y", "normal.Z"])):
        value = getattr(data, attribute, None)
        if value is not None:
            planes |= dict(zip(names, np.moveaxis(to_numpy(value), -1, 0), strict=True))
    return planes


def _mix(raw: bytes) -> bytes:
    """Bytes of even and of odd place apart, each less the one before: what ZIP compresses."""
    data = np.frombuffer(raw, np.uint8)
    apart = np.concatenate([data[0::2], data[1::2]])
    return np.concatenate([apart[:1], apart[1:] - apart[:-1] + np.uint8(128)]).tobytes()


def _unmix(mixed: bytes) -> bytes:
    data = np.frombuffer(mixed, np.uint8).copy()
    data[1:] -= np.uint8(128)
    apart = np.cumsum(data, dtype=np.uint8)
    result = np.empty_like(apart)
    half = (len(apart) + 1) // 2
    result[0::2], result[1::2] = apart[:half], apart[half:]
    return result.tobytes()


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at, at + 256)
    return data[at:end].decode(), end + 1


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    attributes, at = {}, 8
    while data[at] != 0:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if not 0 <= size <= len(data) - at - 4:
            raise ValueError(f"damaged (attribute {name} of {size} bytes)")
        attributes[name], at = data[at + 4 : at + 4 + size], at + 4 + size
    return attributes, at + 1


def _parse(data: bytes) -> dict[str, NDArray[np.float32]]:
    if len(data) < 8 or struct.unpack_from("<i", data)[0] != MAGIC:
        raise ValueError("not an OpenEXR file")
    if struct.unpack_from("<i", data, 4)[0] & ~0x400 != VERSION:
        raise ValueError("tiled, deep and multi-part files are not read; convert it to scanlines")
    attributes, at = _header(data)
    compression = attributes["compression"][0]
    if compression not in LINES:
        raise ValueError(f"compression {compression} is not read; save it with ZIP or none")
    x0, y0, x1, y1 = struct.unpack("<4i", attributes["dataWindow"])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    types: dict[str, np.dtype[Any]] = {}
    place, text = 0, attributes["channels"]
    while text[place] != 0:
        name, place = _text(text, place)
        kind, _, across, down = struct.unpack_from("<iB3xii", text, place)
        if (across, down) != (1, 1):
            raise ValueError(f"channel {name} is subsampled, which is not read")
        types[name], place = TYPES[kind], place + 16
    if not types or width < 1 or height < 1 or width * height * len(types) > LARGEST:
        raise ValueError(f"{width} x {height} pixels of {len(types)} channels are not read")
    planes = {name: np.empty((height, width), np.float32) for name in types}
    line = width * sum(dtype.itemsize for dtype in types.values())
    count = math.ceil(height / LINES[compression])
    for offset in struct.unpack_from(f"<{count}Q", data, at):
        first, size = struct.unpack_from("<ii", data, offset)
        first -= y0
        lines = min(LINES[compression], height - first)
        if first < 0 or lines < 1 or not 0 <= size <= len(data) - offset - 8:
            raise ValueError("damaged (a block lies outside the image or the file)")
        raw = data[offset + 8 : offset + 8 + size]
        if compression and size < line * lines:
            raw = _unmix(zlib.decompressobj().decompress(raw, line * lines))
        if len(raw) != line * lines:
            raise ValueError("damaged (a block of lines is short)")
        place = 0
        for row in range(first, first + lines):
            for name, dtype in types.items():
                planes[name][row] = np.frombuffer(raw, dtype, width, place)
                place += width * dtype.itemsize
    return planes
