"""Every format read back by an independent reader; nothing half written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.io import write
from simengine.io.arrays import read_npz
from simengine.io.image import to_srgb8
from simengine.io.run_directory import RunDirectory


def test_png(tmp_path: Path) -> None:
    from PIL import Image

    image = torch.linspace(0, 1, 5 * 4 * 3).reshape(5, 4, 3)
    back = np.asarray(Image.open(write(tmp_path / "a.png", image)))
    assert back.shape == (5, 4, 3) and (back == to_srgb8(image)).all()


def test_srgb_of_known_values() -> None:
    # IEC 61966-2-1: linear 0.5 is 0.735357 encoded, 0.0031308 is the end of the straight part
    assert to_srgb8(np.full((1, 1, 3), 0.5)).flatten()[0] == 188
    assert to_srgb8(np.full((1, 1, 3), 0.001)).flatten()[0] == round(255 * 0.01292)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_video_reads_back(suffix: str, tmp_path: Path) -> None:
    import imageio.v3 as iio

    frames = np.zeros((6, 33, 47, 3))
    for k, frame in enumerate(frames):
        frame[:, : 7 * (k + 1)] = 0.8
    file = write(tmp_path / f"a{suffix}", frames, fps=10)
    back = iio.imread(file, plugin="pyav" if suffix == ".mp4" else "pillow")
    assert len(back) == 6
    assert abs(int(back[5][16, 10, 0]) - 231) < 12 and int(back[0][16, 40, 0]) < 12  # lossy codecs


def test_a_gif_plays_twenty_frames_a_second_where_none_are_told(tmp_path: Path) -> None:
    with Image.open(write(tmp_path / "a.gif", np.random.default_rng(0).random((3, 8, 8, 3)))) as picture:
        assert picture.n_frames == 3 and picture.info["duration"] == 50


def test_particles_read_back(tmp_path: Path) -> None:
    import pyvista
    import trimesh

    x, v = np.random.default_rng(0).random((2, 10, 3)).astype(np.float32)
    file = write(tmp_path / "a.ply", {"x": x, "v": v, "J": v[:, 0] + 1})
    assert np.allclose(trimesh.load(file).vertices, x)
    header, _, body = file.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1].decode() for line in header.split(b"\n") if line.startswith(b"property float")]
    assert names == ["x", "y", "z", "v_0", "v_1", "v_2", "J"]
    table = np.frombuffer(body, "<f4").reshape(10, 7)  # each component in a column of its own
    assert (table == np.column_stack([x, v, v[:, 0] + 1])).all()
    cloud = pyvista.read(write(tmp_path / "a.vtp", {"x": x, "v": v, "J": np.ones(10)}))
    assert np.allclose(cloud.points, x) and np.allclose(cloud.point_data["v"], v)
    write(tmp_path / "a.pvd", [(0.0, "a.vtp"), (0.5, "a.vtp")])
    assert list(pyvista.get_reader(tmp_path / "a.pvd").time_values) == [0.0, 0.5]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.xyz", 1, "no writer"),
        ("a.png", np.zeros((4, 4)), "expected shape"),
        ("a.png", np.full((4, 4, 3), np.nan), "not finite"),
        ("a.mp4", [], "at least one frame"),
        ("a.mp4", np.zeros((2, 1, 1, 3)), "at least 2 x 2"),
        ("a.ply", {"v": np.zeros((3, 3))}, "positions under 'x'"),
        ("a.vtp", {"x": np.zeros((3, 2))}, "shape"),
    ],
)
def test_bad_data_leave_no_file(name: str, data: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / name, data)
    assert not list(tmp_path.iterdir())


def test_npz(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", {"x": torch.arange(3.0)})
    assert (read_npz(file)["x"] == np.arange(3.0)).all()
    (tmp_path / "b.npz").write_bytes(file.read_bytes()[:50])
    for name, message in (("b.npz", "not a readable"), ("c.npz", "no such file")):
        with pytest.raises(ValueError, match=message):
            read_npz(tmp_path / name)


def test_npz_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simengine.io.arrays.ANY_RATIO", 16 << 20)  # of 1 GiB, which takes its time to pack
    import zipfile

    def archive(name: str, header: bytes, zeros: int) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as entry:
            entry.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            for _ in range(zeros // (1 << 20)):
                entry.write(bytes(1 << 20))
        return tmp_path / name

    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }"
    bomb = archive("bomb.npz", header % (20 << 20), 20 << 20)
    with pytest.raises(ValueError, match=r"bomb\.npz: .*its arrays take 20971\d+ bytes"):
        read_npz(bomb)
    liar = archive("liar.npz", header % 10**15, 1 << 20)
    with pytest.raises(ValueError, match=r"liar\.npz: .*is more than it holds"):
        read_npz(liar)
    zeros = write(tmp_path / "zeros.npz", {"x": np.zeros((1000, 1000)), "n": np.array(3)})  # well compressed, and good
    assert read_npz(zeros)["x"].shape == (1000, 1000) and read_npz(zeros)["n"] == 3


def test_run_directory_is_never_lost_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = RunDirectory.create(path, {"a": 1}, overwrite=False, resume=False)
    first.log("start", value=np.float32(2))
    assert first.events("start")[0]["value"] == 2
    RunDirectory.create(path, {"a": 1}, overwrite=False, resume=True)
    for scene, resume in (({"a": 1}, False), ({"a": 2}, True)):
        with pytest.raises(ValueError, match="--overwrite"):
            RunDirectory.create(path, scene, overwrite=False, resume=resume)
    RunDirectory.create(path, {"a": 2}, overwrite=True, resume=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="not a run directory"):
        RunDirectory.create(tmp_path / "mine", {"a": 1}, overwrite=True, resume=False)
