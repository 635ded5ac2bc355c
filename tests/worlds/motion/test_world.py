"""What a scene of moving bodies is built of: spins, walls, and what can be sought, against closed forms."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.mpm import MPMSolver
from simengine.scene.base import SceneError
from simengine.scene.loader import make_scene
from simengine.solve import rollout
from simengine.worlds.motion.world import MPMScene

JELLY = {"type": "jelly", "E": 1e4, "nu": 0.3}


def scene(*bodies: dict[str, object], **more: object) -> MPMScene:
    data = {"grid": {"num_grids": 20, "time_step": 5e-4}, "bodies": list(bodies), **more}
    made = make_scene({"kind": "mpm", **data}, directory=Path(), locate=lambda key: "scene")
    assert isinstance(made, MPMScene)
    return made


def box(center: list[float], **more: object) -> dict[str, object]:
    return {"shape": {"type": "box", "center": center, "size": [0.2] * 3}, "material": JELLY, **more}


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
