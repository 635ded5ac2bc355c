"""Verification of volumes against closed forms, and of their gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from simengine.render import PinholeCamera, Volume, orbit, render_volume

CAMERA = PinholeCamera.look_at((0.0, 0.0, 4.0))


def test_emission_absorption_cube(closed_form, cube) -> None:
    # L = b exp(-s l) + q/s (1 - exp(-s l)) with the length l of the ray in [-1, 1]^3, 16 x 16 samples a pixel; the
    # mean's derivatives from the same closed form. 6 x 6 samples leave 4e-5 at the edges of the cube.
    def light(d: np.ndarray) -> np.ndarray:
        near, far = cube(d)
        sigma, through = np.array([0.5, 1.0, 2.0]), np.exp(-np.array([0.5, 1.0, 2.0]) * (far - near)[..., None])
        return 0.25 * through + np.array([0.3, 0.6, 0.9]) / sigma * (1 - through)

    reference = torch.from_numpy(closed_form(light))
    expected = {0.5: (0.3, -0.260547, 0.703077), 1.0: (0.6, -0.229776, 0.515070), 2.0: (0.9, -0.130585, 0.324094)}
    for channel, (sigma, (q, slope_sigma, slope_q)) in enumerate(expected.items()):
        s, e = torch.tensor(sigma, requires_grad=True), torch.tensor(q, requires_grad=True)
        medium = Volume(density=s.expand(2, 2, 2), source=e.expand(2, 2, 2, 1), emission=True)
        image = render_volume(medium, CAMERA, background=0.25, step=10.0, samples=6).rgb[..., 0]
        assert float((image - reference[..., channel]).detach().abs().max()) < 1e-4
        slopes = torch.autograd.grad(image.double().mean(), (s, e))
        assert float(slopes[0]) == pytest.approx(slope_sigma, rel=1e-3)
        assert float(slopes[1]) == pytest.approx(slope_q, rel=1e-3)


def test_gaussian_blob(closed_form, cube) -> None:
    # density 4 exp(-r^2/(2 0.35^2)) on a grid of 64^3; trilinear interpolation of it leaves 2.1e-4
    def light(d: np.ndarray) -> np.ndarray:
        near, far = cube(d)
        middle = -4.0 * d[..., 2]  # the nearest point to the centre, where the ray's density is largest
        width = 0.35 * math.sqrt(2)
        depth = special.erf((far - middle) / width) - special.erf((near - middle) / width)
        depth = 4 * np.exp(-(16.0 - middle**2) / width**2) * width * math.sqrt(math.pi) / 2 * depth
        return np.exp(-depth)[..., None].repeat(3, -1)

    reference = torch.from_numpy(closed_form(light, 4))  # smooth within a pixel
    line = (torch.arange(64, dtype=torch.float64) - 31.5) / 32  # centres of cells
    square = line[:, None, None] ** 2 + line[:, None] ** 2 + line**2
    grid = (4 * torch.exp(-square / (2 * 0.35**2))).float()
    image = render_volume(Volume(density=grid, source=torch.zeros(64, 64, 64, 1)), CAMERA, background=1.0, step=0.03)
    assert float((image.rgb - reference).square().mean().sqrt()) <= 3e-4


def test_gradients_to_camera_and_background() -> None:
    n = 6
    density, source = torch.rand(n, n, n, dtype=torch.float64) * 2, torch.rand(n, n, n, 1, dtype=torch.float64)
    camera = PinholeCamera.look_at((1.0, 0.7, 3.0), width=5, height=4, dtype=torch.float64)

    def picture(
        turn: torch.Tensor, shift: torch.Tensor, intrinsics: torch.Tensor, background: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        moved = camera.moved(turn, shift)
        view = PinholeCamera(world_to_camera=moved.world_to_camera, intrinsics=intrinsics, width=5, height=4)
        image = render_volume(Volume(density=density, source=source), view, background=background, step=0.5)
        # a ray that grazes a corner bends within a step of the check, a depth over next to no opacity most of all
        return image.rgb, image.alpha, image.depth * image.alpha

    inputs = [
        torch.full((3,), 0.01, dtype=torch.float64),
        torch.full((3,), 0.02, dtype=torch.float64),
        camera.intrinsics.clone(),
        torch.rand(1, dtype=torch.float64),
    ]
    assert torch.autograd.gradcheck(
        picture, [value.requires_grad_() for value in inputs], eps=1e-7, atol=1e-6, rtol=1e-5
    )


def test_depth_is_along_the_axis_not_along_the_ray() -> None:
    # a wall across the view is equally deep in every pixel of a wide picture; on the mean light is absorbed at most
    # 1/s behind its face
    wall = Volume(
        density=torch.full((2, 2, 2), 400.0, dtype=torch.float64),
        source=torch.zeros(2, 2, 2, 1, dtype=torch.float64),
        lower=(-9.0, -9.0, -2.0),
        upper=(9.0, 9.0, 0.0),
    )
    camera = PinholeCamera.look_at((0.0, 0.0, 3.0), fov_y=1.8, width=15, height=11, dtype=torch.float64)
    depth = render_volume(wall, camera, step=1e-3).depth
    torch.testing.assert_close(depth, torch.full_like(depth, 3.0), rtol=0, atol=5e-3)
    assert float(camera.directions().norm(dim=-1).max()) > 1.9  # along the ray the corner is at 6 m


def test_batch_of_cameras_is_each_of_them() -> None:
    cameras = orbit(3, radius=4.0, width=16, height=12)
    medium = Volume(density=torch.rand(5, 5, 5) * 3, source=torch.rand(5, 5, 5, 3))
    together = render_volume(medium, cameras, background=0.5)
    for k in range(3):
        alone = render_volume(medium, cameras[k], background=0.5)
        torch.testing.assert_close(together.rgb[k], alone.rgb, rtol=0, atol=1e-6)
        torch.testing.assert_close(together.depth[k], alone.depth, rtol=0, atol=1e-6)


def test_camera_inside_and_beside() -> None:
    # inside an isothermal enclosure everything is as bright as its source function
    medium = Volume(density=torch.full((2, 2, 2), 60.0), source=torch.full((2, 2, 2, 1), 0.8))
    inside = render_volume(medium, PinholeCamera.look_at((0.0, 0.0, 0.2), width=8, height=8), step=0.1)
    torch.testing.assert_close(inside.rgb, torch.full((8, 8, 1), 0.8), rtol=1e-5, atol=0)
    beside = render_volume(medium, PinholeCamera.look_at((0.0, 0.0, 4.0), (0.0, 0.0, 9.0), width=8, height=8))
    assert not beside.alpha.any() and not beside.depth.any()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="density: expected shape"):
        Volume(density=torch.zeros(0, 2, 2), source=torch.zeros(0, 2, 2, 1))
    with pytest.raises(ValueError, match="source: expected shape"):
        Volume(density=torch.zeros(2, 2, 2), source=torch.zeros(3, 2, 2, 1))
    with pytest.raises(ValueError, match="upper: expected above lower"):
        Volume(density=torch.zeros(2, 2, 2), source=torch.zeros(2, 2, 2, 1), lower=(1.0, 1.0, 1.0))
    endless = Volume(density=torch.full((2, 2, 2), math.inf), source=torch.zeros(2, 2, 2, 1))
    with pytest.raises(ValueError, match="not finite at node"):
        render_volume(endless, CAMERA)
