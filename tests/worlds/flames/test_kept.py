"""Rows of a table on disk as they are found, by the command."""

import csv
import json
import math
from pathlib import Path

import pytest

from simengine.cli import main
from simengine.worlds.flames import answers

ASSETS = Path(__file__).resolve().parents[3] / "assets"
SCENE = f"""
kind = "flame"
resolution = 1e-4
[gas]
mechanism = "{ASSETS / "methane_1step.yaml"}"
[flame]
type = "free"
[observations.speeds]
type = "experiments"
file = "speeds.csv"
row = "key"
conditions = {{ phi = "phi" }}
measured = {{ flame_speed = "speed [cm/s]" }}
sigma = "sigma [cm/s]"
"""
TABLE = "key,phi,speed [cm/s],sigma [cm/s]\na,0.7,18,1\nb,0.8,26,1\ncold,0.05,5,1\nc,0.9,33,1\nd,1.0,37,1\n"


def predicted(folder: Path, out: str, *more: str) -> int:
    return main(["predict", str(folder / "scene.toml"), "--out", str(folder / out), *more])


def values(folder: Path) -> list[float]:
    with (folder / "predictions" / "speeds.csv").open() as file:
        return [
            float(value or "nan") for row in csv.DictReader(file) for name, value in row.items() if "predicted" in name
        ]


def test_the_same_command_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the fourth row; what is there starts from itself, what has no flame is named and tried again."""
    (tmp_path / "scene.toml").write_text(SCENE)
    (tmp_path / "speeds.csv").write_text(TABLE)
    solved, cold = answers._solved, []

    def counted(world, flame, row, done, before):  # type: ignore[no-untyped-def]
        if before is None or row not in before.flames:
            cold.append(dict(row)["phi"])
        if stop and dict(row)["phi"] == 0.9:
            raise KeyboardInterrupt
        return solved(world, flame, row, done, before)

    monkeypatch.setattr(answers, "_solved", counted)
    stop = True
    assert predicted(tmp_path, "run") == 1
    assert cold == [0.7, 0.8, 0.05, 0.9] and not (tmp_path / "run" / "predict.json").exists()
    stop, cold = False, []
    assert predicted(tmp_path, "run") == 0
    assert cold == [0.05, 0.9, 1.0]
    (note,) = json.loads((tmp_path / "run" / "predict.json").read_text())["observations"]["speeds"]["notes"]
    assert note.startswith("1 rows are left out") and note.endswith(": cold")

    cold = []
    assert predicted(tmp_path, "whole") == 0 and len(cold) == 5
    again, once = values(tmp_path / "run"), values(tmp_path / "whole")
    assert [k for k, value in enumerate(once) if math.isnan(value)] == [2]  # an empty cell, not a speed of 0
    assert len(once) == 5 and again == pytest.approx(once, rel=1e-6, nan_ok=True)

    state = next((tmp_path / "run" / "found").glob("checkpoint-*"))
    state.write_bytes(state.read_bytes()[:-1])
    capsys.readouterr()
    assert predicted(tmp_path, "run") == 2
    assert "SHA-256 differs" in capsys.readouterr().err
    assert predicted(tmp_path, "run", "--overwrite") == 0  # what an earlier prediction found is gone then
    assert len(cold) == 10
