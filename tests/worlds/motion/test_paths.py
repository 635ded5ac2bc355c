"""Colliders and clamps that follow a recorded path: closed forms, the straight path, gradients, wrong files."""

import math
from pathlib import Path

import pytest
import torch

from simengine import mpm
from simengine.scene.address import replaced
from simengine.scene.asks import Cloud, Series, Tracks
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.scene.record import record
from simengine.worlds.motion.preflight import preflight

# a testing machine: mm, downwards positive, an uneven clock, a gap, a line of units
PRESS = "Zeit;Weg;Kraft\ns;mm;N\n0;0;1\n2;0,2;3\n2,5;;4\n3;0,3;5\n6;0,3;7\n"
BLOCK = """
gravity = [0.0, 0.0, 0.0]
walls = { kind = "open" }
output = { save_every = 1 }
[grid]
lower = [-0.05, -0.02, -0.05]
upper = [0.05, 0.07, 0.05]
spacing = 0.01
integrator = "quasistatic"
time_step = 1.0
num_steps = 4
[[bodies]]
name = "block"
shape = { type = "box", center = [0.001, 0.015, 0.0], size = [0.03, 0.03, 0.03] }
material = { type = "rubber", E = 3e5, nu = 0.3 }
"""
PLATES = """
[[colliders]]
name = "bottom"
type = "plane"
point = [0.0, 0.0, 0.0]
normal = [0.0, 1.0, 0.0]
[[colliders]]
name = "top"
type = "plane"
point = [0.0, 0.03, 0.0]
normal = [0.0, -1.0, 0.0]
path = { file = "press.csv", columns = { time = "Zeit", "shift.1" = { column = "Weg", gain = -1.0 } } }
"""
CLAMPS = """
[[clamps]]
name = "foot"
region = { lower = [-0.014, 0.0, -0.015], upper = [0.016, 0.0, 0.015] }
[[clamps]]
name = "grip"
region = { lower = [-0.014, 0.03, -0.015], upper = [0.016, 0.03, 0.015] }
path = { file = "grip.csv", columns = { time = "t [s]", x = "x [mm]", y = "y [mm]", z = "z [mm]" } }
"""
EXPLICIT = ('integrator = "quasistatic"\ntime_step = 1.0\nnum_steps = 4', "time_step = 5e-5\nnum_steps = 60")


def world(tmp_path: Path, text: str, press: str = PRESS):
    (tmp_path / "press.csv").write_text(press)
    (tmp_path / "scene.toml").write_text(text)
    return load_world(tmp_path / "scene.toml")


def series(scene, names: tuple[str, ...], times: list[float], **options: bool) -> torch.Tensor:
    ask = Series(names=names, against="time", values=torch.tensor(times, dtype=torch.float64))
    return scene.prepare([ask]).solve([ask], **options).sample(ask)


def test_between_records_it_is_straight_and_beyond_them_at_rest() -> None:
    shifts = torch.tensor([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 3.0]], dtype=torch.float64)
    path = mpm.RecordedPath(torch.tensor([1.0, 2.0, 5.0]), shifts, start=0.5, gain=2.0, offset=(0.1, 0.0, 0.0))
    t = torch.tensor([-9.0, 1.0, 3.0, 9.0], dtype=torch.float64)
    expected = [[0.1, 2.0, 0.0], [0.1, 4.0, 0.0], [0.1, 6.0, 3.0], [0.1, 6.0, 6.0]]
    assert torch.allclose(path.shift(t), torch.tensor(expected, dtype=torch.float64), atol=1e-14)
    assert path.rate(t[1:2], 2.0)[0].tolist() == pytest.approx([0.0, 1.0, 1.5])  # the mean over a corner
    assert path.fastest() == pytest.approx(4.0)
    way = mpm.RecordedPath(torch.tensor([1.0, 2.0, 5.0]), shifts, start=1.5, relative=True)
    assert way.shift(torch.tensor([0.0, 2.0], dtype=torch.float64)).flatten().tolist() == pytest.approx(
        [0, 0, 0, 0, 1, 1.5]
    )


def test_gradient_of_a_path_against_differences() -> None:
    shifts = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    times = torch.tensor([0.0, 0.4, 1.0, 1.3, 2.0, 3.0], dtype=torch.float64)

    def shift(t, start, gain, offset):
        return mpm.RecordedPath(times, shifts, start=start, gain=gain, offset=offset, relative=True).shift(t)

    at = [
        torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in ([0.1, 0.9, 1.85], 0.23, 1.7, [0.1, 0.2, 0.3])
    ]
    assert torch.autograd.gradcheck(shift, at)


@pytest.mark.parametrize(("times", "match"), [([0.0, 1.0, 1.0], "must grow"), ([0.0, math.nan, 1.0], "not finite")])
def test_what_is_no_path_is_refused(times: list[float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        mpm.RecordedPath(torch.tensor(times), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="at least two times"):
        mpm.RecordedPath(torch.tensor([1.0]), torch.zeros(1, 3))


def test_a_straight_path_is_a_velocity(tmp_path: Path) -> None:
    """Explicit steps, plate and clamp: the same motion to rounding."""
    (tmp_path / "grip.csv").write_text("t [s],x [mm],y [mm],z [mm]\n0,70,8,9\n1,370,-92,9\n")
    text = (BLOCK + CLAMPS + PLATES.replace('"Zeit"', '"t"').replace('column = "Weg"', 'column = "s [m]"')).replace(
        *EXPLICIT
    )
    scene = world(tmp_path, text.replace("point = [0.0, 0.03", "point = [0.0, 0.0301"), "t,s [m]\n0,0\n1,0.2\n")
    ask = Cloud(times=torch.tensor([0.0, 0.003], dtype=torch.float64), body="block")
    mark = Tracks(points=torch.tensor([[0.0, 0.031, 0.0]], dtype=torch.float64), times=ask.times, body="grip")
    moved = scene.solve([ask, mark])
    assert moved.sample(mark)[1, 0].tolist() == pytest.approx([0.0009, 0.0307, 0.0])
    rows = (tmp_path / "scene.toml").read_text().splitlines()
    speeds = iter(("[0.3, -0.1, 0.0]", "[0.0, -0.2, 0.0]"))
    plain = [f"velocity = {next(speeds)}" if row.startswith("path") else row for row in rows]
    straight = world(tmp_path, "\n".join(plain)).solve([ask])
    assert float((straight.sample(ask)[0] - straight.sample(ask)[1]).abs().max()) > 1e-4
    assert float((moved.sample(ask) - straight.sample(ask)).abs().max()) < 1e-13


def stress(stretch: float, E: float = 3e5, nu: float = 0.3) -> float:
    """First Piola stress of the neo-Hookean law along a pressed axis, the sides free; by bisection."""
    mu, lam, low, high = E / 2 / (1 + nu), E * nu / (1 + nu) / (1 - 2 * nu), 0.5, 1.5
    for _ in range(60):
        side = (low + high) / 2
        J = side**2 * stretch
        low, high = (low, side) if mu * (side**2 - 1) + lam / 2 * (J * J - 1) > 0 else (side, high)
    return (mu * (stretch**2 - 1) + lam / 2 * (J * J - 1)) / stretch


def test_a_plate_presses_as_the_machine_did(tmp_path: Path) -> None:
    """Quasi-static between slip plates: the closed form at recorded places within 2 %, late by what the clock says."""
    scene = world(tmp_path, BLOCK + PLATES)
    names = ("colliders.top.force.1", "colliders.top.shift.1")
    rows = series(scene, names, [1.0, 2.0])
    assert rows[:, 1].tolist() == pytest.approx([-1e-4, -2e-4])
    assert rows[:, 0].tolist() == pytest.approx([-stress(1 - s / 0.03) * 0.03**2 for s in (1e-4, 2e-4)], rel=0.02)
    late = {"colliders.1.path.start": -1.0, "colliders.1.path.gain": 2.0, "colliders.1.path.offset.1": 1e-4}
    late = series(replaced(scene, late), names, [2.0])[0]
    assert late.tolist() == pytest.approx(rows[0].tolist(), rel=1e-3)  # half as far, twice as far, less the slack


def test_a_clamp_goes_as_the_grip_moved(tmp_path: Path) -> None:
    """Pressed on a plate by a clamp whose path is that of a mark: E A e within 2 % at nu = 0."""
    (tmp_path / "grip.csv").write_text("t [s],x [mm],y [mm],z [mm]\n0,70,8.0,9\n4,70,6.8,9\n")
    text = BLOCK + CLAMPS[CLAMPS.index("[[clamps]]", 5) :] + PLATES[: PLATES.index("[[colliders]]", 5)]
    scene = world(tmp_path, text.replace("nu = 0.3", "nu = 0.0"))
    force = series(scene, ("clamps.grip.force.1", "colliders.bottom.force.1", "clamps.grip.shift.1"), [1.0])[0]
    assert float(force[2]) == pytest.approx(-3e-4)
    assert float(force[0]) == pytest.approx(-stress(0.99, nu=0.0) * 0.03**2, rel=0.02)
    assert float(force[1]) == pytest.approx(-float(force[0]), rel=1e-3)


@pytest.mark.parametrize("steps", ["quasistatic", "explicit"])
def test_gradient_of_the_force_against_differences(tmp_path: Path, steps: str) -> None:
    """Force of the plate by clock, gain and offset of its path, to 1e-4."""
    text, times = BLOCK + PLATES, [1.0]
    if steps == "explicit":
        text, times = text.replace(*EXPLICIT), [0.001, 0.00251]
    press = PRESS if steps == "quasistatic" else "Zeit;Weg\ns;mm\n0;0\n1e-3;0,1\n9e-3;0,5\n"
    scene, names = world(tmp_path, text, press), ("colliders.top.force.1", "bodies.block.center.1")
    at = {"start": 2e-4 if steps == "explicit" else 0.1, "gain": 1.1, "offset.1": -2e-5}
    at = {f"colliders.1.path.{key}": value for key, value in at.items()}
    scene = replaced(scene, at)
    assert set(at) <= scene.traced()
    tensors = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in at.items()}
    probe = torch.tensor([[1.0, 1e4], [-0.5, 3e4]], dtype=torch.float64)[: len(times)]
    value = (series(replaced(scene, tensors), names, times, gradient=True) * probe).sum()
    gradient = torch.autograd.grad(value, list(tensors.values()))
    for (key, middle), own in zip(at.items(), gradient, strict=True):
        h = 1e-4 * abs(middle)
        ends = [(series(replaced(scene, {key: middle + s * h}), names, times) * probe).sum() for s in (1, -1)]
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-4), key


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"Zeit"', '"Uhr"', r"colliders\.1: path: columns\.time: press\.csv has no column 'Uhr'"),
        ('"shift.1"', '"shift.3"', r"colliders\.1\.path.*'shift\.3' is none of a path; did you mean 'shift\.2'"),
        ('time = "Zeit", ', "", r"colliders\.1\.path.*name `time` and at least one of shift\.0"),
        ('"shift.1"', 'z = "Weg", "shift.1"', r"colliders\.1\.path.*either shift\.0, shift\.1, shift\.2, or x, y, z"),
        ("press.csv", "prss.csv", r"colliders\.1: path: .*prss\.csv: no such file"),
        ("gain = -1.0", "sigma = 1.0", r"colliders\.1\.path.*columns\.shift\.1\.sigma: .*leave it out"),
    ],
)
def test_wrong_paths_are_told_in_one_line(tmp_path: Path, old: str, new: str, match: str) -> None:
    with pytest.raises(SceneError, match=match) as told:
        world(tmp_path, BLOCK + PLATES.replace(old, new)).build(device="cpu")
    assert "\n" not in str(told.value)


def test_a_clock_that_runs_back_is_told(tmp_path: Path) -> None:
    scene = world(tmp_path, BLOCK + PLATES, PRESS.replace("\n6;", "\n1;"))
    with pytest.raises(SceneError, match=r"colliders\.1: path: times of a path must grow, got 3 s and then 1 s"):
        scene.build(device="cpu")


def test_a_run_keeps_the_file_of_a_path(tmp_path: Path) -> None:
    kept = record(world(tmp_path, BLOCK + PLATES))
    assert any(name.endswith("/press.csv") for name in kept.inputs)
    assert kept.data["colliders"][1]["path"]["file"] in kept.inputs


def test_a_run_beyond_the_records_is_told(tmp_path: Path) -> None:
    from simengine.worlds.motion.preflight import path_ends

    scene = replaced(world(tmp_path, BLOCK + PLATES), {"colliders.1.path.start": 2.5})
    assert list(path_ends(scene)) == ["colliders.top.path"]
    assert "until 3.5 s, the run ends at 4 s" in path_ends(scene)["colliders.top.path"]
    assert not path_ends(replaced(scene, {"colliders.1.path.start": 2.0}))


FORCE = """
[observations.force]
type = "curve"
file = "press.csv"
columns = { time = "Zeit", "colliders.top.force.1" = "Kraft" }
sigma = { relative = 0.01 }
within = { time = [1.0, 3.0] }
[unknowns]
"bodies.block.material.E" = { prior.lognormal = [1e5, 1.5] }
"""


@pytest.mark.slow
def test_a_modulus_from_the_plate_of_a_machine(tmp_path: Path) -> None:
    """One file is input and output: the load is the closed form of the law at 3e5 Pa, E is found to 2 % from 1e5 Pa."""
    import simengine as se

    rows = [(t, 0.2 * t) for t in range(5)]  # s, mm
    cells = [f"{t};{w:g};{-stress(1 - w / 30) * 0.03**2:.6g}".replace(".", ",") for t, w in rows]
    text = "\n".join(("Zeit;Weg;Kraft", "s;mm;N", *cells))
    (tmp_path / "press.csv").write_text(text)
    (tmp_path / "scene.toml").write_text((BLOCK + PLATES + FORCE).replace("E = 3e5", "E = 1e5"))
    found = se.identify(se.load_scene(tmp_path / "scene.toml"), progress=False).estimates["bodies.block.material.E"]
    assert found.value == pytest.approx(3e5, rel=0.02)
    assert found.std is not None and 0 < found.std < 0.03 * found.value


def test_check_of_a_sequence_of_equilibria(tmp_path: Path) -> None:
    """No velocity enters an equilibrium, so there is no gradient in one to be tested."""
    report = preflight(world(tmp_path, BLOCK + PLATES), device=None)
    assert report["ok"] and report["gradient_error"] is None
    assert report["gradient_test"].startswith("not made: equilibria")
