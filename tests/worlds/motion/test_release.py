"""A hand that lets go: what it bears of the weight falls to nothing evenly in time."""

from pathlib import Path

import pytest
import torch

from simengine.cli import main
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.solve import DirectAdjoint
from simengine.worlds.motion.world import MPMWorld

SCENE = """
kind = "mpm"
gravity = [0.0, -10.0, 2.0]
walls = { kind = "open" }
release = { share = 0.8, until = 0.0205 }
[grid]
num_grids = 16
time_step = 1e-3
num_steps = 40
[output]
save_every = 1
video = false
[[bodies]]
name = "block"
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.25, 0.25, 0.25] }
material = { type = "rubber", density = 1000.0, E = 1e4, nu = 0.3 }
"""
TIMES = torch.tensor([0.005, 0.02, 0.021, 0.04], dtype=torch.float64)


def world(tmp_path: Path) -> MPMWorld:
    path = tmp_path / "scene.toml"
    path.write_text(SCENE)
    found = load_world(path)
    assert isinstance(found, MPMWorld)
    return found


def test_a_body_let_go_falls_with_the_weight_that_is_left(tmp_path: Path) -> None:
    """v = g (t - s (t - t^2 / 2T)) until T, which lies within a step, then g (t - s T / 2); to rounding."""
    ask = Series(names=("bodies.block.velocity.1", "bodies.block.velocity.2"), against="time", values=TIMES)
    scene = world(tmp_path)
    found = scene.prepare([ask]).solve([ask]).sample(ask)
    share, until = scene.release.share, scene.release.until
    held = TIMES.clamp_max(until)
    expected = TIMES - share * (held - held.square() / (2 * until))
    torch.testing.assert_close(found, expected[:, None] * torch.tensor([-10.0, 2.0]).double(), rtol=0, atol=1e-12)


def test_its_share_and_its_end_have_a_gradient(tmp_path: Path) -> None:
    """Against the closed form of the last velocity: d v / d s = -g T / 2, d v / d T = -g s / 2."""
    scene = world(tmp_path)
    values = {
        "release.share": torch.tensor(0.8, dtype=torch.float64, requires_grad=True),
        "release.until": torch.tensor(0.0205, dtype=torch.float64, requires_grad=True),
    }
    model, state = scene.build(device="cpu", double=True, values=values)
    states = scene.solver(model).run(state, 0, (40,), DirectAdjoint())
    assert states is not None
    speed = states.v[0, :, 1].mean()
    share, until = torch.autograd.grad(speed, list(values.values()))
    assert float(share) == pytest.approx(10.0 * 0.0205 / 2, rel=1e-9)
    assert float(until) == pytest.approx(10.0 * 0.8 / 2, rel=1e-9)


def test_a_share_above_all_of_the_weight_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the key, exit 2."""
    path = tmp_path / "scene.toml"
    path.write_text(SCENE.replace("share = 0.8", "share = 1.2"))
    with pytest.raises(SceneError, match=r"release\.share"):
        load_world(path)
    assert main(["check", str(path)]) == 2
    assert "release.share" in capsys.readouterr().err
