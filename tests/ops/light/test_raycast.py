"""The ray caster against its float64 reference and against closed forms."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from simengine.ops.light.ray_scene import Environment, Lamp, RaySurface
from simengine.ops.light.raycast import raycast
from simengine.ops.light.raycast_reference import raycast_reference
from simengine.render.camera import PinholeCamera

trimesh = pytest.importorskip("trimesh")

PLAIN = Environment(
    sun_direction=(0.0, 0.0, 1.0),
    sun_irradiance=(math.pi, math.pi, math.pi),
    sky_zenith=(0.0, 0.0, 0.0),
    sky_horizon=(0.0, 0.0, 0.0),
    airlight=(0.0, 0.0, 0.0),
    ground=False,
)


def surface_of(mesh: Any, *, reflectance: float = 0.0, smooth: bool = False, **changes: object) -> RaySurface:
    faces = torch.tensor(mesh.faces.copy())
    values: dict = {
        "vertices": torch.tensor(mesh.vertices.copy()).float(),
        "faces": faces,
        "material": torch.zeros(len(faces), dtype=torch.long),
        "albedo": torch.ones(1, 3),
        "roughness": torch.tensor([0.4]),
        "reflectance": torch.tensor([reflectance]),
        "painted": torch.tensor([True]),
        "part": torch.tensor([True]),
        "corner_normals": torch.tensor(mesh.vertex_normals.copy()).float()[faces] if smooth else None,
    }
    return RaySurface(**(values | changes))


def camera(eye: tuple[float, float, float], target: tuple[float, float, float], n: int, up=(0.0, 0.0, 1.0)) -> tuple:
    view = PinholeCamera.look_at(eye, target, up=up, width=n, height=n)
    return view.world_to_camera, view.intrinsics, (n, n)


def box_scene() -> RaySurface:
    generator = torch.Generator().manual_seed(3)
    box = trimesh.creation.box((2.0, 1.0, 1.0))
    box.apply_translation((0.0, 0.0, 0.6))
    painted = surface_of(box, reflectance=0.04, corner_uv=torch.rand(len(box.faces), 3, 2, generator=generator))
    other = trimesh.creation.icosphere(subdivisions=1, radius=0.5)
    other.apply_translation((0.3, 1.2, 0.5))
    grey = surface_of(other, smooth=True, painted=torch.tensor([False]), albedo=torch.tensor([[0.7, 0.3, 0.2]]))
    return painted.joined(grey)


STREET = Environment(road=1.2, lane=0.4, clouds=0.6, skyline_height=0.2, ground_frequency=1.3)

LAMPS = (
    Lamp(position=(1.5, -1.0, 4.0), intensity=(9.0, 7.0, 5.0)),
    Lamp(position=(4.0, 2.0, 1.0), axis=(-2.0, -1.0, -0.4), intensity=(20.0, 20.0, 18.0), spread=12.0),
)
NIGHT = dataclasses.replace(
    STREET,
    sun_irradiance=(0.02, 0.02, 0.03),
    sky_zenith=(0.01, 0.01, 0.02),
    sky_horizon=(0.02, 0.02, 0.02),
    water=1.0,
    lamps=LAMPS,
)
PANORAMA = dataclasses.replace(
    STREET, panorama=torch.rand(6, 12, 3, generator=torch.Generator().manual_seed(4)), panorama_azimuth=0.7
)


@pytest.mark.parametrize(
    ("repetitions", "env"),
    [(0.0, Environment(haze=0.05)), (1.3, Environment(haze=0.05)), (0.0, STREET), (0.0, NIGHT), (0.0, PANORAMA)],
)
def test_parity_with_the_reference(repetitions: float, env: Environment) -> None:
    texture = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(1))
    arguments = (box_scene(), env, *camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 24))
    options: dict = {"samples": 2, "sky_rays": 3, "paint": texture, "repetitions_per_metre": repetitions, "seed": 5}
    ours, reference = raycast(*arguments, **options), raycast_reference(*arguments, **options)
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name).double(), getattr(reference, field.name).double()
        a, b = (value.reshape(24 * 24, -1) for value in (a, b))
        # float32 rays decide a hit or a shadow otherwise than float64 ones on a few pixels of an edge (measured: <= 4
        # of 576: measured 1); everywhere else the difference is rounding, amplified at most by the pattern's frequency.
        differ = (a - b).abs().amax(1) > 1e-3 * max(1.0, float(b.abs().max()))
        assert int(differ.sum()) <= 3, f"{field.name}: {int(differ.sum())} pixels differ"
        assert float((a - b)[~differ].norm() / b.norm()) < 2e-4, field.name


def test_lambert_sphere_under_the_sun() -> None:
    # L = rho E cos(theta) / pi, E = pi: the gain is n.l, for any paint.
    ball = surface_of(trimesh.creation.icosphere(subdivisions=5), smooth=True)
    view = raycast(ball, PLAIN, *camera((0.0, -4.0, 3.0), (0.0, 0.0, 0.0), 96), samples=1)
    inside = view.paint == 1
    expected = view.position[..., 2].clamp(min=0)  # unit sphere: the normal is the position
    lit = inside & (expected > 0.05)  # near the terminator the facets' own shadows differ from the ball's
    # 20480 facets: interpolated normals err by about (edge/2)^2/8 = 1e-4, positions by as much
    assert float((view.gain[..., 0] - expected)[lit].abs().max()) < 2e-3
    assert int(lit.sum()) > 1000
    assert torch.equal(view.offset, torch.zeros_like(view.offset))


def test_uniform_sky_on_a_plane() -> None:
    # Irradiance pi S of a uniform sky S on an unshaded horizontal plane: radiance rho S.
    env = dataclasses.replace(PLAIN, sun_irradiance=(0.0, 0.0, 0.0), sky_zenith=(0.5,) * 3, sky_horizon=(0.5,) * 3)
    plane = surface_of(trimesh.Trimesh([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]], [[0, 1, 2], [0, 2, 3]]))
    pose = camera((0.0, -1.0, 3.0), (0.0, 0.0, 0.0), 16)
    for sky in (env, dataclasses.replace(env, sky_zenith=(9.0,) * 3, panorama=torch.full((4, 8, 3), 0.5))):
        view = raycast(plane, sky, *pose, samples=1)
        assert torch.allclose(view.gain, torch.full_like(view.gain, 0.5), atol=1e-6)


def test_a_panorama_is_seen_where_it_shines_from() -> None:
    """One bright column of 36, at azimuth 0.5 + 90 degrees clockwise: seen there, and what faces it is lit most."""
    light = torch.zeros(18, 36, 3)
    light[8:10, 27] = 30.0  # a quarter of the way right of the middle, about the horizon
    env = dataclasses.replace(
        PLAIN, sun_irradiance=(0.0, 0.0, 0.0), panorama=light, panorama_azimuth=0.5 + math.radians(5.0)
    )
    azimuth = 0.5 - math.pi / 2
    ahead = (math.cos(azimuth), math.sin(azimuth), 0.0)
    far = surface_of(trimesh.creation.icosphere(subdivisions=3), smooth=True)
    away = (5 * ahead[0], 5 * ahead[1], 0.0)
    sky = raycast(far, env, *camera(away, (9 * ahead[0], 9 * ahead[1], 0.0), 33), samples=1).offset[..., 0]
    middle = [float((sky.sum(1 - axis) * torch.arange(33)).sum() / sky.sum()) for axis in (0, 1)]
    assert middle == pytest.approx([16.0, 16.0], abs=0.3) and float(sky.max()) > 20.0
    ball = raycast(far, env, *camera(away, (0.0, 0.0, 0.0), 32), samples=1, sky_rays=64)
    facing, gain = ball.normal @ torch.tensor(ahead), ball.gain.mean(-1)
    # E = L Omega cos of a small source, of 20 by 10 degrees: gain E/pi; the 64 rays leave 2 % of noise
    lit = facing > 0.5
    expected = 30.0 * math.radians(10.0) * 2 * math.sin(math.radians(10.0)) / math.pi
    assert float(gain[lit].sum() / facing[lit].sum()) == pytest.approx(expected, rel=0.04)
    with pytest.raises(ValueError, match=r"panorama: expected shape \(r, 2 r, 3\)"):
        dataclasses.replace(PLAIN, panorama=light[:, :30])


def test_shadow_has_the_outline_of_the_body() -> None:
    # A square plate of 2 m at height 1 m under a sun at 45 degrees shades the square shifted by 1 m.
    plate = surface_of(trimesh.Trimesh([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], [[0, 1, 2], [0, 2, 3]]))
    env = dataclasses.replace(
        PLAIN, sun_direction=(1.0, 0.0, 1.0), ground=True, ground_dark=(1.0,) * 3, ground_light=(1.0,) * 3
    )
    view = raycast(plate, env, *camera((0.0, 0.0, 30.0), (0.0, 0.0, 0.0), 200, up=(0, 1, 0)), samples=1, sky_rays=0)
    ground = view.object == 0
    x, y = view.position[..., 0], view.position[..., 1]
    expected = (x > -2) & (x < 0) & (y.abs() < 1)
    edge = ((x + 2).abs() < 2e-3) | (x.abs() < 2e-3) | ((y.abs() - 1).abs() < 2e-3)
    dark = view.offset[..., 0] < 0.01
    assert bool((dark == expected)[ground & ~edge].all())
    # in the sun: cos 45 degrees
    lit = view.offset[..., 0][ground & ~expected & ~edge]
    assert torch.allclose(lit, torch.full_like(lit, math.sqrt(0.5)), atol=1e-5)


def test_a_lamp_lights_by_the_inverse_square_and_its_spread() -> None:
    # E = I cos^k(a) cos(a) / r^2 on a level floor below a lamp at height h: cos(a) = h/r
    lamp = Lamp(position=(0.0, 0.0, 5.0), intensity=(50.0, 40.0, 30.0), spread=3.0)
    dark = dataclasses.replace(PLAIN, sun_irradiance=(0.0, 0.0, 0.0), ground=True, lamps=(lamp,))
    env = dataclasses.replace(dark, ground_dark=(0.5,) * 3, ground_light=(0.5,) * 3)
    far = surface_of(trimesh.creation.box((1, 1, 1)), vertices=torch.rand(8, 3) + torch.tensor([0.0, 900.0, 0.0]))
    view = raycast(far, env, *camera((0.0, -6.0, 8.0), (0.0, 0.0, 0.0), 48), samples=1, sky_rays=0)
    h = 5.0 - 1e-3  # light is gathered 1 mm above a surface
    r = (view.position - torch.tensor([0.0, 0.0, h])).norm(dim=-1)
    expected = 0.5 / math.pi * (h / r) ** 4 / r**2
    for k, intensity in enumerate(lamp.intensity):
        assert torch.allclose(view.offset[..., k], intensity * expected, rtol=1e-4)  # 2.0e-5 of float32's distances
    plate = trimesh.creation.box((3, 3, 0.1))
    plate.apply_translation((0.0, 0.0, 3.0))
    under = raycast(surface_of(plate), env, *camera((0.0, -6.0, 1.0), (0.0, 0.0, 0.0), 48), samples=1, sky_rays=0)
    x, y, z = under.position.unbind(-1)
    shade = (x.abs() < 3.7) & (y.abs() < 3.7) & (z == 0) & (under.depth > 0)  # 1.5 m at 3.05 m, seen from 5 m
    assert int(shade.sum()) > 100 and float(under.offset[shade].max()) == 0


def test_wet_ground_is_darker_and_mirrors_where_water_stands() -> None:
    # Lekner and Dorf (1988): an albedo of .12 falls to (1 - .066) .12 (1 - .472)/(1 - .472 .12) = .0627 under water
    sky = {"sky_zenith": (0.4,) * 3, "sky_horizon": (0.4,) * 3}
    dry = dataclasses.replace(PLAIN, ground=True, ground_dark=(0.12,) * 3, ground_light=(0.12,) * 3, **sky)
    away = surface_of(trimesh.creation.box((1, 1, 1)), vertices=torch.rand(8, 3) + torch.tensor([0.0, 900.0, 0.0]))
    pose = camera((0.0, -4.0, 3.0), (0.0, 0.0, 0.0), 32)

    def seen(water: float, **light: tuple[float, float, float]) -> torch.Tensor:
        return raycast(away, dataclasses.replace(dry, water=water, **light), *pose, samples=1).offset[..., 0]

    black = {"sky_zenith": (0.0,) * 3, "sky_horizon": (0.0,) * 3}
    pores = seen(0.3, **black) / seen(0.0, **black)  # too little for a puddle at most places
    assert float(pores.median()) == pytest.approx(0.0627 / 0.12, rel=5e-3)
    # under 10 mm all of it is level: the mirrored sky comes to the eye by Schlick's term
    view = raycast(away, dataclasses.replace(dry, water=10.0), *pose, samples=1)
    d = torch.nn.functional.normalize(view.position - torch.tensor([0.0, -4.0, 3.0]), dim=-1)
    schlick = 0.02 + 0.98 * (1 + d[..., 2]) ** 5
    diffuse = 0.0627 * (1 - 0.02) * (0.4 + 1.0)  # the sky's pi 0.4, and the sun's pi, on a floor
    glint = view.offset[..., 0] - diffuse - 0.4 * schlick
    assert float(glint.min()) > -1e-3 and float(glint.median()) < 0.05  # the sun stands overhead, away from the mirror
    with pytest.raises(ValueError, match="water: expected a depth"):
        Environment(water=-1.0)


def test_samples_tell_the_things_apart() -> None:
    scene, pose = box_scene(), camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 48)
    one = raycast(scene, Environment(), *pose, samples=2)
    assert set(one.instance.unique().tolist()) == {0, 1, 2}  # both meshes are parts, and count on
    share = (one.instance > 0).float().mean(-1)
    assert torch.equal(share, one.object)
    with pytest.raises(ValueError, match="instance: expected shape"):
        dataclasses.replace(scene, instance=torch.zeros(5))


def test_haze_follows_beer_and_lambert() -> None:
    # L = L0 exp(-beta d) + airlight (1 - exp(-beta d))
    env = dataclasses.replace(PLAIN, ground=True, ground_dark=(0.5,) * 3, ground_light=(0.5,) * 3)
    hazy = dataclasses.replace(env, haze=0.03, airlight=(0.8,) * 3)
    far = surface_of(trimesh.creation.box((1, 1, 1)), vertices=torch.rand(8, 3) + torch.tensor([0.0, 900.0, 0.0]))
    pose = camera((0.0, 0.0, 10.0), (0.0, 20.0, 0.0), 32)
    clear, seen = raycast(far, env, *pose, samples=1), raycast(far, hazy, *pose, samples=1)
    distance = (clear.position - torch.tensor([0.0, 0.0, 10.0])).norm(dim=-1, keepdim=True)
    through = torch.exp(-0.03 * distance)
    assert torch.allclose(seen.offset, clear.offset * through + 0.8 * (1 - through), atol=1e-5)


def test_affine_law_is_exact_where_paint_lights_nothing_else() -> None:
    # A convex painted body without ground: no light from paint to paint, so A c + B is the full render to rounding.
    env = Environment(ground=False, haze=0.02)
    body = surface_of(trimesh.creation.box((2.0, 1.0, 1.0)), reflectance=0.04)
    pose = camera((3.0, 2.0, 1.5), (0.0, 0.0, 0.0), 48)
    pair = raycast(body, env, *pose)
    for seed in range(3):
        colour = torch.rand(3, generator=torch.Generator().manual_seed(seed))
        full = raycast(body, env, *pose, paint=colour.expand(1, 1, 3))
        assert float((pair.gain * colour + pair.offset - full.radiance).abs().max()) < 2e-6


def test_light_between_paint_and_ground_is_all_the_pair_leaves_out() -> None:
    scene, pose = box_scene(), camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 48)
    pair = raycast(scene, Environment(), *pose)
    same = raycast(scene, Environment(), *pose, paint=torch.full((1, 1, 3), 0.5))
    assert float((pair.gain * 0.5 + pair.offset - same.radiance).abs().max()) < 2e-6
    full = raycast(scene, Environment(), *pose, paint=torch.tensor([0.9, 0.1, 0.2]).expand(1, 1, 3))
    error = pair.gain * torch.tensor([0.9, 0.1, 0.2]) + pair.offset - full.radiance
    on_paint = error[pair.paint > 0].square().mean().sqrt()
    assert 0 < float(on_paint) < 0.01  # an albedo off by 0.4 on the bounce; measured 2e-3


def test_the_same_bits_again_and_other_sky_rays_with_another_seed() -> None:
    arguments = (box_scene(), Environment(), *camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 16))
    first, again, other = (raycast(*arguments, seed=s).gain for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("size", [(0, 0), (1, 1)])
def test_smallest_pictures(size: tuple[int, int]) -> None:
    pose, intrinsics, _ = camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 16)
    view = raycast(box_scene(), Environment(), pose, intrinsics, size)
    assert view.gain.shape == (*size, 3) and view.paint.shape == size


def test_bad_input_is_named() -> None:
    scene = box_scene()
    pose, intrinsics, size = camera((3.0, 2.5, 1.8), (0.0, 0.3, 0.5), 16)
    with pytest.raises(ValueError, match=r"texture: expected linear albedo in \[0, 1\]"):
        raycast(scene, Environment(), pose, intrinsics, size, paint=torch.full((2, 2, 3), 255.0))
    with pytest.raises(ValueError, match=r"texture: expected shape \(rows, columns, 3\)"):
        raycast(scene, Environment(), pose, intrinsics, size, paint=torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match="not a rotation"):
        raycast(scene, Environment(), 2 * pose, intrinsics, size)
    with pytest.raises(ValueError, match=r"faces: expected indices in \[0, 8\)"):
        surface_of(trimesh.creation.box((1, 1, 1)), faces=torch.full((12, 3), 8))
    with pytest.raises(ValueError, match="sun_direction"):
        Environment(sun_direction=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="clouds in"):
        Environment(clouds=2.0)


def ground_seen(env: Environment, x: float, y: float, *, height: float = 2.0, n: int = 8) -> torch.Tensor:
    """Albedo of the ground below a camera that looks straight down, under a sun that makes radiance equal it."""
    far = surface_of(trimesh.creation.box((0.1, 0.1, 0.1)), vertices=torch.full((8, 3), 50.0) + torch.rand(8, 3))
    lit = {name: getattr(PLAIN, name) for name in ("sun_direction", "sun_irradiance", "sky_zenith", "sky_horizon")}
    view = raycast(
        far,
        dataclasses.replace(env, **lit),
        *camera((x, y, height), (x, y, 0.0), n, up=(0.0, 1.0, 0.0)),
        samples=1,
        sky_rays=0,
    )
    return view.radiance.mean((0, 1))


def test_the_road_has_its_markings_kerbs_and_pavements() -> None:
    env = Environment(road=3.5, lane=0.0, asphalt=0.1, ground_light=(0.1, 0.3, 0.1), ground_dark=(0.1, 0.3, 0.1))
    lane, dash, gap = (ground_seen(env, *place, height=0.05) for place in ((3.0, 1.7), (3.0, 0.0), (0.0, 0.0)))
    edge, kerb, slab, verge = (ground_seen(env, 3.3, y, height=0.05) for y in (3.2, 3.58, 4.6, 7.0))
    assert float(lane.max()) < 0.17 and float(gap.max()) < 0.17  # asphalt, and between two dashes
    assert float(dash.min()) > 0.35 and float(edge.min()) > 0.35
    assert abs(float(kerb[0]) - 0.42) < 0.01 and abs(float(slab[0]) - 0.30) < 0.1
    assert torch.allclose(verge, torch.tensor([0.1, 0.3, 0.1]), atol=1e-4)
    # from far above a pixel sees the mean: two edge lines of 0.12 m, dashes of half the length, on 7 m of asphalt
    share = (2 * 0.12 + 0.5 * 0.12) / 7.0
    view = ground_seen(dataclasses.replace(env, road=3.5), 0.0, 0.0, height=7.0 / (2 * math.tan(math.radians(22.5))))
    assert abs(float(view[0]) - (0.1 + share * 0.8 * 0.45)) < 0.02


def test_clouds_cover_their_share_and_the_skyline_hides_the_horizon() -> None:
    far = surface_of(trimesh.creation.box((0.1, 0.1, 0.1)), vertices=torch.full((8, 3), 50.0) + torch.rand(8, 3))
    up = camera((0.0, 0.0, 1.0), (0.0, 0.0, 2.0), 48, up=(0.0, 1.0, 0.0))
    blue = {"sky_zenith": (0.0, 0.0, 1.0), "sky_horizon": (1.0, 1.0, 1.0)}
    covered = []
    for clouds in (0.0, 0.35, 0.6, 1.0):
        red = raycast(far, Environment(clouds=clouds, **blue), *up, samples=1, sky_rays=0).radiance[..., 0]
        covered.append(float((red > 0.5).float().mean()))
    assert covered == sorted(covered) and covered[0] < 0.01 and covered[-1] > 0.95
    level = camera((0.0, 0.0, 1.0), (9.0, 0.0, 1.0), 48)
    view = raycast(far, Environment(skyline=(3.0, 0.0, 0.0), skyline_height=0.2), *level, samples=1, sky_rays=0)
    above = view.radiance[:24, :, 0] > 2.5  # the upper half, which sees no ground
    low = above.flip(0).cummin(0).values.sum(0)  # rows in an unbroken column from the horizon upwards
    rise = torch.tan(torch.asin(torch.tensor(0.2))) * up[1][0]
    assert bool((low == above.sum(0)).all()) and 0.3 * rise < float(low.min()) and float(low.max()) <= rise + 1
