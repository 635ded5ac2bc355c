"""The report of a fit in a real browser: headless Chromium, where the machine has it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from simengine.io import write
from simengine.view.figures import curves
from simengine.view.report import Movie, Picture, Table, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1000,1400"),
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt-get install chromium")


def browse(page: Path, profile: Path, *flags: str) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=4000", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_report_shows_table_figure_and_moving_pictures(tmp_path: Path) -> None:
    from PIL import Image

    frames = np.zeros((8, 64, 96, 3))
    frames[..., 0] = 0.9  # red
    movie = write(tmp_path / "a.mp4", frames, fps=8)
    figure = curves({"loss": {"loss": (np.arange(9), np.exp(-np.arange(9.0)))}}, xlabel="iteration", log=["loss"])
    page = tmp_path / "report.html"
    table = Table(["parameter", "identified"], [["bodies.0.material.E", True]])
    write_report(page, "A fit", {"Parameters": [table], "Pictures": [Picture(figure, "loss"), Movie(movie, "red")]})
    assert "bodies.0.material.E" in browse(page, tmp_path / "profile", "--dump-dom")
    browse(page, tmp_path / "profile", f"--screenshot={tmp_path / 'shot.png'}")
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    red = (shot[..., 0] > 200) & (shot[..., 1] < 60) & (shot[..., 2] < 60)
    assert red.sum() > 0.9 * 64 * 96, "the video does not play"
    assert ((shot < 90).all(-1)).sum() > 500, "there is no text"
