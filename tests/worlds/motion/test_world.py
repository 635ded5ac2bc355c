"""What a scene of moving bodies is built of: spins, walls, and what can be sought, against closed forms."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.mpm import MPMSolver
from simengine.scene.address import replaced
from simengine.scene.asks import Series, View
from simengine.scene.base import SceneError
from simengine.scene.loader import make_scene
from simengine.solve import rollout
from simengine.worlds.motion.room import Room
from simengine.worlds.motion.specs import CameraSpec
from simengine.worlds.motion.view import MotionViewer
from simengine.worlds.motion.world import MPMWorld

JELLY = {"type": "jelly", "E": 1e4, "nu": 0.3}


def scene(*bodies: dict[str, object], **more: object) -> MPMWorld:
    data = {"grid": {"num_grids": 20, "time_step": 5e-4}, "bodies": list(bodies), **more}
    made = make_scene({"kind": "mpm", **data}, directory=Path(), locate=lambda key: "scene")
    assert isinstance(made, MPMWorld)
    return made


def box(center: list[float], **more: object) -> dict[str, object]:
    return {"shape": {"type": "box", "center": center, "size": [0.2] * 3}, "material": JELLY, **more}


@pytest.mark.parametrize("factor", [0.15, 0.5, 1.3, 1.5, 2.0])
@pytest.mark.parametrize(("steps", "every"), [(150, 3), (40, 1), (156, 12), (7, 7)])
def test_another_resolution_lasts_as_long_in_whole_frames(factor: float, steps: int, every: int) -> None:
    made = scene(
        box([0.5] * 3),
        output={"save_every": every, "video": False},
        grid={"num_grids": 20, "time_step": 5e-4, "num_steps": steps},
    )
    other = made.refined(factor)
    asked, found = steps * 5e-4, other.grid.num_steps * other.grid.time_step
    frame = other.output.save_every * other.grid.time_step
    assert other.grid.num_steps % other.output.save_every == 0
    assert asked - 1e-9 <= found < asked + frame
    if factor == 2.0:
        assert (other.grid.num_steps, other.output.save_every) == (2 * steps, 2 * every)


def test_each_body_spins_about_its_own_middle() -> None:
    spins, centres = ([1.0, 2.0, 3.0], [-2.0, 0.5, 1.0]), ([0.35, 0.5, 0.5], [0.65, 0.4, 0.5])
    moving = [0.3, 0.0, -0.2]
    made = scene(*(box(c, angular_velocity=w, velocity=moving) for c, w in zip(centres, spins, strict=True)))
    _, state = made.build(device="cpu", double=True)
    ids = made.particles()[2]
    for index, (centre, spin) in enumerate(zip(centres, spins, strict=True)):
        own = torch.as_tensor(ids == index)
        x, v = state.x[own].numpy(), state.v[own].numpy()
        assert v == pytest.approx(np.array(moving) + np.cross(spin, x - np.array(centre)), abs=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_body_may_touch_every_wall_and_reach_through_none(axis: int) -> None:
    half, thickness = 0.1, 2 * 0.05  # of the body; of a wall of bound 3: two cells
    for side in (0, 1):
        for gap, fits in ((0.001, True), (-0.03, False)):  # particles lie a quarter of a cell inside of the surface
            centre = [0.5] * 3
            inside = thickness + half + gap
            centre[axis] = inside if side == 0 else 1 - inside
            made = scene(box(centre))
            if fits:
                made.build(device="cpu")
            else:
                with pytest.raises(SceneError, match=r"outside the walls at 0\.1 and 0\.9 m"):
                    made.build(device="cpu")


def test_the_friction_of_the_walls_can_be_sought() -> None:
    """A block that slides along the floor is slowed by friction, and the gradient says by how much."""
    made = scene(
        box([0.5, 0.2, 0.5], velocity=[1.0, 0.0, 0.0]),
        walls={"kind": "friction", "friction": 0.3},
        gravity=[0, -9.8, 0],
    )

    def reached(friction: torch.Tensor) -> torch.Tensor:
        model, state = made.build(device="cpu", double=True, values={"walls.friction": friction})
        return rollout(MPMSolver(model), state, 40, save_every=40)[-1].v[:, 0].mean()

    friction = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(reached(friction), friction)
    with torch.no_grad():
        difference = (reached(friction + 1e-6) - reached(friction - 1e-6)) / 2e-6
        slowed = [float(reached(torch.tensor(mu, dtype=torch.float64))) for mu in (0.0, 0.1, 0.3)]
    assert slowed[0] > slowed[1] > slowed[2]
    assert float(gradient) == pytest.approx(float(difference), rel=1e-6) and float(gradient) < 0
    same = dataclasses.replace(made, walls=dataclasses.replace(made.walls, friction=0.1))
    model, state = same.build(device="cpu", double=True)
    v = rollout(MPMSolver(model), state, 40, save_every=40)[-1].v[:, 0].mean()
    assert float(v) == pytest.approx(slowed[1], rel=1e-12)  # as a key, and as what is sought


def test_a_body_lies_turned_about_the_middle_of_its_shape() -> None:
    shape = {"type": "box", "center": [0.5, 0.5, 0.45], "size": [0.3, 0.2, 0.1], "counts": [4, 3, 2]}
    lying = {"shape": shape, "material": JELLY, "turn": [0.0, 0.0, np.pi / 2]}
    made, upright = scene(lying), scene({**lying, "turn": [0.0, 0.0, 0.0]})
    x, y, z = (upright.particles()[0] - [0.5, 0.5, 0.45]).T
    turned = np.stack([0.5 - y, 0.5 + x, 0.45 + z], 1)  # x to y, by hand
    assert made.particles()[0] == pytest.approx(turned, abs=1e-12)
    # particles made once turn with the number, as a fit wants it, and so does the surface that cameras see
    view = View(
        intrinsics=torch.tensor([[40.0, 40.0, 16.0, 16.0]]).double(),
        world_to_camera=torch.eye(4, dtype=torch.float64)[None],
        size=(32, 32),
        times=None,
        channels=("alpha",),
    )
    prepared = replaced(upright.prepare([view]), {"bodies.0.turn.2": np.pi / 2})
    assert prepared.particles()[0] == pytest.approx(turned, abs=1e-12)
    seen = (MotionViewer(w, w.skins, torch.zeros(24).long(), (0.05,)) for w in (prepared, made.prepare([view])))
    a, b = (viewer.surface(torch.as_tensor(turned)) for viewer in seen)
    assert a is not None and b is not None
    torch.testing.assert_close(a.vertices, b.vertices)
    low, high = a.vertices.amin(0), a.vertices.amax(0)
    torch.testing.assert_close(high - low, torch.tensor([0.2, 0.3, 0.1]).double())


def test_a_load_finds_its_part_on_a_turned_body() -> None:
    part = {"lower": [0.0, 0.6, 0.0], "upper": [1.0, 0.6, 1.0]}  # the top, in the body's own coordinates
    load = {"name": "weight", "region": part, "mass": 1.0}
    model, state = scene(box([0.5, 0.5, 0.5], turn=[0.0, 0.0, np.pi]), loads=[load]).build(device="cpu", double=True)
    heavy = model.mass > 1.5 * model.mass.min()
    assert float(state.x[heavy, 1].max()) < float(state.x[~heavy, 1].min())  # upside down


def test_what_a_clamp_holds_is_not_turned() -> None:
    region = {"lower": [-0.1, -0.1, -0.1], "upper": [-0.1, 0.1, 0.1]}
    free = {"lower": [-0.5] * 3, "upper": [0.5] * 3, "spacing": 0.05, "time_step": 5e-4}
    with pytest.raises(SceneError, match=r"the body 'body' is turned, and what a clamp holds lies along the axes"):
        scene(
            box([0.0, 0.0, 0.0], turn=[0.1, 0.0, 0.0]),
            grid=free,
            clamps=[{"name": "c", "on": "body", "region": region}],
        )


def test_the_ray_caster_sees_a_heap_of_sand() -> None:
    sand = {"type": "sand", "density": 1600.0, "E": 5e5, "nu": 0.2, "friction_angle": 30.0}
    shape = {"type": "cylinder", "center": [0.5, 0.3, 0.5], "radius": 0.15, "height": 0.3}
    made = scene({"shape": shape, "material": sand, "particles_per_cell": 3})
    x, _, ids = (torch.as_tensor(array) for array in made.particles())
    viewer = MotionViewer(made, (None,), ids, (0.05 / 3,))
    camera = CameraSpec(eye=(0.5, 0.3, 2.0), target=(0.5, 0.3, 0.5), field_of_view=30.0, width=64, height=64)
    pinhole = camera.pinhole(double=True)
    other, own = Room(made, viewer).image(x, pinhole), viewer.image(x, pinhole)
    # the share of the picture that a cylinder covers, by hand: its nearest line is seen at a distance of 1.35 m
    scale = 1 / (2 * np.tan(np.radians(15))) ** 2
    assert float(other.alpha.mean()) == pytest.approx(0.3 * 0.3 / 1.42**2 * scale, rel=0.07)
    assert float(own.alpha.mean()) == pytest.approx(float(other.alpha.mean()), rel=0.05)


def test_scalars_of_a_body_in_free_flight() -> None:
    """A box that flies: its middle and velocity, its faces half a spacing beyond the last particles, energy m v^2/2."""
    v, centres = ([0.3, -0.4, 0.1], [0.0, 0.0, 0.0]), ([0.35, 0.5, 0.5], [0.7, 0.4, 0.5])
    bodies = [box(c, name=n, velocity=w) for c, n, w in zip(centres, ("a", "b"), v, strict=True)]
    made = scene(*bodies, gravity=[0.0, 0.0, 0.0])
    times = [0.0, 0.005, 0.00525]  # the last one lies between two steps
    names = [
        "energy.kinetic",
        *(f"bodies.a.{k}.{axis}" for k in ("center", "velocity", "lower", "upper") for axis in (0, 1)),
    ]
    ask = Series(names=tuple(names), against="time", values=torch.tensor(times, dtype=torch.float64))
    rows = made.prepare([ask]).solve([ask]).sample(ask).double()
    _, volume, ids = made.particles()
    mass = 1000.0 * float(torch.as_tensor(volume)[torch.as_tensor(ids) == 0].sum())
    assert mass == pytest.approx(8.0, rel=1e-6)
    torch.testing.assert_close(rows[:, 0], torch.full((3,), 0.5 * 8.0 * 0.26).double(), rtol=1e-4, atol=0)
    for axis in (0, 1):
        at = torch.tensor([centres[0][axis] + v[0][axis] * t for t in times]).double()
        columns = rows[:, [names.index(f"bodies.a.{k}.{axis}") for k in ("center", "velocity", "lower", "upper")]]
        expected = torch.stack([at, torch.full_like(at, v[0][axis]), at - 0.1, at + 0.1], 1)
        torch.testing.assert_close(columns, expected, rtol=0, atol=2e-5)
