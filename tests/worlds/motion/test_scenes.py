"""Every shipped scene of moving bodies runs, a short way, and obeys mechanics on it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from simengine.io.run_directory import RunDirectory
from simengine.scene import SceneError, load_world, named_scenes, resolved
from simengine.worlds.motion.world import MPMWorld

SCENES = [name for name, path in named_scenes().items() if 'kind = "mpm"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", SCENES)
def test_verification_short_run(name: str, tmp_path: Path) -> None:
    short = ["grid.num_steps=20", "output.save_every=10", "output.video=false"]
    scene = load_world(name, short)
    assert isinstance(scene, MPMWorld)
    out = RunDirectory.create(tmp_path / name, resolved(scene), overwrite=False, resume=False)
    summary = scene.run(out, device="cpu")
    _, volumes, ids = scene.particles()
    densities = np.array([body.material.density for body in scene.bodies])
    carried = sum(load.mass for load in scene.loads)
    assert summary["mass"] == pytest.approx(float((densities[ids] * volumes).sum()) + carried, rel=1e-12)
    assert 0.5 < summary["smallest_J"] < 1.5
    with np.load(out.path / "states.npz") as states:
        x, time = states["x"].astype(float), states["time"]
    # no wall is reached in these first steps: each body's centre moves on the parabola v t + g t (t + dt)/2, which is
    # what symplectic Euler gives exactly; float32 positions of order 1 leave 1e-6
    for index, body in enumerate(scene.bodies):
        if len(scene.bodies) > 1 or body.name in ("sand", "water") or scene.clamps:
            continue  # resting on the floor from the start, or held
        t = time[-1]
        fall = 0.5 * np.array(scene.gravity) * t * (t + scene.grid.time_step)
        moved = x[-1][ids == index].mean(0) - x[0][ids == index].mean(0)
        assert moved == pytest.approx(np.array(body.velocity) * t + fall, abs=1e-6)


def test_six_scenes_ship() -> None:
    wanted = {"jelly_drop", "sand_column", "plasticine_drop", "water_splash", "snow_ball", "mixture"}
    assert wanted <= set(SCENES)


@pytest.mark.parametrize(
    "material",
    [
        '{type="jelly", E=1e5, nu=0.3}',
        '{type="rubber", E=1e5, nu=0.3}',
        '{type="plasticine", E=1e5, nu=0.3, yield_stress=1e3, hardening=1e3}',
        '{type="sand", E=1e5, nu=0.3, friction_angle=30.0, cohesion=0.01}',
        '{type="water", E=1e5, nu=0.3}',
        '{type="tait_water", K=5e4}',
        '{type="snow", E=1e5, nu=0.3}',
        '{type="paste", E=1e5, nu=0.3, yield_stress=100.0, consistency=20.0, exponent=0.7}',
    ],
)
def test_every_material_can_be_named(material: str, tmp_path: Path) -> None:
    short = ["grid.num_steps=20", "output.save_every=20", "output.video=false", f"bodies.0.material={material}"]
    scene = load_world("jelly_drop", short)
    out = RunDirectory.create(tmp_path / "run", resolved(scene), overwrite=False, resume=False)
    assert 0.8 < scene.run(out, device="cpu")["smallest_J"] < 1.2


def test_a_mesh_collides_and_its_pose_can_be_sought(tmp_path: Path) -> None:
    import torch

    from simengine.mpm import MPMSolver
    from simengine.solve import rollout

    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.box(extents=(2.0, 1.0, 2.0)).export(tmp_path / "anvil.stl")
    anvil = 'colliders=[{type="mesh", file="anvil.stl", center=[0.5, 0.12, 0.5], size=0.5, kind="sticky"}]'
    text = named_scenes()["jelly_drop"].read_text(encoding="utf-8")
    (tmp_path / "scene.toml").write_text(text, encoding="utf-8")
    scene = load_world(tmp_path / "scene.toml", [anvil, "grid.num_steps=300"])
    assert isinstance(scene, MPMWorld)
    assert scene.variables()["colliders.0.center.1"] == 0.12

    def height(y: float) -> torch.Tensor:
        value = torch.tensor(y, dtype=torch.float64, requires_grad=True)
        model, state = scene.build(device="cpu", double=True, values={"colliders.0.center.1": value})
        lowest = rollout(MPMSolver(model), state, 300, save_every=300)[-1].x[:, 1].mean()
        (slope,) = torch.autograd.grad(lowest, value)
        return torch.stack((lowest.detach(), slope))

    low, high = height(0.12), height(0.12 + 1e-5)
    assert float(low[1]) > 0.05  # a higher anvil holds the body higher
    assert float((high[0] - low[0]) / 1e-5) == pytest.approx(float(low[1]), rel=1e-2)  # one-sided: O(h) of a contact


def test_a_body_spins_about_its_own_centre() -> None:
    """Two spinning bodies: each has the mean velocity it was given, and the spin is w x r about its own centre."""
    scene = load_world("mixture")
    assert isinstance(scene, MPMWorld)
    spins = [(1.0, -2.0, 3.0), (0.0, 4.0, 0.0)]
    bodies = tuple(
        dataclasses.replace(body, velocity=(0.5, 0.0, -0.25), angular_velocity=spin)
        for body, spin in zip(scene.bodies, spins, strict=False)
    )
    scene = dataclasses.replace(scene, bodies=bodies)
    _, state = scene.build(device="cpu", double=True)
    ids = scene.particles()[2]
    x, v = state.x.numpy(), state.v.numpy()
    for index, spin in enumerate(spins):
        own = ids == index
        assert v[own].mean(0) == pytest.approx([0.5, 0.0, -0.25], abs=1e-9)
        arm = x[own] - x[own].mean(0)
        assert np.abs(v[own] - [0.5, 0.0, -0.25] - np.cross(spin, arm)).max() < 1e-9


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_body_within_a_wall_is_refused(axis: int, side: int) -> None:
    """The walls take the outer two cells of twenty: a cube of 0.5 m reaches from 0.1 to 0.9 m at most."""
    for shift, fits in ((0.149, True), (0.151, False)):
        center = [0.5, 0.5, 0.5]
        center[axis] += side * shift
        scene = load_world("jelly_drop", [f"bodies.0.shape.center={center}"])
        assert isinstance(scene, MPMWorld)
        if fits:
            scene.particles()
        else:
            with pytest.raises(SceneError, match="outside the walls"):
                scene.particles()


def test_a_scene_brakes_no_small_body() -> None:
    small = ["grid.length=0.01", "grid.time_step=5e-6", "bodies.0.shape.center=[5e-3, 5e-3, 5e-3]"]
    small += ["bodies.0.shape.size=[5e-3, 5e-3, 5e-3]"]
    load_world("jelly_drop", small).build(device="cpu")
    with pytest.raises(SceneError, match="epsilon must lie between"):
        load_world("jelly_drop", [*small, "grid.epsilon=1e-7"]).build(device="cpu")
