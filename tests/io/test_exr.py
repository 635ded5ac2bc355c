import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from simengine.io import write
from simengine.io.exr import read_exr, rgb_of


def half_file(pixels: np.ndarray, compression: int) -> bytes:
    """A file as another program writes it: one HALF channel Y, window off the origin, blocks of one line."""
    height, width = pixels.shape
    box = struct.pack("<4i", 5, 7, 4 + width, 6 + height)
    attributes = {
        b"channels\0chlist\0": b"Y\0" + struct.pack("<iB3xii", 1, 0, 1, 1) + b"\0",
        b"compression\0compression\0": bytes([compression]),
        b"dataWindow\0box2i\0": box,
        b"displayWindow\0box2i\0": box,
        b"lineOrder\0lineOrder\0": b"\0",
    }
    header = struct.pack("<ii", 20000630, 2)
    header += b"".join(name + struct.pack("<i", len(value)) + value for name, value in attributes.items()) + b"\0"
    blocks = []
    for row, line in enumerate(pixels.astype("<f2")):
        raw = line.tobytes()
        if compression:
            data = bytearray(raw[0::2] + raw[1::2])
            for k in range(len(data) - 1, 0, -1):
                data[k] = (data[k] - data[k - 1] + 128) % 256
            raw = min(raw, zlib.compress(bytes(data)), key=len)
        blocks.append(struct.pack("<ii", 7 + row, len(raw)) + raw)
    offsets, at = b"", len(header) + 8 * height
    for block in blocks:
        offsets, at = offsets + struct.pack("<Q", at), at + len(block)
    return header + offsets + b"".join(blocks)


@pytest.mark.parametrize("shape", [(1, 1), (16, 5), (37, 64)])
def test_round_trip_keeps_every_bit(shape: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((*shape, 3)).astype(np.float32) * 1e3
    image[0] = 0.25  # a line that compresses
    np.testing.assert_array_equal(rgb_of(read_exr(write(tmp_path / "a.exr", image))), image)
    picture = SimpleNamespace(rgb=image, alpha=image[..., :1], depth=image[..., 1:2], normal=image)
    channels = read_exr(write(tmp_path / "b.exr", picture))
    assert sorted(channels) == ["A", "B", "G", "R", "Z", "normal.X", "normal.Y", "normal.Z"]
    np.testing.assert_array_equal(channels["Z"], image[..., 1])
    assert list(read_exr(write(tmp_path / "c.exr", {"T": image[..., 0]}))) == ["T"]


@pytest.mark.parametrize("compression", [0, 2])
def test_half_floats_of_other_programs(compression: int, tmp_path: Path) -> None:
    pixels = np.linspace(-2, 8, 60).reshape(6, 10)
    (tmp_path / "h.exr").write_bytes(half_file(pixels, compression))
    np.testing.assert_array_equal(read_exr(tmp_path / "h.exr")["Y"], pixels.astype(np.float16))


def test_bad_input_leaves_no_file(tmp_path: Path) -> None:
    for data, message in (
        (np.full((2, 2, 3), np.nan), "not finite"),
        (np.zeros((2, 2, 4)), "expected shape"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 3))}, "one shape"),
        ({"a": np.full((2, 2), np.inf)}, "channel a: 4 values are not finite"),
        ({}, "at least one channel"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "x.exr", data)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_told(tmp_path: Path) -> None:
    good = write(tmp_path / "a.exr", np.random.default_rng(0).random((20, 9, 3))).read_bytes()
    file = tmp_path / "bad.exr"
    with pytest.raises(ValueError, match="cannot be read"):
        read_exr(file)
    for data in (b"", b"PNG", good[:40], good[:300], good[:-5]):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"bad\.exr: "):
            read_exr(file)
    file.write_bytes(good.replace(b"compression\0compression\0\1\0\0\0\3", b"compression\0compression\0\1\0\0\0\4"))
    with pytest.raises(ValueError, match="compression 4 is not read"):
        read_exr(file)
    file.write_bytes(struct.pack("<ii", 20000630, 0x202))
    with pytest.raises(ValueError, match="tiled, deep and multi-part"):
        read_exr(file)
    with pytest.raises(ValueError, match="expected R, G and B"):
        rgb_of({"Y": np.zeros((1, 1), np.float32)})
