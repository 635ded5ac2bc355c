"""Pictures and videos read back, against Pillow, imageio and numbers written by hand."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import simengine.io as io
from simengine.io import pictures
from simengine.io.pictures import read_frames, read_picture, read_series, read_video, write_series


def _save(file: Path, array: np.ndarray, **options: object) -> Path:
    from PIL import Image

    Image.fromarray(array).save(file, **options)
    return file


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_eight_bits_are_srgb(suffix: str, tmp_path: Path) -> None:
    file = _save(tmp_path / f"a.{suffix}", np.full((4, 6, 3), (188, 128, 0), np.uint8))
    light = read_picture(file)
    # IEC 61966-2-1: 188/255 is linear 0.5029, 128/255 is 0.2159
    assert light.shape == (4, 6, 3) and np.allclose(
        light, [0.5029, 0.2159, 0.0], atol=8e-3 if suffix == "jpg" else 1e-4
    )


def test_sixteen_bits_grey_alpha_palette_and_floats(tmp_path: Path) -> None:
    deep = read_series(_save(tmp_path / "deep.png", np.array([[0, 30000, 65535]], np.uint16)))
    assert deep.bits == 16 and np.allclose(deep.values[0, 0, :, 0], [0, 30000 / 65535, 1])
    clear = read_series(_save(tmp_path / "clear.png", np.full((2, 2, 4), (255, 0, 0, 51), np.uint8)))
    assert clear.values.shape == (1, 2, 2, 3) and clear.alpha is not None and np.allclose(clear.alpha, 0.2)
    from PIL import Image

    Image.fromarray(np.full((3, 3, 3), (0, 255, 0), np.uint8)).quantize(4).save(tmp_path / "few.png")
    assert np.allclose(read_picture(tmp_path / "few.png"), [0, 1, 0], atol=0.02)
    np.save(tmp_path / "metres.npy", np.array([[0.25, 3.5]], np.float32))
    depth = read_series(tmp_path / "metres.npy")
    assert depth.linear and depth.bits == 0 and depth.light()[0, 0, :, 0].tolist() == [0.25, 3.5]
    io.write(tmp_path / "a.exr", np.full((2, 3, 3), 2.5))
    assert (read_picture(tmp_path / "a.exr") == 2.5).all()


def test_a_phone_held_upright_is_turned(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    tags = image.getexif()
    tags[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=tags)
    assert read_picture(tmp_path / "a.jpg").shape == (8, 4, 3)


def test_folders_and_stars_in_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 100, 1):
        _save(tmp_path / f"frame_{number}.png", np.full((2, 2), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    for source in (tmp_path, tmp_path / "frame_*.png"):
        series = read_series(source)
        assert (series.values[:, 0, 0, 0] * 255).round().tolist() == [1, 9, 10, 100]
    assert read_series(tmp_path, every=2).names == ("frame_1.png", "frame_10.png")
    _save(tmp_path / "frame_200.png", np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frame_200\.png: 3 x 2 pixels"):
        read_series(tmp_path)


def test_videos_carry_their_own_times(tmp_path: Path) -> None:
    """A variable rate, as phones record: the times are those written, not multiples of one interval."""
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment in (0, 33, 67, 140):
            pixels = np.full((16, 32, 3), 40 + moment, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    light, times = read_video(tmp_path / "a.mp4")
    assert np.allclose(times, [0, 0.033, 0.067, 0.140], atol=1e-6) and light.shape == (4, 16, 32, 3)
    stored = read_frames(tmp_path / "a.mp4").values
    assert np.allclose(stored[:, 8, 16, 0] * 255, [40, 73, 107, 180], atol=3)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "avi"])
def test_videos_of_imageio(suffix: str, tmp_path: Path) -> None:
    import imageio.v3 as iio

    frames = np.stack([np.full((16, 16, 3), 20 * k, np.uint8) for k in range(5)])
    iio.imwrite(tmp_path / f"a.{suffix}", frames, plugin="pyav", codec="libx264", fps=25)
    _, times = io.read(tmp_path / f"a.{suffix}")
    assert np.allclose(np.diff(times), 0.04)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "frame_*.png", "frame_*.exr", "frame_*.npy"])
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    light = np.linspace(0.1, 0.9, 3)[:, None, None, None] * np.ones((3, 16, 16, 3))
    write_series(tmp_path / name, light, fps=20)
    back = read_series(tmp_path / name)
    assert np.allclose(back.light(), light, atol=2e-2 if name.startswith("film") else 5e-3)


def test_bombs_are_refused_before_they_open(tmp_path: Path) -> None:
    """A png of 100 kB whose header promises 60000 x 60000 pixels, and an array of as many."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10**6))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"bomb\.png"):
        read_picture(tmp_path / "bomb.png")
    with (tmp_path / "bomb.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (60000, 60000)})
    with pytest.raises(ValueError, match=r"bomb\.npy"):
        read_picture(tmp_path / "bomb.npy")


def test_a_series_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        _save(tmp_path / f"{number}.png", np.zeros((10, 10, 3), np.uint8))
    monkeypatch.setattr(pictures, "MAX_VALUES", 800)
    with pytest.raises(ValueError, match="800 values"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"no picture", "not a readable picture"),
        ("a.mp4", b"no video", "not a readable video"),
        ("a.npy", b"no array", "not a readable array"),
        ("a.gif2", b"", "no reader for suffix"),
        ("a.xyz", b"", "no reader for suffix"),
    ],
)
def test_what_is_no_picture_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        io.read(tmp_path / name)


def test_read_takes_the_other_files_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t [s],y\n0,1\n1,2\n")
    assert io.read(tmp_path / "a.csv").columns["y"].tolist() == [1, 2]
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    assert io.read(str(tmp_path / "a.npz"))["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no such file"):
        io.read(tmp_path / "b.png")


def test_a_film_that_is_data_loses_less(tmp_path: Path) -> None:
    """A grey disc that moves in noise: half of what a film to look at loses, or less. Chroma is halved in both."""
    import imageio.v3 as iio

    g = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    disc = np.stack([np.where(np.hypot(x - 40 - 2 * k, y - 48) < 20, 180.0, 120.0) for k in range(6)])
    grey = (disc + g.normal(0, 5, disc.shape)).round().astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, -1)
    write_series(tmp_path / "data.mp4", pixels, fps=25)
    io.write(tmp_path / "shown.mp4", pixels, fps=25)
    lost = []
    for name in ("data.mp4", "shown.mp4"):
        back = iio.imread(tmp_path / name, plugin="pyav").astype(float)
        assert back.shape == pixels.shape
        lost.append(float(np.sqrt(np.square(back - pixels).mean())))
    assert lost[0] < 0.5 * lost[1]
