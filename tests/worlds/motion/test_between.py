"""Bodies of a scene that touch one another, and colliders that matter comes at too fast."""

from pathlib import Path

import pytest
import torch

from simengine import solve
from simengine.cli import main
from simengine.mpm import MPMSolver, swept_numbers
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world

SCENE = """
kind = "mpm"
gravity = [0.0, 0.0, 0.0]
[grid]
lower = [0.0, 0.0, 0.0]
upper = [0.5, 1.0, 0.5]
spacing = 0.05
time_step = 4e-4
num_steps = 100
[walls]
open = ["+y"]
[output]
save_every = 50
video = false
[[bodies]]
name = "low"
shape = { type = "box", center = [0.25, 0.3, 0.25], size = [0.2, 0.2, 0.2] }
material = { type = "rubber", E = 1e5, nu = 0.3 }
[[bodies]]
name = "high"
velocity = [0.0, 0.5, 0.0]
shape = { type = "box", center = [0.25, 0.5, 0.25], size = [0.2, 0.2, 0.2] }
material = { type = "rubber", E = 1e5, nu = 0.3 }
"""
CONTACT = '[contact]\n"high-low" = { friction = 0.3 }\n'


def world_of(path: Path, text: str):
    (path / "scene.toml").write_text(text, encoding="utf-8")
    return load_world(path / "scene.toml")


def test_the_upper_leaves_the_lower_as_it_was(tmp_path: Path) -> None:
    """In a scene, pair by name in either order; and a friction that is sought is one that the model has."""
    world = world_of(tmp_path, SCENE + CONTACT)
    hash(world)  # worlds are keys of caches
    mu = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    model, state = world.build(device="cpu", values={"contact.high-low.friction": mu})
    assert model.contact is not None and model.contact.friction.tolist() == [0.2]
    own = torch.as_tensor(world.particles()[2]) == 0
    shared, _ = world_of(tmp_path, SCENE).build(device="cpu")
    with torch.no_grad():
        last, stuck = (solve.rollout(MPMSolver(m), state, 200, save_every=200)[-1].v[own, 1] for m in (model, shared))
    assert float(last.abs().max()) < 1e-6 < 0.05 < float(stuck.mean())


def test_check_says_that_bodies_stick_where_no_contact_is_told(tmp_path: Path) -> None:
    """Of two bodies without a contact; of one body, or with a contact, it has nothing to say."""
    short = SCENE.replace("num_steps = 100", "num_steps = 1").replace("save_every = 50", "save_every = 1")
    one = short[: short.rindex("[[bodies]]")]
    told = ["contact" in world_of(tmp_path, text).check(device="cpu") for text in (short, short + CONTACT, one)]
    assert told == [True, False, False]


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ('"low-hig" = {}', "did you mean 'high'"),
        ('"low" = {}', "is no pair"),
        ('"low-low" = {}', "does not touch itself"),
        ('"low-high" = { friction = -1.0 }', "friction"),
        ('"low-high" = { kind = "glued" }', "frictional"),
    ],
)
def test_a_wrong_pair_is_refused(pair: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.toml").write_text(f"{SCENE}[contact]\n{pair}\n", encoding="utf-8")
    assert main(["check", str(tmp_path / "scene.toml")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in last


def test_bodies_that_begin_inside_each_other_are_refused(tmp_path: Path) -> None:
    """Three quarters of a cell deep; sticky they may."""
    deep = SCENE.replace("center = [0.25, 0.5, 0.25]", "center = [0.255, 0.465, 0.25]")
    with pytest.raises(SceneError, match="particles of 'high' begin inside 'low'"):
        world_of(tmp_path, deep + CONTACT).build(device="cpu")
    world_of(tmp_path, deep + '[contact]\n"*-*" = { kind = "sticky" }\n').build(device="cpu")


def test_a_collider_that_is_too_fast_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plate a fifth of a cell thick: at 5 m/s it carries the body with it, at 60 m/s the run is refused."""
    plate = '[[colliders]]\ntype = "box"\ncenter = [0.12, 0.4, 0.25]\nhalf_size = [0.005, 0.3, 0.2]\n'
    slow = world_of(tmp_path, f"{SCENE}{plate}velocity = [5.0, 0.0, 0.0]\n")
    model, state = slow.build(device="cpu")
    assert swept_numbers(model, state)[0] < 1
    with torch.no_grad():
        last = solve.rollout(MPMSolver(model), state, 60, save_every=60)[-1]
    behind = last.x[:, 0] + float(slow.lattice_box()[0][0]) < 0.12 + 60 * 4e-4 * 5.0 - 0.005
    assert not bool(behind.any())
    fast = f"{SCENE}{plate}velocity = [60.0, 0.0, 0.0]\n"
    (tmp_path / "scene.toml").write_text(fast, encoding="utf-8")
    assert main(["check", str(tmp_path / "scene.toml")]) != 0
    assert "collider lets matter through" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert main(["run", str(tmp_path / "scene.toml"), "--out", str(tmp_path / "run")]) == 2
    assert "colliders.0" in capsys.readouterr().err
