"""A run says where matter was pressed to next to nothing, and is silent where it was not."""

from pathlib import Path

import pytest

from simengine.io.run_directory import RunDirectory
from simengine.scene.loader import load_world
from simengine.worlds.motion.run import simulate
from simengine.worlds.motion.world import MPMWorld

CORNER = """
gravity = [0.0, 0.0, 0.0]
[grid]
num_grids = 20
time_step = 1e-4
num_steps = 300
[output]
save_every = 100
video = false
[[bodies]]
shape = { type = "box", center = [0.25, 0.25, 0.25], size = [0.2, 0.2, 0.2] }
velocity = [-9.8, -9.8, -9.8]
material = { type = "water", density = 1000.0, E = 1e5, nu = 0.3 }
"""


@pytest.mark.parametrize(("speed", "told"), [(9.8, True), (0.5, False)])
def test_water_in_a_corner(speed: float, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 17 m/s, half as fast again as its sound, it ends as a point; at 0.9 m/s it does not."""
    path = tmp_path / "scene.toml"
    path.write_text(CORNER.replace("9.8", str(speed)))
    world = load_world(path)
    assert isinstance(world, MPMWorld)
    (tmp_path / "run").mkdir()
    simulate(world, RunDirectory(tmp_path / "run"), device="cpu", force=False)
    assert capsys.readouterr().err.count("of its volume, where no law here holds") == int(told)
