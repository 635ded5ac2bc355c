"""Verification of surfels against closed forms, and of their gradients against finite differences."""

import math

import numpy as np
import pytest
import torch

from simengine.render import Look, PinholeCamera, SurfelRenderer, Surfels, orbit, psnr, render_surfels
from simengine.render.bodies import block_chain, sphere


def sphere_points(n: int) -> torch.Tensor:
    """Points spread evenly over the unit sphere along a spiral, float64."""
    k = torch.arange(n, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * k / n, math.pi * (1 + math.sqrt(5)) * k
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * turn.cos(), ring * turn.sin(), z], dim=-1)


def test_diffuse_sphere(closed_form) -> None:
    # L = albedo/pi I/d^2 (n.l), evaluated with 8 x 8 samples a pixel, inside a mask eroded by a pixel. Means over
    # the discs of the surface are off in second order of their size: 71 dB (compositing: 45 dB); tangent discs stand
    # off the sphere by about their variance over its diameter, 1.3e-4
    def hit(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        along = -4.0 * d[..., 2]
        inside = along**2 - 15.0
        return (inside > 0)[..., None], np.array([0.0, 0.0, 4.0]) + (along - inside.clip(0) ** 0.5)[..., None] * d

    def light(d: np.ndarray) -> np.ndarray:
        met, normal = hit(d)
        lamp = np.array([2.0, 3.0, 4.0]) - normal
        distance = np.linalg.norm(lamp, axis=-1, keepdims=True)
        cosine = (normal * lamp).sum(-1, keepdims=True).clip(0) / distance
        return met * np.array([0.8, 0.5, 0.3]) / math.pi * 60 * cosine / distance**2

    reference = torch.from_numpy(closed_form(light, 8))
    geometry = torch.from_numpy(closed_form(lambda d: np.concatenate([*hit(d)], -1), 1))  # at the centres of pixels
    x = sphere_points(50_000)
    to_light = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64) - x
    cosine = (x * to_light).sum(-1) / to_light.norm(dim=-1)
    albedo = torch.tensor([0.8, 0.5, 0.3], dtype=torch.float64)
    radiance = (albedo / math.pi * 60 * (cosine.clamp_min(0) / to_light.square().sum(-1))[:, None]).float()
    discs = Surfels.oriented(x.float(), x.float(), scale=0.016, colours=radiance)
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0))
    image = render_surfels(discs, camera, least_width=0.01, surface_thickness=0.03)
    mask = geometry[..., 0]
    inside = -torch.nn.functional.max_pool2d(-mask[None, None], 3, stride=1, padding=1)[0, 0] > 0.5
    assert psnr(image.rgb[inside], reference[inside]) >= 60
    assert float(image.alpha[inside].min()) > 0.999
    normal = geometry[..., 1:] * torch.tensor([1.0, -1.0, -1.0])  # to camera coordinates
    assert float((image.normal - normal)[inside].norm(dim=-1).mean()) < 1e-3
    assert float((image.depth[..., 0] - (4.0 - geometry[..., 3]))[inside].abs().mean()) < 5e-4


def facing_discs(n: int) -> dict[str, torch.Tensor]:
    return {
        "positions": torch.rand(n, 3, dtype=torch.float64) - 0.5,
        "rotations": torch.randn(n, 4, dtype=torch.float64),
        "scales": 0.1 + 0.1 * torch.rand(n, 2, dtype=torch.float64),
        "opacities": 0.2 + 0.6 * torch.rand(n, dtype=torch.float64),
        "colours": torch.rand(n, 3, dtype=torch.float64),
    }


def test_gradients_to_everything() -> None:
    # every attribute, the pose, the intrinsics and the background, against central differences in float64
    camera = PinholeCamera.look_at((0.4, 0.3, 3.0), fov_y=0.5, width=7, height=6, dtype=torch.float64)
    attributes = facing_discs(4)

    def picture(
        turn: torch.Tensor,
        shift: torch.Tensor,
        intrinsics: torch.Tensor,
        background: torch.Tensor,
        *values: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        view = PinholeCamera(
            world_to_camera=camera.moved(turn, shift).world_to_camera, intrinsics=intrinsics, width=7, height=6
        )
        image = render_surfels(Surfels(**dict(zip(attributes, values, strict=True))), view, background=background)
        return image.rgb, image.alpha, image.depth, image.normal

    inputs = [
        torch.full((3,), 0.01, dtype=torch.float64),
        torch.full((3,), 0.02, dtype=torch.float64),
        camera.intrinsics.clone(),
        torch.rand(3, dtype=torch.float64),
        *attributes.values(),
    ]
    assert torch.autograd.gradcheck(
        picture, [value.requires_grad_() for value in inputs], eps=1e-6, atol=2e-6, rtol=1e-5
    )


def test_eight_cameras_in_one_call() -> None:
    cameras = orbit(8, radius=3.0, width=24, height=20)
    surfels = Surfels(**{name: value.float() for name, value in facing_discs(50).items()})
    together = render_surfels(surfels, cameras, background=0.3)
    for k in range(8):
        alone = render_surfels(surfels, cameras[k], background=0.3)
        for name in ("rgb", "alpha", "depth", "median_depth", "normal"):
            torch.testing.assert_close(getattr(together, name)[k], getattr(alone, name), rtol=0, atol=1e-6)


def test_one_disc_facing_the_camera() -> None:
    # alpha = opacity (exp(-r^2/(2 s^2)) - c)/(1 - c) at distance r of the ray from the centre in the plane z = 2
    camera = PinholeCamera.look_at((0.0, 0.0, 2.0), width=33, height=33, dtype=torch.float64)
    surfels = Surfels.oriented(
        torch.zeros(1, 3, dtype=torch.float64),
        torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64),
        scale=0.2,
        opacity=0.8,
        colours=torch.ones(1, 3, dtype=torch.float64),
    )
    image = render_surfels(surfels, camera)
    r2 = (2 * camera.directions()[..., :2]).square().sum(-1)
    c = math.exp(-4.5)
    expected = 0.8 * ((torch.exp(-r2 / (2 * 0.2**2)) - c) / (1 - c)).clamp_min(0)
    torch.testing.assert_close(image.alpha[..., 0], expected, rtol=0, atol=1e-12)
    covered = expected > 1e-6
    torch.testing.assert_close(image.depth[..., 0][covered], torch.full_like(r2, 2.0)[covered], rtol=1e-9, atol=0)
    towards = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).expand(int(covered.sum()), 3)
    torch.testing.assert_close(image.normal[covered], towards, rtol=0, atol=1e-12)
    median = image.median_depth[..., 0]
    assert (median[expected > 0.51] - 2).abs().max() < 1e-12 and not median[expected < 0.49].any()


def test_silhouette_finds_a_sphere() -> None:
    # the mask of a sphere, off by a fifth of its radius in the picture's plane and in depth, leads back to 1 % of it
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), fov_y=0.7, width=48, height=48)
    points = sphere_points(1500).float()

    def mask(centre: torch.Tensor) -> torch.Tensor:
        discs = Surfels.oriented(points + centre, points, scale=0.06, colours=torch.ones(1))
        return render_surfels(discs, camera, normals=False).alpha

    observed = mask(torch.zeros(3))
    centre = torch.tensor([0.12, -0.12, 0.1], requires_grad=True)
    optimiser = torch.optim.LBFGS([centre], max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (mask(centre) - observed).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert float(centre.detach().norm()) < 0.01


def test_particles() -> None:
    camera = PinholeCamera.look_at((0.0, 0.5, 3.0), width=40, height=30)
    x = torch.rand(200, 3) - 0.5
    frames = SurfelRenderer(camera, look=Look(background=(1.0, 1.0, 1.0)))(torch.stack([x, x + 5]))
    assert frames.shape == (2, 30, 40, 3) and torch.isfinite(frames).all()
    assert torch.equal(frames[1], torch.ones(30, 40, 3))  # out of sight
    red = SurfelRenderer(camera)(x, colours=torch.tensor([1.0, 0.0, 0.0]))
    assert float(red[15, 20, 0]) > 3 * float(red[15, 20, 1])
    assert torch.equal(SurfelRenderer(camera)(torch.zeros(0, 3))[0, 0], torch.tensor(Look().background))
    with pytest.raises(ValueError, match="particles: expected positions"):
        SurfelRenderer(camera)(x[:, :2])
    with pytest.raises(ValueError, match="colours: expected shape"):
        SurfelRenderer(camera)(x, colours=torch.rand(7, 3))
    with pytest.raises(ValueError, match="not finite"):
        SurfelRenderer(camera)(x * float("nan"), colours=torch.rand(3))


def test_camera_inside_a_cloud_and_an_empty_one() -> None:
    # discs around the eye are pictured where they lie ahead of it, and nothing is pictured of nothing
    x = 2 * torch.rand(500, 3) - 1
    surfels = Surfels.oriented(x, x, scale=0.1, colours=torch.rand(500, 3))
    inside = PinholeCamera.look_at((0.0, 0.0, 0.1), width=20, height=16)
    image = render_surfels(surfels, inside)
    for value in (image.rgb, image.alpha, image.depth):
        assert torch.isfinite(value).all()
    assert float(image.alpha.mean()) > 0.9 and (image.depth >= 0).all()
    assert torch.isfinite(SurfelRenderer(inside)(x)).all()
    nothing = Surfels.oriented(x[:0], x[:0], scale=0.1, colours=torch.rand(0, 3))
    assert torch.equal(render_surfels(nothing, inside, background=0.4).rgb, torch.full((16, 20, 3), 0.4))


CUTS = [
    ((0.0, 0.0, -3.0), (0.0, 1.0, 0.0)),  # a floor whose middle is ahead
    ((0.5, 0.0, 0.7), (0.0, 1.0, 0.0)),  # behind the camera
    ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # below it
    ((0.8, 1.0, -1.5), (1.0, 0.1, 0.3)),  # a wall beside it
]


@pytest.mark.parametrize("scale", [1.1, 3.0])
@pytest.mark.parametrize(("centre", "normal"), CUTS)
def test_floors_and_walls_through_the_plane_of_the_eye(
    centre: tuple[float, ...], normal: tuple[float, ...], scale: float
) -> None:
    # alpha = (exp(-r^2/(2 s^2)) - c)/(1 - c) where the ray meets the plane, ahead of the eye, at a distance r
    camera = PinholeCamera.look_at(
        torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), (0.0, 0.5, -3.0), width=64, height=48, fov_y=1.0
    )
    origin, direction = camera.rays()
    n = torch.nn.functional.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    c = torch.tensor([centre], dtype=torch.float64, requires_grad=True)

    def closed_form(c: torch.Tensor) -> torch.Tensor:
        t = ((c - origin) @ n) / (direction @ n)
        r2 = (origin + t[..., None] * direction - c).square().sum(-1)
        edge = math.exp(-4.5)
        bell = ((torch.exp(-r2 / (2 * scale**2)) - edge) / (1 - edge)).clamp(0, 0.999)
        return torch.where(t > 0, bell, torch.zeros_like(bell))

    disc = Surfels.oriented(c, n[None], scale=scale, colours=torch.ones(1, dtype=torch.float64))
    alpha, expected = render_surfels(disc, camera, least_width=1e-3).alpha[..., 0], closed_form(c)
    assert float(expected.detach().mean()) > 0.01
    torch.testing.assert_close(alpha, expected, rtol=0, atol=1e-12)
    weight = torch.randn(48, 64, dtype=torch.float64)
    (ours,), (right,) = (torch.autograd.grad((weight * value).sum(), c) for value in (alpha, expected))
    torch.testing.assert_close(ours, right, rtol=1e-9, atol=1e-12)


def test_what_stands_on_a_floor_is_before_it() -> None:
    camera = PinholeCamera.look_at((0.0, 1.0, 0.0), (0.0, 0.5, -3.0), width=48, height=32, fov_y=1.0)
    ball = sphere_points(800).float() * 0.3 + torch.tensor([0.0, 0.3, -3.0])
    x = torch.cat([torch.tensor([[0.0, 0.0, -0.5]]), ball])
    normals = torch.cat([torch.tensor([[0.0, 1.0, 0.0]]), sphere_points(800).float()])
    colours = torch.cat([torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]).expand(800, 2)])
    scale = torch.cat([torch.tensor([4.0]), torch.full((800,), 0.03)])
    red, green = render_surfels(Surfels.oriented(x, normals, scale=scale, colours=colours), camera).rgb[18, 24]
    assert float(red) > 0.95 and float(green) < 0.05


def test_bad_input() -> None:
    good = facing_discs(3)
    with pytest.raises(ValueError, match="rotations: expected shape"):
        Surfels(**{**good, "rotations": good["rotations"][:, :3]})
    with pytest.raises(ValueError, match="colours: expected shape"):
        Surfels(**{**good, "colours": good["colours"][:2]})
    camera = PinholeCamera.look_at((0.0, 0.0, 2.0), dtype=torch.float64)
    with pytest.raises(ValueError, match="not finite at surfel 1"):
        positions = good["positions"].clone()
        positions[1] = math.inf
        render_surfels(Surfels(**{**good, "positions": positions}), camera)
    with pytest.raises(ValueError, match="parallel to the line of sight"):
        PinholeCamera.look_at((0.0, 3.0, 0.0))
    with pytest.raises(ValueError, match="world_to_camera: expected shape"):
        PinholeCamera(world_to_camera=torch.eye(3), intrinsics=torch.ones(4), width=2, height=2)


def test_camera_of_another_dtype_and_opacities_out_of_range() -> None:
    # numpy's float64 poses with a network's float32 surfels
    good = {name: value.float() for name, value in facing_discs(3).items()}
    camera = PinholeCamera.look_at((0.0, 0.0, 2.0), width=8, height=8, dtype=torch.float64)
    image = render_surfels(Surfels(**good), camera)
    torch.testing.assert_close(image.rgb, render_surfels(Surfels(**good), camera.to(torch.float32)).rgb)
    for wrong in (-1.0, 1.01):
        opacities = good["opacities"].clone()
        opacities[2] = wrong
        with pytest.raises(ValueError, match=r"opacities: expected values in \[0, 1\], got .* at surfel 2"):
            Surfels(**{**good, "opacities": opacities})


@pytest.mark.parametrize("light", [(0.2, 0.0, -1.0), (-0.5, -0.8, -0.9)])
def test_a_sheet_of_particles_is_lit_by_the_formula(light: tuple[float, float, float]) -> None:
    """Facing the camera: .35 + .65 cos(a) of its colour, and a gloss of cos(a)^24 / 4: the mirrored light is at a."""
    axis = torch.linspace(-0.4, 0.4, 33, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, torch.zeros(1, dtype=torch.float64))
    camera = PinholeCamera.look_at((0.0, 0.0, 2.0), (0.0, 0.0, 0.0), width=33, height=33)
    look = Look(light=light)
    picture = SurfelRenderer(camera, radius=0.05, look=look)(x, colours=torch.tensor([0.2, 0.4, 0.6]))
    cosine = -light[2] / math.sqrt(sum(v * v for v in light))
    expected = torch.tensor([0.2, 0.4, 0.6]) * (0.35 + 0.65 * cosine) + 0.25 * cosine**24
    torch.testing.assert_close(picture[16, 16].double(), expected.double(), rtol=0.02, atol=1e-3)


def test_points_of_a_sphere_are_spread_evenly() -> None:
    """Their second moments are r^2 / 3 in every direction, their mean nothing, and none lie close together."""
    points, normals = sphere(1000, radius=2.0, dtype=torch.float64)
    torch.testing.assert_close(points, 2 * normals)
    torch.testing.assert_close(points.norm(dim=1), torch.full((1000,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(points.T @ points / 1000, 4 / 3 * torch.eye(3, dtype=torch.float64), atol=0.01, rtol=0)
    assert float(points.mean(0).abs().max()) < 0.01
    nearest = (torch.cdist(points, points) + 9 * torch.eye(1000, dtype=torch.float64)).min(1).values
    spacing = 2 * math.sqrt(4 * math.pi / 1000)  # the side of each one's share
    assert 0.7 * spacing < float(nearest.min()) and float(nearest.max()) < 1.1 * spacing


def test_points_on_a_chain_of_blocks_lie_on_its_faces() -> None:
    """Two blocks in a row, 2 m long: ten outer faces of 1 m, centred; points and their areas make up 10 m^2."""
    x, normals, area = block_chain(4000, ((0, 0, 0), (1, 0, 0)))
    outer = torch.tensor([1.0, 0.5, 0.5])
    assert float((x.abs() / outer).amax(1).sub(1).abs().max()) < 1e-6
    assert float((normals * x / outer).sum(1).sub(1).abs().max()) < 1e-6  # each looks out of the face that it lies on
    assert len(x) * area == pytest.approx(10.0)
