"""Pictures of a flame: beside its energy balance and differences of solves, and numbers found behind a picture."""

import math
from pathlib import Path

import pytest
import torch

import simengine as se
from simengine.fit.twin import write_twin
from simengine.scene import SceneError, load_scene, load_world
from simengine.scene.address import numbers, replaced
from simengine.scene.asks import View
from simengine.worlds.flames.light import FlameBody, FlameLight
from simengine.worlds.flames.specs import FreeSimple
from simengine.worlds.flames.world import FlameWorld

SHEET = FlameBody(span=(0.0, 1.4e-3), cells=120)


def flame(light: FlameLight | None = None, body: FlameBody | None = SHEET) -> FlameWorld:
    return FlameWorld(flame=FreeSimple(body=body, light=light), resolution=1e-7)


def view(distance: float, pixels: float, size: tuple[int, int] = (4, 60), **how: object) -> View:
    """From a distance along z at the middle of the sheet, `pixels` of a metre in the sheet's plane."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[:3, 3] = torch.tensor([-0.7e-3, 0.0, distance])
    focal = pixels * distance
    intrinsics = torch.tensor([[focal, focal, size[1] / 2, size[0] / 2]], dtype=torch.float64)
    return View(intrinsics=intrinsics, world_to_camera=pose[None], size=size, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("renderer", ["own", "raycast"])
def test_the_light_of_a_flame_is_its_share_of_the_heat(renderer: str) -> None:
    """Conservation: of rho u q Y_F [W/m^2] the share `efficiency` leaves into 4 pi, whatever the profile is."""
    world = flame(FlameLight(kappa=0.0, efficiency=1e-3))
    ask = view(10.0, 40e3, renderer=renderer)  # 10 m away rays are parallel to 1e-4; 60 pixels span 1.5 mm
    run = world.solve([ask])
    seen = run.sample(ask)[0, 1]
    spec = world.flame
    assert isinstance(spec, FreeSimple)
    solution = run.flames[()]  # type: ignore[attr-defined]
    speed = float(solution.flame.figures(solution.eigenvalue)["flame_speed"])
    density = spec.p * spec.W / (8.314462618 * spec.T_in)
    power = density * speed * spec.qF * spec.phi / (spec.phi + 4)
    shares = torch.tensor([0.08, 0.27, 0.65], dtype=torch.float64)
    expected = shares * 1e-3 / (4 * math.pi) * power * SHEET.extent[1]
    # what burns outside the span, and pixels of 1/40 mm beside a flame of .3 mm, leave 3e-3
    torch.testing.assert_close(seen.sum(0) / 40e3, expected, rtol=1e-2, atol=0)


def test_derivatives_of_pictures_are_those_of_differences() -> None:
    world, ask = flame(FlameLight(kappa=1e-5, efficiency=1e-6)), view(0.01, 30e3, (2, 24))
    keys = ["flame.phi", "flame.lam", "flame.body.position", "flame.light.kappa", "flame.light.efficiency"]
    run = world.solve([ask])
    exact = run.derivatives(ask, keys)
    assert exact is not None
    for k, key in enumerate(keys):
        value = numbers(world)[key].value
        step = 1e-4 * value or 1e-8
        ends = [replaced(world, {key: value + s * step}).solve([ask], near=run).sample(ask) for s in (1, -1)]
        rough = (ends[0] - ends[1]) / (2 * step)
        assert float((exact[..., k] - rough).norm()) < 1e-3 * float(rough.norm()), key  # meshes differ between solves
    assert run.derivatives(ask, ["flame.body.span.0"]) is None  # cells that move are differentiated by differences


def test_a_camera_that_looks_away_sees_nothing() -> None:
    world, ask = flame(), view(0.01, 30e3, (2, 8), channels=("rgb", "alpha"))
    away = View(
        **{**vars(ask), "world_to_camera": torch.diag(torch.tensor([1.0, 1, -1, 1])) @ ask.world_to_camera.float()}
    )
    run = world.solve([ask])
    assert float(run.sample(ask)[..., :3].max()) > 0 and float(run.sample(ask)[..., 3].max()) == 0
    assert float(run.sample(away).abs().max()) == 0


def test_what_a_flame_does_not_show() -> None:
    with pytest.raises(SceneError, match=r"flame\.body: pictures need to know how the flame stands"):
        flame(body=None).prepare([view(0.01, 30e3)])
    with pytest.raises(SceneError, match="no channel 'depth', it glows"):
        flame().prepare([view(0.01, 30e3, channels=("depth",))])
    with pytest.raises(SceneError, match=r"flame.*light: only pictures show it"):
        load_world("flame_from_image", ["flame.body={}", "flame={type='free', light={kappa=0.2}}"])
    with pytest.raises(SceneError, match="expected a first x below the last"):
        load_world("flame_from_image", ["flame.body.span=[1e-3, 0.0]"])


SCENE = """
kind = "flame"
resolution = 1e-5
[flame]
type = "free_simple"
phi = 0.45
body = { span = [0.0, 1.4e-3], cells = 60, position = 5e-5 }
[cameras.side]
eye = [0.7e-3, 1e-3, 10e-3]
target = [0.7e-3, 0.0, 0.0]
field_of_view = 5.0
width = 48
height = 16
[observations.picture]
type = "pictures"
file = "picture.npy"
camera = "side"
exposure = 10.0
response = "linear"
background = [0.0, 0.0, 0.0]
sigma = 0.02
[unknowns]
"flame.phi" = {}
"flame.body.position" = { prior.normal = 2e-4 }
"""


def test_a_flame_from_its_picture(tmp_path: Path) -> None:
    """Recovery: the picture is of a finer flame, and its pixels are means over their area."""
    file = tmp_path / "flame.toml"
    file.write_text(SCENE)
    hidden = load_scene(file, ["flame.phi=0.42", "flame.body.position=0.0"])
    write_twin(load_scene(file), hidden, tmp_path, refine=2, seed=1, renderer="raycast")
    found = se.identify(load_scene(file), progress=False).estimates
    for key, true in (("flame.phi", 0.42), ("flame.body.position", 0.0)):
        assert abs(found[key].value - true) < 3 * found[key].std, key
    assert found["flame.phi"].std < 2e-3


@pytest.mark.slow
def test_methane_flame_from_a_picture(tmp_path: Path) -> None:
    scene = load_scene("flame_from_image")
    found = se.identify(scene, out=tmp_path / "run", progress=False).estimates
    for key, true in scene.reference.items():  # measured within 0.8 of their standard deviations
        assert abs(found[key].value - true) < 3 * found[key].std, key
    assert found["flame.phi"].std < 2e-3
