"""Pictures of Radiance (.hdr, .pic), as panoramas of light are handed on: a shared exponent for red, green and blue.

Source: Greg Ward, "Real pixels", Graphics Gems II, 1991, and the file format of Radiance's reference manual.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 27  # pixels of a picture
RUN = 128  # lengths above it repeat one value
SIZE = re.compile(rb"-Y (\d{1,7}) \+X (\d{1,7})$")


def read_radiance(file: Path) -> NDArray[np.float64]:
    """Linear light, (h, w, 3), rows from above.

    Raises:
        ValueError: It is no such file, ends early, is stored another way, or is too large; one line.
    """
    data = file.read_bytes()
    head, _, rest = data.partition(b"\n\n")
    lines = head.splitlines()
    if not lines or not lines[0].startswith(b"#?") or b"FORMAT=32-bit_rle_rgbe" not in lines:
        raise ValueError(f"{file.name}: not a readable picture (no header of Radiance with FORMAT=32-bit_rle_rgbe)")
    size, _, packed = rest.partition(b"\n")
    found = SIZE.match(size.strip())
    if found is None:
        raise ValueError(f"{file.name}: expected rows from above and columns from the left, as in -Y 512 +X 1024")
    height, width = int(found[1]), int(found[2])
    if not 0 < height * width <= LARGEST:
        raise ValueError(f"{file.name}: {width} x {height} pixels; expected 1 to {LARGEST}")
    try:
        pixels = _unpacked(np.frombuffer(packed, np.uint8), height, width)
    except (IndexError, ValueError):
        raise ValueError(f"{file.name}: not a readable picture (it ends early, or is damaged)") from None
    exponent = pixels[..., 3:].astype(np.int64)
    return np.where(exponent > 0, np.ldexp(pixels[..., :3].astype(np.float64) + 0.5, exponent - 136), 0.0)


def _unpacked(data: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bytes of all pixels, (h, w, 4)."""
    start = bytes((2, 2, width >> 8, width & 255))
    if not 8 <= width < 1 << 15 or data[:4].tobytes() != start:  # as they are, without runs
        return data[: 4 * height * width].reshape(height, width, 4)
    out = np.empty((height, 4, width), np.uint8)
    place = 0
    for row in range(height):
        if data[place : place + 4].tobytes() != start:
            raise ValueError("a line without its mark")
        place += 4
        for line in out[row]:
            filled = 0
            while filled < width:
                length = int(data[place])
                if length > RUN:
                    length -= RUN
                    line[filled : filled + length] = data[place + 1]
                    place += 2
                else:
                    line[filled : filled + length] = data[place + 1 : place + 1 + length]
                    place += 1 + length
                filled += length
                if not length or filled > width:
                    raise ValueError("a run that does not fit")
    return out.transpose(0, 2, 1)
