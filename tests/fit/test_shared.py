"""Starts of one fit and replicas of a bootstrap over processes: the same answer, whoever does them."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simengine.cli import main
from simengine.fit.trainings.pool import Ledger

SCENE = """
kind = "specimen"
[material]
type = "ogden"  # neo-Hookean
mu = [2e5]
alpha = [2.0]
nu = 0.5
[test]
type = "uniaxial"
[observations.tension]
type = "curve"
against = "stretch"
file = "tension.csv"
sigma = 2e3
columns = { stretch = "stretch", nominal_stress = "stress [Pa]" }
[inference]
starts = 3
posterior = "bootstrap"
samples = 25
[unknowns]
"material.mu.0" = { prior = { lognormal = [3e5, 0.5] } }
"""


def scene(folder: Path) -> Path:
    stretch = np.linspace(1.1, 2.0, 12)
    stress = 0.3e6 * (stretch - stretch**-2) + 2e3 * np.random.default_rng(0).standard_normal(12)
    lines = ["stretch,stress [Pa]", *(f"{a},{b}" for a, b in zip(stretch, stress, strict=True))]
    (folder / "tension.csv").write_text("\n".join(lines) + "\n")
    (folder / "scene.toml").write_text(SCENE)
    return folder / "scene.toml"


def told(folder: Path) -> Any:
    found = json.loads((folder / "fit.json").read_text())
    return {key: found[key] for key in ("estimates", "minima", "spread") if key in found}


@pytest.mark.slow
def test_starts_and_replicas_over_processes_are_those_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, though a worker is killed at its task; the same command does nothing again."""
    path = scene(tmp_path)
    line = ["fit", str(path), "--json", "--out"]
    assert main([*line, str(tmp_path / "one")]) == 0
    killed: list[int] = []
    take = Ledger.take

    def kill(ledger: Ledger) -> int | None:
        number = take(ledger)
        if not killed:
            for child in multiprocessing.active_children():
                assert child.pid
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
        return number

    monkeypatch.setattr(Ledger, "take", kill)
    assert main([*line, str(tmp_path / "two"), "--workers", "2"]) == 0
    assert killed
    one, two = told(tmp_path / "one"), told(tmp_path / "two")
    assert one == two and one["estimates"]["material.mu.0"]["std"] > 0
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "two" / "shared").rglob("*.json")}
    assert len(kept) == 3 + 2
    assert main([*line, str(tmp_path / "two"), "--workers", "2"]) == 0
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items())
    capsys.readouterr()


def test_what_cannot_be_shared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(tmp_path)
    line = ["fit", str(path), "--out", str(tmp_path / "out"), "--set", "inference.starts=1"]
    assert main([*line, "--set", "inference.posterior=laplace", "--workers", "2"]) == 2
    assert "--workers: starts (inference.starts) and replicas" in capsys.readouterr().err
    assert main([*line, "--workers", "0"]) == 2
    assert "--workers: expected at least 1, got 0" in capsys.readouterr().err
