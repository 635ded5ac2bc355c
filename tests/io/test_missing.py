"""A missing codec or library, or a picture that cannot be: a message that tells the remedy, and no half of a file."""

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from simengine.io import video, write
from simengine.io.arrays import read_npz
from simengine.io.run_directory import RunDirectory

FRAMES = np.zeros((2, 8, 8, 3))


def test_missing_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "CODEC", "libx000")
    with pytest.raises(RuntimeError, match=r"has no libx000: pip install --upgrade av, or write a \.gif"):
        write(tmp_path / "a.mp4", FRAMES)
    assert not list(tmp_path.iterdir())


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RuntimeError, match=r"mp4 needs PyAV .*pip install 'simengine\[video\]'"):
        write(tmp_path / "a.mp4", FRAMES)
    assert not list(tmp_path.iterdir())
    assert write(tmp_path / "a.gif", FRAMES).stat().st_size > 0


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_frames_that_cannot_be_leave_no_file(suffix: str, tmp_path: Path) -> None:
    broken = FRAMES.copy()
    broken[1, 0, 0, 0] = np.inf
    for frames, options, message in (
        ([], {}, "at least one frame|expected shape"),
        (FRAMES[:0], {}, "expected shape"),
        (FRAMES[0], {}, "expected shape"),
        (broken, {}, "not finite"),
        (FRAMES, {"fps": 0}, "fps: expected a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / f"a{suffix}", frames, **options)
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_writing_fails(tmp_path: Path) -> None:
    good = write(tmp_path / "a.png", FRAMES[0])
    before = good.read_bytes()
    with pytest.raises(ValueError, match="not finite"):
        write(good, FRAMES[0] + np.nan)
    assert good.read_bytes() == before and list(tmp_path.iterdir()) == [good]


def test_a_package_that_is_not_installed_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taichi has no wheels for the newest Python: its version is null, the run goes on."""
    version = metadata.version

    def absent(name: str) -> str:
        if name == "taichi":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", absent)
    RunDirectory.create(tmp_path / "run", {"kind": "toy"}, overwrite=False, resume=False)
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert versions["taichi"] is None and versions["torch"] == version("torch")


def test_a_table_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text("t,x,y,z\n0,1,2,3\n")
    with pytest.raises(ValueError, match=r"not an \.npz file; write the arrays"):
        read_npz(tmp_path / "tracks.csv")
