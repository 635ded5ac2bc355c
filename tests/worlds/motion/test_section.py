"""A plane section: nothing moves along z (verification), and what is refused."""

from pathlib import Path

import pytest
import torch

from simengine.scene.asks import Cloud, Series
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.worlds.motion.world import MPMWorld

BLOCK = """
gravity = [0.0, 0.0, 0.0]
walls = { kind = "open" }
colliders = [
    { name = "bottom", type = "plane", point = [0.0, 0.013, 0.0], normal = [0.0, 1.0, 0.0] },
    { name = "top", type = "plane", point = [0, 0.313, 0], normal = [0, -1, 0], velocity = [0, -0.03, 0] },
]
[grid]
lower = [-0.1, -0.1, 2.0]
upper = [0.5, 0.45, 2.0]
spacing = 0.05
section = "plane_strain"
time_step = 1e-3
num_steps = 400
[[bodies]]
name = "block"
shape = { type = "box", center = [0.2, 0.163, 0.0], size = [0.3, 0.3, 0.0] }
material = { type = "rubber", density = 1000.0, E = 1e5, nu = 0.3, viscosity = 40.0 }
"""


def world(tmp_path: Path, text: str) -> MPMWorld:
    path = tmp_path / "scene.toml"
    path.write_text(text)
    found = load_world(path)
    assert isinstance(found, MPMWorld)
    return found


def test_a_strip_is_pressed_in_plane_strain(tmp_path: Path) -> None:
    """Force of a metre against the law with free sides along x and none along z, and nothing moves along z.

    4 % of strain in 0.4 s; the viscosity takes 0.1 /s x 40 Pa s x 2, 0.008 % of the stress. Measured: 0.4 %.
    """
    scene = world(tmp_path, BLOCK)
    times = torch.linspace(0.2, 0.4, 41, dtype=torch.float64)
    asks = [
        Series(names=("colliders.top.force.1", "colliders.bottom.force.1"), against="time", values=times),
        Cloud(body="block", times=torch.tensor([0.0, 0.4], dtype=torch.float64)),
    ]
    run = scene.prepare(asks).solve(asks)
    force, cloud = run.sample(asks[0]), run.sample(asks[1])
    assert float((cloud[1, :, 2] - cloud[0, :, 2]).abs().max()) < 1e-9
    model, _ = scene.build(device="cpu", double=True)
    expected = []
    for time in times.tolist():
        strain, side = 0.03 * time / 0.3, 1.0
        for _ in range(60):
            F = torch.diag(torch.tensor([side, 1 - strain, 1.0], dtype=torch.float64)).expand(len(cloud[0]), 3, 3)
            tau = model.stress(F.contiguous(), torch.zeros(len(cloud[0]), dtype=torch.float64))[0]
            side *= 1 - float(tau[0, 0]) / 2e5
        expected.append(-float(tau[1, 1]) / (1 - strain) * 0.3)
    assert expected[-1] == pytest.approx(1e5 / (1 - 0.3**2) * 0.04 * 0.3, rel=0.05)  # E / (1 - nu^2), and 4 % of strain
    mean = float(torch.tensor(expected).mean())
    assert float(force[:, 0].mean()) == pytest.approx(mean, rel=0.01)
    assert float(force[:, 1].mean()) == pytest.approx(-mean, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("upper = [0.5, 0.45, 2.0]", "upper = [0.5, 0.45, 2.1]", "nothing across"),
        ("size = [0.3, 0.3, 0.0]", "size = [0.3, 0.3, 0.1]", "box of size 0 along z"),
        ('section = "plane_strain"\n', "", "holds 0 cells"),
        ("upper = [0.5, 0.45, 2.0]", "upper = [0.52, 0.45, 2.0]", "12.4 cells .* upper = 0.5 would do"),
        ("[grid]", 'clamps = [{ name = "a", region = { lower = [0.05, 0.0, 0.0], upper = [0.05, 0.3, 0.0] } }]\n[grid]',
         "need a solid section"),
    ],
)  # fmt: skip
def test_what_has_an_extent_is_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises((SceneError, ValueError), match=told):
        world(tmp_path, BLOCK.replace(old, new))
