"""A missing codec, plotting package or font costs the film or the figure, never the results of a run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.io import video
from simengine.io.arrays import read_npz
from simengine.view.figures import curves, fields, label

SCENE = """kind = "mpm"
camera = {width = 16, height = 16}
[grid]
num_grids = 16
num_steps = 4
[output]
save_every = 2
[[bodies]]
shape = {type = "box", center = [0.5, 0.5, 0.5], size = [0.1, 0.1, 0.1]}
material = {type = "jelly", E = 1e4, nu = 0.3, density = 1e3}
"""


def test_a_run_without_codec_plots_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.toml").write_text(SCENE)
    arguments = ["run", str(tmp_path / "s.toml"), "--device", "cpu", "--json", "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    monkeypatch.setattr(video, "CODEC", "libx000")
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main([*arguments, str(tmp_path / "bare")]) == 0
    told = capsys.readouterr()
    assert "video.mp4: not written" in told.err and "a figure is left empty" in told.err
    whole, bare = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "bare"))
    assert bare["center_of_mass"] == whole["center_of_mass"] and json.loads(told.out)["particles"] == 27
    first, second = (read_npz(tmp_path / name / "states.npz") for name in ("whole", "bare"))
    assert all((first[name] == second[name]).all() for name in first)
    page = (tmp_path / "bare" / "report.html").read_text()
    assert "video.mp4 was not written" in page and "kinetic_energy" in page


def test_a_font_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*args: object, **kwargs: object) -> object:
        raise OSError("cannot open resource")

    monkeypatch.setattr("simengine.view.figures._pixels", broken)
    x = np.linspace(0, 1, 5)
    assert (curves({"a": {"b": (x, x)}}, xlabel="x") == 255).all()
    assert (fields({"a": x[None] * x[:, None]}, extent=(0, 1, 0, 1), xlabel="x", ylabel="y") == 255).all()
    assert capsys.readouterr().err.count("cannot open resource") == 2
    monkeypatch.setitem(sys.modules, "PIL", None)
    picture = np.zeros((8, 8, 3), np.uint8)
    assert (label(picture, "text") == picture).all()
