"""Domains in one's own coordinates, clamps, hung masses and forces: closed forms and balances of momentum."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.scene.address import replaced
from simengine.scene.asks import Cloud, Series, Tracks
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.solve.rotation import nearest_rigid_motion
from simengine.worlds.motion.supports import Region
from simengine.worlds.motion.world import MPMWorld

BAR = """
gravity = [-9.8, 0.0, 0.0]
walls = { kind = "open" }
clamps = [{ name = "top", region = { lower = [5.0, 0.0, 0.0], upper = [5.0, 0.2, 0.2] } }]
loads = [{ name = "weight", region = { lower = [4.2, 0.0, 0.0], upper = [4.2, 0.2, 0.2] }, mass = 0.0 }]
[grid]
lower = [4.0, -0.1, -0.1]
upper = [5.2, 0.3, 0.3]
spacing = 0.1
time_step = 2e-3
num_steps = 2000
[[bodies]]
name = "bar"
shape = { type = "box", center = [4.6, 0.1, 0.1], size = [0.8, 0.2, 0.2] }
material = { type = "rubber", density = 1000.0, E = 2e5, nu = 0.0, viscosity = 1.5e3 }
"""


def world(tmp_path: Path, text: str) -> MPMWorld:
    path = tmp_path / "scene.toml"
    path.write_text(text)
    found = load_world(path)
    assert isinstance(found, MPMWorld)
    return found


def series(scene: MPMWorld, names: tuple[str, ...], times: torch.Tensor, **options: bool) -> torch.Tensor:
    ask = Series(names=names, against="time", values=times)
    return scene.prepare([ask]).solve([ask], **options).sample(ask)


def test_a_face_is_its_nearest_layer_and_a_thick_region_what_lies_in_it() -> None:
    """A lattice of spacing 1 that fills 0..3: layers at 0.5, 1.5, 2.5."""
    axis = [0.5, 1.5, 2.5]
    x = np.array([[a, b, c] for a in axis for b in axis for c in axis])

    def held(lower: tuple[float, ...], upper: tuple[float, ...]) -> list[list[float]]:
        return x[Region(lower=lower, upper=upper).holds(x, 1.0)].tolist()  # type: ignore[arg-type]

    assert held((0, 0, 0), (3, 3, 0)) == [p.tolist() for p in x if p[2] == 0.5]
    assert held((3, 0, 0), (3, 3, 3)) == [p.tolist() for p in x if p[0] == 2.5]
    assert held((0, 0, 0), (3, 3, 2)) == [p.tolist() for p in x if p[2] < 2]
    assert held((0, 3, 3), (3, 3, 3)) == [[a, 2.5, 2.5] for a in axis]


def test_a_hanging_bar_is_as_long_as_in_closed_form(tmp_path: Path) -> None:
    """Under its own weight rho g L^2 / (2 E), under a hung mass m g L / (E A) more, and the clamp bears it all."""
    names = ("bodies.bar.lower.0", "clamps.top.force.0", "clamps.top.force.1")
    times, bar = torch.tensor([0.0, 4.0], dtype=torch.float64), world(tmp_path, BAR)
    own = series(bar, names, times)
    weight = 1000 * 0.8 * 0.04 * 9.8
    assert float(own[1, 1]) == pytest.approx(-weight, rel=2e-3)  # down along -x; what is left swings
    assert abs(float(own[1, 2])) < 1e-6 * weight
    # the lowest particles stand half a spacing, 0.025 m, above the end: their sag is (L^2 - 0.025^2) / L^2 of the whole
    sag = 1000 * 9.8 * (0.8**2 - 0.025**2) / (2 * 2e5)
    assert float(own[0, 0] - own[1, 0]) == pytest.approx(sag, rel=0.02)  # at 8 cells of 0.1 m, and 2 % of strain
    loaded = series(replaced(bar, {"loads.0.mass": 20.0}), names, times)
    assert float(loaded[1, 1]) == pytest.approx(-weight - 20 * 9.8, rel=2e-3)
    # the mass hangs in the lowest particles, at 0.775 m; of the rubber's nonlinearity (2 % of strain) half is left
    more = 20 * 9.8 * 0.775 / (2e5 * 0.04)
    assert float(own[1, 0] - loaded[1, 0]) == pytest.approx(more, rel=0.04)


def test_forces_balance_the_momentum(tmp_path: Path) -> None:
    """Force on the clamp and on a collider below it = weight less the change of momentum, over every step, to 1e-9."""
    text = (
        BAR
        + """
[[colliders]]
name = "floor"
type = "plane"
point = [4.21, 0.0, 0.0]
normal = [1.0, 0.2, 0.0]
kind = "friction"
friction = 0.3
"""
    )
    scene, dt = world(tmp_path, text), 2e-3
    steps = torch.arange(20, 120, dtype=torch.float64)
    names = [f"{support}.force.{k}" for support in ("clamps.top", "colliders.floor") for k in range(2)]
    names += ["bodies.bar.velocity.0", "bodies.bar.velocity.1"]
    rows = series(scene, tuple(names), steps * dt)
    mass = 1000 * 0.8 * 0.04
    change = mass * (rows[1:, 4:] - rows[:-1, 4:]) / dt
    given = -(rows[1:, :2] + rows[1:, 2:4]) + torch.tensor([-9.8 * mass, 0.0], dtype=torch.float64)
    assert float((given - change).abs().max()) < 1e-9 * 9.8 * mass
    assert float(rows[:, 2].abs().max()) > 10 and float(rows[:, 0].abs().max()) > 10  # both of them bear


def test_gradient_of_supports_against_differences(tmp_path: Path) -> None:
    """Place and force after 60 steps by hung mass, the clamp's velocity, viscosity, time and share of a branch."""
    text = BAR.replace("viscosity = 1.5e3", "viscosity = 2e2, relaxation = { times = [0.05], shares = [0.3] }")
    scene = replaced(world(tmp_path, text), {"loads.0.mass": 3.0, "clamps.0.velocity.0": 0.1})
    names, times = ("bodies.bar.center.0", "clamps.top.force.0"), torch.tensor([0.0501, 0.12], dtype=torch.float64)
    keys = [
        "loads.0.mass", "clamps.0.velocity.0", "bodies.0.material.viscosity", "bodies.0.material.relaxation.times.0",
        "bodies.0.material.relaxation.shares.0", "bodies.0.material.E",
    ]  # fmt: skip
    assert set(keys) <= scene.traced()
    at = {"loads.0.mass": 3.0, "clamps.0.velocity.0": 0.1, "bodies.0.material.viscosity": 2e2}
    at |= {keys[3]: 0.05, keys[4]: 0.3, keys[5]: 2e5}
    tensors = {key: torch.tensor(at[key], dtype=torch.float64, requires_grad=True) for key in keys}
    held = series(replaced(scene, tensors), names, times, gradient=True)
    probe = torch.tensor([[1.0, 1e-3], [-2.0, 2e-3]], dtype=torch.float64)
    gradient = torch.autograd.grad((held * probe).sum(), list(tensors.values()))
    for key, own in zip(keys, gradient, strict=True):
        h = 1e-5 * at[key]
        ends = [float((series(replaced(scene, {key: at[key] + s * h}), names, times) * probe).sum()) for s in (1, -1)]
        assert float(own) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4), key


def test_a_clamp_moves_and_carries_marks(tmp_path: Path) -> None:
    """Marks on it go with it; the body follows."""
    scene = replaced(world(tmp_path, BAR), {"clamps.0.velocity.1": 0.2})
    times = torch.tensor([-0.1, 0.0, 0.4], dtype=torch.float64)
    on_clamp = Tracks(points=torch.tensor([[5.0, 0.3, 0.0]], dtype=torch.float64), times=times, body="top")
    on_bar = Tracks(points=torch.tensor([[4.9, 0.1, 0.1]], dtype=torch.float64), times=times, body="bar")
    run = scene.solve([on_clamp, on_bar])
    assert run.sample(on_clamp)[:, 0, 1].tolist() == pytest.approx([0.3, 0.3, 0.38])
    assert float(run.sample(on_bar)[2, 0, 1]) == pytest.approx(0.18, abs=0.01)


def test_the_same_world_in_other_coordinates(tmp_path: Path) -> None:
    """A drop on the walls in [0, L]^3 and in a box of one's own far from there, not a cube: the same motion."""
    body = """
[[bodies]]
shape = { type = "sphere", center = [%g, %g, %g], radius = 0.1 }
material = { type = "jelly", E = 1e4, nu = 0.2 }
velocity = [0.5, 0.0, 0.0]
[[colliders]]
type = "sphere"
center = [%g, %g, %g]
radius = 0.06
"""
    old = "[grid]\nnum_grids = 20\ntime_step = 1e-3\nnum_steps = 200\n" + body % (0.5, 0.25, 0.5, 0.6, 0.1, 0.45)
    new = "[grid]\nlower = [3.1, -7.9, 0.3]\nupper = [3.9, -7.1, 0.7]\nspacing = 0.05\n"
    new += "time_step = 1e-3\nnum_steps = 200\n"
    new += body % (3.5, -7.75, 0.5, 3.6, -7.9, 0.45)
    names = tuple(f"bodies.body.center.{k}" for k in range(3))
    times = torch.linspace(0, 0.2, 9, dtype=torch.float64)
    found = [series(world(tmp_path, text), names, times) for text in (old, new)]
    shift = torch.tensor([3.0, -8.0, 0.0], dtype=torch.float64)
    assert float((found[0] + shift - found[1]).abs().max()) < 1e-9
    assert float((found[0][-1] - found[0][0]).abs().max()) > 0.05


def test_a_mark_far_off_the_surface_turns_with_the_body(tmp_path: Path) -> None:
    """Four spacings off a body that spins freely: it stays where a rigid arm holds it."""
    text = """
gravity = [0.0, 0.0, 0.0]
[grid]
time_step = 1e-3
num_steps = 200
[[bodies]]
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.2, 0.2, 0.2] }
material = { type = "rubber", E = 1e6, nu = 0.2 }
angular_velocity = [0.0, 0.0, 1.0]
"""
    arm = 0.1 + 4 * 0.025
    points = torch.tensor([[0.5 + arm, 0.5, 0.5]], dtype=torch.float64)
    times = torch.tensor([0.0, 0.19], dtype=torch.float64)
    mark, body = Tracks(points=points, times=times), Cloud(times=times)
    run = world(tmp_path, text).solve([mark, body])
    start, end = run.sample(mark)[:, 0]
    assert start.tolist() == pytest.approx(points[0].tolist(), abs=1e-9)
    turn, shift = nearest_rigid_motion(*run.sample(body))  # how all particles have moved
    assert math.hypot(float(turn[0, 0]) - 1, float(turn[1, 0])) > 0.1
    assert float((end - (turn @ points[0] + shift)).norm()) < 2e-3 * arm


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("upper = [5.2, 0.3, 0.3]\n", "upper = [5.25, 0.3, 0.3]\n", "along x the box holds 12.5 cells"),
        ("spacing = 0.1\n", "", "belong together"),
        ("lower = [5.0, 0.0, 0.0], upper = [5.0,", "lower = [4.7, 0.0, 0.0], upper = [4.7,", "no face of the body"),
        ("lower = [4.2, 0.0, 0.0], upper = [4.2,", "lower = [3.2, 0.0, 0.0], upper = [3.2,", "no particle of 'bar'"),
        ('name = "weight", region', 'name = "weight", on = "beam", region', "'beam' is no body; did you mean 'bar'"),
        ('name = "top"', 'name = "bar"', "the name 'bar' is taken"),
        ("viscosity = 1.5e3", "relaxation = { times = [0.1], shares = [] }", "one for each of the 1 times"),
        ("viscosity = 1.5e3", "viscosity = -1.0", "at least 0"),
        ("viscosity = 1.5e3", "damping = { mass = -1.0 }", "damping.mass: expected a number at least 0"),
        ("mass = 0.0", "mass = -1.0", "at least 0"),
        ('kind = "open"', 'kind = "periodic", open = ["+y"]', "cannot be open where the walls are periodic"),
    ],
)
def test_bad_keys_are_told_in_a_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in BAR
    with pytest.raises(SceneError, match=message) as error:
        world(tmp_path, BAR.replace(before, after)).build(device="cpu")
    assert "\n" not in str(error.value)


def test_viscosity_counts_in_the_time_step(tmp_path: Path) -> None:
    """A viscosity at which the step is unstable is told by `check` before the run: beyond 3/8 rho h^2 / dt."""
    from simengine.mpm.stability import cfl_numbers

    scene = world(tmp_path, BAR)
    most = 3 / 8 * 1000 * 0.1**2 / 2e-3
    for factor, fits in ((0.8, True), (1.2, False)):
        material = dataclasses.replace(scene.bodies[0].material, E=1.0, viscosity=factor * most)
        other = dataclasses.replace(scene, bodies=(dataclasses.replace(scene.bodies[0], material=material),))
        assert (cfl_numbers(*other.build(device="cpu"))[0] < 1) == fits


def test_a_mass_that_is_hung_on_later(tmp_path: Path) -> None:
    """Nothing of it before, momentum kept as it comes, and the balance of forces with its weight after."""
    text = BAR.replace("mass = 0.0 }", "mass = 3.0, begins = 0.0411 }")  # within a step
    bar = world(tmp_path, text)
    names = ("bodies.bar.center.0", "bodies.bar.velocity.0", "clamps.top.force.0")
    times = torch.arange(0, 61, dtype=torch.float64) * 2e-3
    loaded, free = series(bar, names, times), series(replaced(bar, {"loads.0.mass": 0.0}), names, times)
    assert torch.equal(loaded[:21], free[:21])  # up to 0.04 s
    assert float(loaded[-1, 0]) < float(free[-1, 0]) - 1e-3
    # over each step after it came: momentum gained = weight + force of the clamp, which is the negative of what is told
    momentum = (1000 * 0.8 * 0.04 + 3.0) * loaded[:, 1]
    gained = momentum[23:].diff() / 2e-3
    assert torch.allclose(gained, -(1000 * 0.8 * 0.04 + 3.0) * 9.8 - loaded[24:, 2], rtol=0, atol=1e-6)

    def last(begins: float) -> float:
        return float(series(replaced(bar, {"loads.0.begins": begins}), names, times)[-1, 0])

    ends = [last(0.0411 + k * 1e-4) for k in (-2, 0, 2)]
    assert ends[0] < ends[1] < ends[2]  # a later one has pulled less
    early, late = ends[1] - ends[0], ends[2] - ends[1]
    assert early == pytest.approx(late, rel=0.05)  # smooth within a step, where a mass comes by its share


def test_a_mass_that_joins_a_free_body_brakes_it(tmp_path: Path) -> None:
    """Without weight and clamp: v M / (M + m)."""
    text = BAR.replace("gravity = [-9.8, 0.0, 0.0]", "gravity = [0.0, 0.0, 0.0]")
    text = text.replace("mass = 0.0 }", "mass = 8.0, begins = 0.0105 }").replace('clamps = [{ name = "top"', "# ")
    text = text.replace("material = {", "velocity = [0.5, 0.0, 0.0]\nmaterial = {")
    seen = series(world(tmp_path, text), ("bodies.bar.velocity.0",), torch.tensor([0.01, 0.03], dtype=torch.float64))
    assert float(seen[0, 0]) == pytest.approx(0.5, rel=1e-9)
    assert float(seen[1, 0]) == pytest.approx(0.5 * 32 / (32 + 8), rel=1e-3)
