"""Forces and pressures on regions of bodies, and gravity that changes, as keys of scenes."""

from pathlib import Path

import pytest
import torch

from simengine.cli import main
from simengine.scene.address import replaced
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.worlds.motion.momentum_balance import frames, record
from simengine.worlds.motion.preflight import path_ends
from simengine.worlds.motion.world import MPMWorld

BAR = """
gravity = [0.0, 0.0, 0.0]
walls = { kind = "open" }
clamps = [{ name = "foot", region = { lower = [0.0, 0.0, 0.0], upper = [0.0, 0.2, 0.2] } }]
[[loads]]
name = "end"
region = { lower = [0.6, 0.0, 0.0], upper = [0.6, 0.2, 0.2] }
[grid]
lower = [-0.2, -0.2, -0.2]
upper = [1.0, 0.4, 0.4]
spacing = 0.1
time_step = 2e-3
num_steps = 10
[[bodies]]
name = "bar"
shape = { type = "box", center = [0.3, 0.1, 0.1], size = [0.6, 0.2, 0.2] }
material = { type = "rubber", density = 1000.0, E = 2e5, nu = 0.0 }
"""
STILL = ("num_steps = 10", 'num_steps = 1\nintegrator = "quasistatic"\n')
RECORD = "t [ms];load [N];p [kPa];a [m/s^2]\n0;0;0;0\n10;2;1;3\n40;-4;2;-6\n"
LOAD = 'path = { file = "cell.csv", columns = { time = "t", "force.1" = "load" } }'


def world(tmp_path: Path, text: str) -> MPMWorld:
    (tmp_path / "cell.csv").write_text(RECORD)
    path = tmp_path / "scene.toml"
    path.write_text(f"output = {{ save_every = 1, video = false }}\n{text}")
    found = load_world(path)
    assert isinstance(found, MPMWorld)
    return found


def series(scene: MPMWorld, names: tuple[str, ...], times: torch.Tensor, *, gradient: bool = False) -> torch.Tensor:
    ask = Series(names=names, against="time", values=times)
    return scene.prepare([ask]).solve([ask], gradient=gradient).sample(ask)


ENDS = ("bodies.bar.upper.0", "clamps.foot.force.0", "clamps.foot.force.1")
TIMES = torch.tensor([0.0, 2e-3], dtype=torch.float64)


@pytest.mark.parametrize("load", ["pressure = -2e4", "force = [800.0, 0.0, 0.0]"])
def test_a_bar_is_as_long_as_in_closed_form(tmp_path: Path, load: str) -> None:
    """Without contraction both are 2e4 Pa of the face at rest: l - 1 / l = stress / mu, and the clamp bears it."""
    still = BAR.replace(*STILL).replace("[grid]", f"{load}\n[grid]", 1)
    seen = series(world(tmp_path, still), ENDS, TIMES)
    stress = 2e4 / 1e5
    stretch = (stress + (stress**2 + 4) ** 0.5) / 2
    assert float(seen[1, 1]) == pytest.approx(800.0, rel=1e-3)
    # the outermost particles stand at 0.575 m
    assert float(seen[1, 0] - seen[0, 0]) == pytest.approx(0.575 * (stretch - 1), rel=0.01)


def test_a_pressure_acts_on_the_face_as_it_is_deformed(tmp_path: Path) -> None:
    """Pressed by a quarter of E the face grows (nu 0.3): the clamp bears p times its area now, 1.13 of that at rest."""
    text = BAR.replace(*STILL).replace("[grid]", "pressure = 5e4\n[grid]", 1).replace("nu = 0.0", "nu = 0.3")
    scene = world(tmp_path, text)
    model, _ = scene.build(device="cpu", double=True)
    across, along = torch.tensor(1.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    for _ in range(200):  # free sides, and p of the face now: the stretches of a uniform bar
        F = torch.diag(torch.stack((along, across, across))).expand(len(scene.particles()[0]), 3, 3)
        tau = model.stress(F.contiguous(), torch.zeros(len(F), dtype=torch.float64))[0]
        J = along * across**2
        along, across = along - (tau[0, 0] / J + 5e4) / 6e5, across - (tau[1, 1] / J) / 6e5
    seen = series(scene, ENDS, TIMES)
    area = float(across) ** 2
    assert area > 1.1
    assert float(seen[1, 1]) == pytest.approx(-5e4 * 0.04 * area, rel=0.01)
    assert abs(float(seen[1, 2])) < 1e-3 * 2000


def test_forces_balance_the_momentum(tmp_path: Path) -> None:
    """Clamp, recorded force and gravity that turns = the change of momentum in every step, to 1e-9 of the largest."""
    text = BAR.replace("[grid]", f"force = [5.0, 1.0, 0.0]\nbegins = 0.007\n{LOAD}\n[grid]", 1)
    text = text.replace("gravity = [0.0, 0.0, 0.0]", "gravity = [0.0, -9.8, 0.0]\ntilt = { rate = [0.0, 0.0, 20.0] }")
    scene, dt, mass = world(tmp_path, text.replace("num_steps = 10", "num_steps = 20")), 2e-3, 1000 * 0.6 * 0.04
    steps = torch.arange(0, 21, dtype=torch.float64)
    names = ("clamps.foot.force.0", "clamps.foot.force.1", "bodies.bar.velocity.0", "bodies.bar.velocity.1")
    rows = series(scene, names, steps * dt)
    t = steps[:-1] * dt
    own = torch.where(t < 0.01, t * 200, 2 - (t - 0.01) * 200)
    on = (steps[:-1] + 1 - 0.007 / dt).clamp(0, 1)
    load = torch.stack((5 * on, (1 + own) * on), 1)
    fall = 9.8 * mass * torch.stack(((20 * t).sin(), -(20 * t).cos()), 1)
    change = mass * rows[:, 2:].diff(dim=0) / dt
    assert float((load + fall - rows[1:, :2] - change).abs().max()) < 1e-9 * 9.8 * mass
    assert float(load.abs().max()) > 4 and float(fall[:, 0].abs().max()) > 100  # both of them count


def test_numbers_of_loads_and_tilt_can_be_sought(tmp_path: Path) -> None:
    """Explicit: gradient of place and clamp's force in force, pressure, begin, gain and rate, to 1e-5."""
    load = LOAD.replace('"force.1" = "load"', 'pressure = "p"')
    text = BAR.replace("[grid]", f"force = [5.0, 1.0, 0.0]\npressure = 300.0\nbegins = 0.007\n{load}\n[grid]", 1)
    text = text.replace("gravity = [0.0, 0.0, 0.0]", "gravity = [0.0, -9.8, 0.0]\ntilt = { rate = [0.0, 0.0, 20.0] }")
    scene, times = world(tmp_path, text.replace("nu = 0.0", "nu = 0.3")), torch.tensor([0.0163, 0.02]).double()
    at = {
        "loads.0.force.1": 1.0, "loads.0.pressure": 300.0, "loads.0.begins": 0.007, "loads.0.path.gain": 1.0,
        "tilt.rate.2": 20.0,
    }  # fmt: skip
    assert set(at) <= scene.traced()
    names = ("bodies.bar.center.0", "clamps.foot.force.1")
    probe = torch.tensor([[1e3, 1.0], [-2e3, 2.0]], dtype=torch.float64)
    tensors = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in at.items()}
    found = (series(replaced(scene, tensors), names, times, gradient=True) * probe).sum()
    for (key, value), own in zip(at.items(), torch.autograd.grad(found, list(tensors.values())), strict=True):
        h = 1e-3 * value
        ends = [(series(replaced(scene, {key: value + s * h}), names, times) * probe).sum() for s in (1, -1)]
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5), key


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[grid]", "pressure = 1.0\n[grid]", None),
        ("[0.6, 0.0, 0.0], upper", "[0.4, 0.0, 0.0], upper", "loads.0.pressure: .* is no face of the body"),
        ('type = "rubber"', 'type = "water"', "loads.0.pressure: water flows"),
        ("[grid]", LOAD.replace("force.1", "shift.1") + "\n[grid]", "shift.1.* is none of a path; known"),
        ("[grid]", LOAD.replace('"force.1"', 'pressure = "p", "force.1"') + "\n[grid]", "either force.0, force.1"),
        ("[grid]", LOAD.replace("cell", "none") + "\n[grid]", "none.csv"),
        ("[grid]", "force = [1.0, 2.0]\n[grid]", "loads.0.force"),
        ("gravity", "tilt = { begins = 2.0, until = 1.0 }\ngravity", "until: 1 s lies before begins = 2 s"),
        (
            "gravity",
            'tilt = { path = { file = "cell.csv", columns = { time = "t" } } }\ngravity',
            "at least one of grav",
        ),
    ],
)
def test_bad_keys_are_told_in_a_line(
    tmp_path: Path, before: str, after: str, message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = BAR.replace("upper = [0.6,", "upper = [0.4,") if "0.4" in after else BAR
    if message is not None and "pressure" in message:
        text = text.replace("[grid]", "pressure = 1.0\n[grid]", 1)
    assert before in text
    if message is None:
        world(tmp_path, text.replace(before, after, 1)).build(device="cpu")
        return
    with pytest.raises(SceneError, match=message) as error:
        world(tmp_path, text.replace(before, after, 1)).build(device="cpu")
    assert "\n" not in str(error.value)
    assert main(["check", str(tmp_path / "scene.toml")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in told if not line.startswith("device:")]) == 1


def test_a_run_beyond_the_record_of_a_load_or_a_tilt_is_told(tmp_path: Path) -> None:
    tilt = LOAD.replace('"force.1" = "load"', '"gravity.1" = "a"')
    text = BAR.replace("[grid]", f"{LOAD}\n[grid]", 1).replace("walls =", f"tilt = {{ {tilt} }}\nwalls =", 1)
    ends = path_ends(world(tmp_path, text.replace("num_steps = 10", "num_steps = 30")))
    assert list(ends) == ["tilt.path", "loads.end.path"]
    assert "until 0.04 s, the run ends at 0.06 s: it then stays as it is" in ends["loads.end.path"]
    assert not path_ends(world(tmp_path, text))


def test_a_law_is_not_told_from_a_motion_under_loads(tmp_path: Path) -> None:
    """Their pushes would be taken for stress."""
    model, state = world(tmp_path, BAR.replace("[grid]", "force = [5.0, 1.0, 0.0]\n[grid]", 1)).build(device="cpu")
    with pytest.raises(ValueError, match="loads and a tilt have to be left out"):
        frames(model, record(model, state, 3), [0])
