"""Goals of one's own, against a design that can be written down."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import simengine as se
from simengine.fit.problem import Problem
from simengine.observe import Goal
from simengine.scene import SceneError, load_scene
from simengine.scene.asks import Series, Tracks
from simengine.scene.base import Refused

D = torch.float64
G = 9.81


class Thrown(se.OwnWorld):
    """A point that is thrown at an angle."""

    parameters: ClassVar = {"speed": se.OwnNumber(8.0, "m/s", gt=0), "angle": se.OwnNumber(0.9, "rad")}

    def simulate(self, values: Any) -> se.OwnMotion:
        t = torch.linspace(0, 1, 201, dtype=D)
        along, up = values["speed"] * torch.cos(values["angle"]), values["speed"] * torch.sin(values["angle"])
        place = torch.stack([along * t, up * t, 0 * t], -1)
        return se.OwnMotion(t, points={"ball": place}, scalars={"fallen": G * t**2 / 2})


ASKS = (
    Tracks(points=torch.zeros(1, 3, dtype=D), times=torch.tensor([0.5], dtype=D)),
    Series(names=("fallen",), against="time", values=torch.tensor([0.5], dtype=D)),
)
UNKNOWNS = {"speed": se.Unknown(), "angle": se.Unknown()}


def _where(answers: Any) -> torch.Tensor:
    track, fallen = answers
    return torch.stack([track[0, 0, 0], track[0, 0, 1] - fallen[0, 0]])


def test_a_throw_hits_what_was_aimed_at() -> None:
    """The closed form of both numbers, and their bars: how far each may be off while the place is off by sigma."""
    goal = Goal(asks_for=ASKS, of=_where, target=(2.0, 1.0), unit="m", sigma=0.01)
    found = se.identify(Problem(Thrown(), observations={"goal": goal}, unknowns=UNKNOWNS), progress=False)
    along, up = 2.0 / 0.5, (1.0 + G * 0.125) / 0.5
    assert found.parameters["speed"] == pytest.approx(math.hypot(along, up), rel=1e-6)
    assert found.parameters["angle"] == pytest.approx(math.atan2(up, along), rel=1e-6)
    assert found.estimates["speed"].std == pytest.approx(0.01 / 0.5, rel=0.02)
    assert found.estimates["angle"].std == pytest.approx(0.01 / 0.5 / math.hypot(along, up), rel=0.02)


def test_one_number_is_made_small() -> None:
    """How far the direction of a throw is from the diagonal: sin(a - 45 degrees) times the root of 2."""

    def lack(answers: Any) -> torch.Tensor:
        x, y = answers[0][0, 0, 0], answers[0][0, 0, 1]
        return (x - y) / torch.sqrt(x * x + y * y)

    goal = Goal(asks_for=ASKS[:1], of=lack)
    problem = Problem(Thrown(), observations={"goal": goal}, unknowns={"angle": se.Unknown()})
    assert se.identify(problem, progress=False).parameters["angle"] == pytest.approx(math.pi / 4, abs=1e-6)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda answers: torch.zeros(3), "expected a tensor of 2, as many as target, got 3 numbers"),
        (lambda answers: 1.0, "expected a tensor of 2, as many as target, got float"),
        (lambda answers: torch.full((2,), math.nan), "a number is not finite"),
    ],
)
def test_what_is_no_goal_is_told_in_a_line(made: Any, told: str) -> None:
    goal = Goal(asks_for=ASKS, of=made, target=(2.0, 1.0))
    with pytest.raises((SceneError, Refused), match=told):
        Problem(Thrown(), observations={"goal": goal}, unknowns=UNKNOWNS).predict()


def test_a_goal_needs_asks_and_a_target() -> None:
    with pytest.raises(ValueError, match="asks_for: expected at least one"):
        Goal(asks_for=(), of=_where)
    with pytest.raises(ValueError, match="target: expected a number"):
        Goal(asks_for=ASKS, of=_where, target=())
    with pytest.raises(SceneError, match="has no file to write"):
        Goal(asks_for=ASKS, of=_where).write(Path("x.csv"), None)  # type: ignore[arg-type]


SCRIPT = """
import simengine as se
def scene():
    world = se.load_world("jelly_drop")
    curve = se.observe.Curve(file="o.csv", columns={"time": "time", "bodies.jelly.center.1": "y [m]"}, sigma=1e-3)
    return se.scene_of(world, observations={"height": curve}, unknowns={"bodies.jelly.velocity.1": se.Unknown()})
"""


def test_a_script_keeps_the_observations_of_a_world_that_ships(tmp_path: Path) -> None:
    """They were made in Python and are no tables; numbers of the world can be set, and nothing else."""
    (tmp_path / "o.csv").write_text("time [s],y [m]\n0,0.5\n0.05,0.42\n")
    (tmp_path / "s.py").write_text(SCRIPT)
    scene = load_scene(tmp_path / "s.py", ["bodies.jelly.velocity.1=-1.0"])
    assert list(scene.observations) == ["height"] and list(scene.unknowns) == ["bodies.jelly.velocity.1"]
    assert scene.world.bodies[0].velocity[1] == -1.0  # type: ignore[attr-defined]
    assert Problem(scene).measured["height"].values.shape == (2, 1)
    with pytest.raises(SceneError, match="only numbers of a scene that is made in Python can be set"):
        load_scene(tmp_path / "s.py", ["bodies.jelly.material.type=sand"])
