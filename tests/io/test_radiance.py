"""Pictures of Radiance, made by hand from the description of the format."""

from pathlib import Path

import numpy as np
import pytest

from simengine.io.pictures import picture_size, read_rgb

HEAD = b"#?RADIANCE\nSOFTWARE=none\nFORMAT=32-bit_rle_rgbe\n\n"


def packed(pixels: np.ndarray) -> bytes:
    """Lines with runs of three or more as runs, and what is between as it is."""
    width = pixels.shape[1]
    out = bytearray()
    for row in pixels:
        out += bytes((2, 2, width >> 8, width & 255))
        for line in row.T.tolist():
            at = 0
            while at < width:
                run = next(
                    (n for n in range(1, min(127, width - at) + 1) if line[at + n : at + n + 1] != [line[at]]), 1
                )
                if run >= 3:
                    out += bytes((128 + run, line[at]))
                else:
                    run = 1
                    out += bytes((1, line[at]))
                at += run
    return bytes(out)


def light(pixels: np.ndarray) -> np.ndarray:
    scale = 2.0 ** (pixels[..., 3:].astype(float) - 136)
    return np.where(pixels[..., 3:] > 0, (pixels[..., :3] + 0.5) * scale, 0.0)


@pytest.mark.parametrize("width", [5, 40])
def test_light_is_read(tmp_path: Path, width: int) -> None:
    """Narrow pictures hold their bytes as they are, wider ones runs; a shared exponent of 0 is black."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(1, 256, (6, width, 4)).astype(np.uint8)
    pixels[:, width // 2 :] = pixels[:, :1]
    pixels[2, 1, 3] = 0
    pixels[..., 3] = np.where(pixels[..., 3] > 0, 120 + pixels[..., 3] % 16, 0)
    body = pixels.tobytes() if width == 5 else packed(pixels)
    file = tmp_path / "sky.hdr"
    file.write_bytes(HEAD + b"-Y 6 +X %d\n" % width + body)
    assert np.allclose(read_rgb(file), light(pixels), rtol=1e-6, atol=0)
    assert picture_size(file) == (6, width) and float(read_rgb(file)[2, 1].max()) == 0.0


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    pixels = np.full((4, 16, 4), 130, np.uint8)
    whole = HEAD + b"-Y 4 +X 16\n" + packed(pixels)
    for data, said in (
        (whole[:-3], r"sky\.hdr: not a readable picture \(it ends early"),
        (whole.replace(b"FORMAT=32-bit_rle_rgbe", b"FORMAT=32-bit_rle_xyze"), "no header of Radiance"),
        (whole.replace(b"-Y 4 +X", b"+Y 4 +X"), "expected rows from above"),
        (whole.replace(b"-Y 4", b"-Y 9999999").replace(b"+X 16", b"+X 9999999"), "pixels; expected 1 to"),
        (HEAD + b"-Y 4 +X 16\n" + bytes((2, 2, 0, 16, 0)) + bytes(99), "ends early, or is damaged"),
    ):
        (tmp_path / "sky.hdr").write_bytes(data)
        with pytest.raises(ValueError, match=said):
            read_rgb(tmp_path / "sky.hdr")
