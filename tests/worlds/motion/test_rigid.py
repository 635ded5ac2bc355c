"""Balls against mechanics in closed form."""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.fit.problem import Problem
from simengine.observe.camera import Camera
from simengine.scene.asks import Series, Tracks
from simengine.scene.base import Refused, SceneError
from simengine.scene.grammar import build_scene, make_world
from simengine.worlds.motion.rigid.world import RigidWorld


def world(**data: Any) -> RigidWorld:
    made = make_world({"kind": "rigid", **data}, directory=Path(), locate=lambda key: "scene.toml")
    assert isinstance(made, RigidWorld)
    return made


def ball(name: str = "a", center: Any = (0.0, 1.0, 0.0), **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": {"type": "sphere", "center": list(center), "radius": 0.1}, "mass": 0.2, **more}


FLOOR = {"name": "floor", "point": [0.0, 0.0, 0.0], "normal": [0.0, 1.0, 0.0]}


def series(scene: RigidWorld, times: Any, *names: str) -> np.ndarray:
    ask = Series(names=names, against="time", values=torch.as_tensor(times, dtype=torch.float64))
    return scene.solve((ask,)).sample(ask).numpy()


def test_fall_with_drag() -> None:
    """Verification: y = -vt^2/g ln cosh(g t/vt), vt^2 = 2 m g/(rho Cd pi r^2)."""
    scene = world(bodies=[ball(drag={"coefficient": 0.5, "density": 1.2})], duration=2.0)
    t = np.linspace(0, 2, 23)
    fall = 1.0 - series(scene, t, "bodies.a.center.1")[:, 0]
    square = 2 * 0.2 * 9.81 / (1.2 * 0.5 * math.pi * 0.01)
    np.testing.assert_allclose(fall, square / 9.81 * np.log(np.cosh(9.81 * t / math.sqrt(square))), atol=1e-9)


def test_sizes_go_with_each_other() -> None:
    """What is plausible of a column: lengths, times and speeds of one motion."""
    sizes = world(bodies=[ball()], duration=0.25).sizes()
    assert sizes["m"] == pytest.approx(0.5 * 9.81 * 0.25**2) and sizes["s"] == 0.25
    assert sizes["m/s"] == pytest.approx(sizes["m"] / 0.25)
    assert sizes["rad/s"] == pytest.approx(sizes["m/s"] / 0.1)


def test_bounces_to_the_height_of_its_restitution() -> None:
    """Verification: the n-th top lies e^2n of the height above rest, at its time; no step size enters."""
    drop, e = 0.9, 0.7
    scene = world(bodies=[ball()], colliders=[FLOOR], contact={"a-floor": {"restitution": e}}, duration=3.0, step=0.017)
    first = math.sqrt(2 * drop / 9.81)
    tops = [first + first * e, first + 2 * first * e + first * e**2]
    heights = series(scene, tops, "bodies.a.center.1")[:, 0] - 0.1
    np.testing.assert_allclose(heights, [drop * e**2, drop * e**4], atol=1e-10)


@pytest.mark.parametrize(("inertia", "left"), [(0.4, 5 / 7), (2 / 3, 3 / 5)])
def test_an_oblique_bounce_that_sticks(inertia: float, left: float) -> None:
    """Verification: rough enough, a ball without spin leaves with 1/(1 + k) of its speed along, and rolls off.

    The impulse along is m v k/(1 + k): what stops the slip of the point that touches (Garwin 1969, without the spring).
    """
    thrown = ball(center=(0.0, 0.5, 0.0), velocity=[1.5, -1.0, 0.0], inertia=inertia)
    contact = {"a-floor": {"restitution": 0.8, "friction": 10.0}}
    scene = world(bodies=[thrown], colliders=[FLOOR], contact=contact, duration=0.4)
    along, spin = series(scene, [0.3], "bodies.a.velocity.0", "bodies.a.spin.2")[0]
    assert along == pytest.approx(1.5 * left, rel=1e-9) and spin == pytest.approx(-along / 0.1, rel=1e-9)


def test_a_sliding_ball_rolls_at_five_sevenths() -> None:
    """Verification: a solid ball that starts without spin rolls at 5/7 of its speed from 2 v/(7 mu g) on."""
    v, mu = 2.0, 0.3
    scene = world(
        bodies=[ball(center=(0.0, 0.1, 0.0), velocity=[v, 0.0, 0.0])],
        colliders=[FLOOR],
        contact={"*-floor": {"restitution": 0.0, "friction": mu}},
        duration=1.0,
    )
    rolls = 2 * v / (7 * mu * 9.81)
    at = [rolls / 2, rolls, 0.9]
    shown = series(scene, at, "bodies.a.velocity.0", "bodies.a.spin.2", "bodies.a.center.0", "bodies.a.center.1")
    np.testing.assert_allclose(shown[:, 0], [v - mu * 9.81 * rolls / 2, v * 5 / 7, v * 5 / 7], rtol=1e-9)
    np.testing.assert_allclose(shown[1:, 1], -v * 5 / 7 / 0.1, rtol=1e-9)
    way = v * rolls - mu * 9.81 * rolls**2 / 2 + v * 5 / 7 * (0.9 - rolls)
    assert shown[2, 2] == pytest.approx(way, rel=1e-9)
    assert shown[2, 3] == pytest.approx(0.1, abs=1e-12)
    assert scene.solve(()).events[0][0] == pytest.approx(rolls, rel=1e-10)


def test_a_ball_on_a_slope() -> None:
    """Verification: it rolls with g sin/(1 + k) where friction holds it, tan <= mu (1 + k)/k, else slides on."""
    angle = 0.5
    down = [9.81 * math.sin(angle), -9.81 * math.cos(angle), 0.0]
    for mu in (0.1, 0.15, 0.2, 0.3):
        holds = math.tan(angle) <= mu * 1.4 / 0.4
        scene = world(
            gravity=down,
            bodies=[ball(center=(0.0, 0.1, 0.0))],
            colliders=[FLOOR],
            contact={"*-floor": {"friction": mu}},
            duration=0.5,
        )
        want = math.sin(angle) / 1.4 if holds else math.sin(angle) - mu * math.cos(angle)
        speed = series(scene, [0.5], "bodies.a.velocity.0")[0, 0]
        assert speed == pytest.approx(9.81 * want * 0.5, rel=1e-9), mu


def test_two_balls_hit() -> None:
    """Verification: speeds along the line of centres part by e; momentum, and turning about the contact, are kept."""
    scene = world(
        gravity=[0.0, 0.0, 0.0],
        bodies=[
            ball("a", (0.0, 0.0, 0.0), velocity=[1.5, 0.0, 0.0], spin=[0.0, 0.0, 3.0]),
            ball("b", (0.5, 0.08, 0.0)),
        ],
        contact={"a-b": {"restitution": 0.6, "friction": 0.25}},
        duration=1.0,
    )
    parts = [f"bodies.{b}.{q}.{k}" for b in "ab" for q in ("velocity", "spin") for k in range(3)]
    before, after = (row.reshape(2, 2, 3) for row in series(scene, [0.0, 1.0], *parts))
    moved = math.sqrt(0.2**2 - 0.08**2)
    n = np.array([moved, 0.08, 0.0]) / 0.2
    assert scene.solve(()).events[0][0] == pytest.approx((0.5 - moved) / 1.5, rel=1e-12)
    relative = [(row[1, 0] - row[0, 0]) @ n for row in (before, after)]
    assert relative[1] == pytest.approx(-0.6 * relative[0], rel=1e-12)
    np.testing.assert_allclose(after[:, 0].sum(0), before[:, 0].sum(0), atol=1e-14)
    impulse = 0.2 * (after[1, 0] - before[1, 0])
    along, across = impulse @ n, np.linalg.norm(impulse - (impulse @ n) * n)
    assert across <= 0.25 * along * (1 + 1e-12)
    for k, arm in ((0, n * 0.1), (1, -n * 0.1)):  # each turns by the moment of its impulse
        push = impulse if k else -impulse
        np.testing.assert_allclose(after[k, 1] - before[k, 1], np.cross(arm, push) / (0.4 * 0.2 * 0.01), atol=1e-10)


def test_marks_turn_with_the_ball_and_its_centre_does_not() -> None:
    scene = world(bodies=[ball(spin=[0.0, 0.0, 2.0])], gravity=[0.0, 0.0, 0.0], duration=1.0)
    points = torch.tensor([[0.1, 1.0, 0.0], [math.nan] * 3], dtype=torch.float64)
    ask = Tracks(points=points, times=torch.tensor([0.0, 0.6], dtype=torch.float64), body="a")
    track = scene.solve((ask,)).sample(ask)
    np.testing.assert_allclose(
        track[:, 0], [[0.1, 1, 0], [0.1 * math.cos(1.2), 1 + 0.1 * math.sin(1.2), 0]], atol=1e-12
    )
    np.testing.assert_allclose(track[:, 1], [[0, 1, 0]] * 2, atol=1e-15)


def test_faults_are_told_in_one_line() -> None:
    for data, told in (
        ({"bodies": [ball(), ball()]}, "must differ"),
        ({"bodies": [ball()], "contact": {"a-flor": {}}, "colliders": [FLOOR]}, "did you mean 'floor'"),
        ({"bodies": [ball()], "colliders": [FLOOR]}, "nothing touches 'floor'"),
    ):
        with pytest.raises(SceneError, match=told):
            world(**data, duration=1.0)
    inside = world(bodies=[ball(center=(0.0, 0.05, 0.0))], colliders=[FLOOR], contact={"*-*": {}}, duration=1.0)
    with pytest.raises(Refused, match="a-floor overlap"):
        inside.solve(())
    late = Series(names=("bodies.a.center.0",), against="time", values=torch.tensor([2.0]))
    with pytest.raises(SceneError, match="lengthen it"):
        world(bodies=[ball()], duration=1.0).prepare([late])


def test_rolling_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(SceneError, match="spin: rolling = true tells it; leave one of them out"):
        world(bodies=[ball(rolling=True, spin=[0.0, 0.0, 1.0])], duration=1.0)
    scene = world(bodies=[ball(rolling=True)], colliders=[FLOOR], contact={"a-floor": {}}, duration=1.0)
    with pytest.raises(Refused, match=r"bodies\.a\.rolling: it lies on no plane at the start"):
        series(scene, [0.1], "bodies.a.spin.2")


def test_a_camera_projects_as_the_formula_says() -> None:
    """Verification: u = f x/z + cu, v = cv - f y/z for axes left, down, back."""
    turn = ((-0.9957, -0.0349, 0.0858), (-0.0148, -0.8544, -0.5194), (0.0914, -0.5184, 0.8502))
    camera = Camera(
        focal=1200.0, width=1280, height=720, axes=("left", "down", "back"), turn=turn, shift=(0.567, 0.278, -1.298)
    )
    point = np.array([0.53, 0.29, 0.034])
    x, y, z = np.array(turn) @ point + [0.567, 0.278, -1.298]
    seen = camera.project(torch.from_numpy(point)).numpy()
    np.testing.assert_allclose(seen, [1200 * x / z + 640, 360 - 1200 * y / z], atol=0.5)  # four digits of the rotation
    assert camera.turn == (0.0, 0.0, 0.0)
    flat = Camera(focal=100.0, width=10, height=10, shift=(0.0, 0.0, 2.0))
    np.testing.assert_allclose(flat.project(torch.tensor([1.0, -0.5, 0.0], dtype=torch.float64)), [55.0, -20.0])
    with pytest.raises(ValueError, match="no rotation"):
        Camera(focal=1.0, width=10, height=10, turn=((1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 1.0)))


TWIN = """
kind = "rigid"
duration = 0.6
bodies = [{ name = "a", shape = { type = "sphere", center = [0.0, 1.0, 0.0], radius = 0.1 }, mass = 0.2 }]
colliders = [{ name = "floor", point = [0.0, 0.0, 0.0], normal = [0.0, 1.0, 0.0] }]
contact = { a-floor = { restitution = 0.5 } }
[observations.film]
type = "markers"
file = "film.csv"
columns = { time = "t", pattern = "{name}_{axis}" }
markers = { a = { on = "a" } }
sigma = 0.5
camera = { focal = 500.0, width = 640, height = 480, axes = "opengl", shift = [0.0, -0.5, -2.0] }
[unknowns]
"contact.a-floor.restitution" = {}
"bodies.a.shape.center.1" = { prior.normal = 0.05 }
"observations.film.camera.focal" = { prior.lognormal = 0.05 }
"""


def test_pixels_of_a_bounce_tell_its_restitution(tmp_path: Path) -> None:
    """Recovery: pixels written by closed forms, focal length and height sought beside; no mark seat is a nuisance."""
    t = np.arange(0, 0.6, 0.02)
    hit = math.sqrt(2 * 0.85 / 9.81)
    y = np.where(t < hit, 0.95 - 9.81 * t**2 / 2, 0.1 + 0.7 * 9.81 * hit * (t - hit) - 9.81 * (t - hit) ** 2 / 2)
    rows = [f"{time},{320.0},{240 - 510 * (height - 0.5) / 2}" for time, height in zip(t, y, strict=True)]
    (tmp_path / "film.csv").write_text("\n".join(["t,a_u,a_v", *rows]) + "\n")
    scene = build_scene(tomllib.loads(TWIN), directory=tmp_path, locate=lambda key: "scene.toml")
    problem = Problem(scene)
    assert len(problem.coordinates) == 3
    from simengine.fit.inference import LeastSquaresFit

    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    found = fit.estimates()
    assert found["contact.a-floor.restitution"] == pytest.approx(0.7, abs=0.02)
    assert found["bodies.a.shape.center.1"] == pytest.approx(0.95, abs=0.01)
    assert found["observations.film.camera.focal"] == pytest.approx(510.0, rel=0.01)
