"""Pictures at the door: encoded or linear, damaged, too large."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simengine.io import write
from simengine.io.pictures import picture_size, read_picture


def test_every_suffix_reads_the_same_grey(tmp_path: Path) -> None:
    """SRGB 188 is 0.5029 linear (IEC 61966-2-1); exr and float npy hold linear light as it is."""
    linear = ((188 / 255 + 0.055) / 1.055) ** 2.4
    pixels = np.full((5, 7, 3), 188, np.uint8)
    for suffix in ("png", "bmp", "tif", "jpg"):
        Image.fromarray(pixels).save(tmp_path / f"p.{suffix}")
    write(tmp_path / "p.exr", np.full((5, 7, 3), linear, np.float32))
    np.save(tmp_path / "p.npy", np.full((5, 7, 3), linear, np.float32))
    np.save(tmp_path / "whole.npy", pixels)
    Image.fromarray(np.full((5, 7), round(188 / 255 * 65535), np.uint16)).save(tmp_path / "deep.png")
    for name in ("p.png", "p.bmp", "p.tif", "p.jpg", "p.exr", "p.npy", "whole.npy", "deep.png"):
        image = read_picture(tmp_path / name)
        assert image.shape == (5, 7, 3) and image.dtype == np.float32
        assert np.allclose(image, linear, atol=2e-3), name
        assert np.allclose(read_picture(tmp_path / name, linear=False), 188 / 255, atol=2e-3), name
        assert picture_size(tmp_path / name) == (5, 7)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(b"")
    np.save(tmp_path / "five.npy", np.zeros((2, 2, 5)))
    np.save(tmp_path / "nan.npy", np.full((2, 2, 3), np.nan))
    (tmp_path / "p.gif").write_bytes(b"GIF89a")
    for name in ("text.png", "cut.png", "five.npy", "nan.npy", "p.gif", "missing.png"):
        with pytest.raises(ValueError, match=name):
            read_picture(tmp_path / name)


def test_a_small_file_that_claims_a_huge_picture_is_refused(tmp_path: Path) -> None:
    """A header of 60,000 x 60,000 pixels is refused before anything is unpacked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"bomb.png: (60000 x 60000 pixels|not a readable picture)"):
        read_picture(tmp_path / "bomb.png")
