"""Walls that are planes: a body rests where they are, and their force is its weight (verification)."""

from pathlib import Path

import pytest
import torch

from simengine import solve
from simengine.cli import main
from simengine.mpm import MPMSolver
from simengine.scene.asks import Series
from simengine.scene.loader import load_world

SCENE = """
kind = "mpm"
gravity = [0.0, -9.8, 0.0]
[grid]
lower = [0.0, 0.0, 0.0]
upper = [0.5, 0.4, 0.5]
spacing = 0.05
time_step = 1e-3
num_steps = 900
[walls]
hard = HARD
[output]
save_every = 50
video = false
[[bodies]]
name = "block"
shape = { type = "box", center = [0.26, 0.121, 0.25], size = [0.2, 0.2, 0.2] }
material = { type = "jelly", E = 1e5, nu = 0.3, viscosity = 60.0 }
"""


def world_of(path: Path, hard: str):
    (path / "scene.toml").write_text(SCENE.replace("HARD", hard), encoding="utf-8")
    return load_world(path / "scene.toml")


def test_a_block_rests_on_the_floor_itself(tmp_path: Path) -> None:
    """Dropped from 0.42 cells: it comes to rest within 0.01 cells of the floor; nodes would hold it 0.4 above."""
    faces = {}
    for hard in ("true", "false"):
        world = world_of(tmp_path, hard)
        model, state = world.build(device="cpu")
        with torch.no_grad():
            last = solve.rollout(MPMSolver(model), state, 900, save_every=900)[-1]
        bottom = last.x[:, 1] + float(world.lattice_box()[0][1]) - 0.0125 * last.F[:, 1, 1]
        faces[hard] = float(bottom.min()) / 0.05
    assert abs(faces["true"]) < 0.01
    assert abs(faces["false"]) > 0.1
    world = world_of(tmp_path, "true")
    ask = Series(
        names=("walls.-y.force.1", "walls.-x.force.0"), against="time", values=torch.linspace(0.85, 0.9, 26).double()
    )
    force = world.prepare([ask]).solve([ask]).sample(ask).detach()
    assert float(force[:, 0].mean()) == pytest.approx(-1000 * 0.2**3 * 9.8, rel=0.02)
    assert float(force[:, 1].abs().max()) == 0.0


def test_hard_walls_that_stop_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.toml").write_text(SCENE.replace("HARD", 'true\nkind = "periodic"'), encoding="utf-8")
    assert main(["check", str(tmp_path / "scene.toml")]) == 2
    assert "hard: periodic walls stop nothing" in capsys.readouterr().err
