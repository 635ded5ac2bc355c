"""Pix2Shape's path from a depth image to a picture."""

import math

import pytest
import torch

from simengine.render import PhongMaterial, PinholeCamera, PointLight, normals_of_depth, shade_depth
from simengine.render.lights import HarmonicLight

CAMERA = PinholeCamera.look_at((0.0, 0.0, 4.0), width=40, height=30, dtype=torch.float64)


def test_normals_of_a_plane() -> None:
    # n.p = d: the depth along a ray r is d/(n.r); differences of points of a plane lie in it, so the normal is exact
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0], dtype=torch.float64), dim=0)
    depth = -3 / (CAMERA.directions() @ normal)
    found = normals_of_depth(depth, torch.ones_like(depth), CAMERA)
    torch.testing.assert_close(found, normal.expand_as(found), rtol=0, atol=1e-12)


def test_normals_of_a_sphere_converge() -> None:
    # central differences are of second order in the size of a pixel
    errors = []
    for size in (32, 64):
        camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=size, height=size, fov_y=0.2, dtype=torch.float64)
        r = camera.directions()
        a, b = r.square().sum(-1), 4 * r[..., 2]
        depth = (b - (b * b - 15 * a).sqrt()) / a  # |t r - (0, 0, 4)| = 1
        exact = r * depth[..., None] - torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
        found = normals_of_depth(depth, torch.ones_like(depth), camera)
        inner = slice(size // 4, -size // 4)  # one-sided differences at the border are of first order
        errors.append(float((found - exact)[inner, inner].norm(dim=-1).max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


def test_gradients() -> None:
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=5, height=4, dtype=torch.float64)

    def picture(
        depth: torch.Tensor, albedo: torch.Tensor, position: torch.Tensor, intrinsics: torch.Tensor
    ) -> torch.Tensor:
        view = PinholeCamera(world_to_camera=camera.world_to_camera, intrinsics=intrinsics, width=5, height=4)
        lamp = PointLight(position=position, intensity=torch.tensor(5.0).double(), attenuation=(0.0, 0.0, 0.01))
        return shade_depth(depth, view, PhongMaterial(albedo=albedo), [lamp], ambient=0.1)

    inputs = [
        3 + 0.3 * torch.rand(4, 5, dtype=torch.float64),
        torch.rand(4, 5, 3, dtype=torch.float64),
        torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64),
        camera.intrinsics.clone(),
    ]
    assert torch.autograd.gradcheck(
        picture, [value.requires_grad_() for value in inputs], eps=1e-6, atol=1e-6, rtol=1e-5
    )


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="depth: expected shape"):
        shade_depth(torch.ones(3, 3), CAMERA, PhongMaterial(albedo=torch.ones(3)), [])


def test_light_of_a_panorama() -> None:
    """Verification: light of all sides alike; a sky over dark ground; light that is itself of degree 2."""
    height = 64
    coarse = (torch.pi / height) ** 2 / 8  # of the means that a row stands for: the midpoint rule
    down = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    around = (torch.arange(2 * height, dtype=torch.float64) + 0.5) * (math.pi / height) - math.pi
    up = down.cos()[:, None].expand(height, 2 * height)
    right, ahead = down.sin()[:, None] * around.sin(), down.sin()[:, None] * around.cos()
    normals = torch.eye(3, dtype=torch.float64)
    even = HarmonicLight.of_panorama(torch.full((height, 2 * height, 1), 0.7, dtype=torch.float64))
    assert torch.allclose(even.irradiance(normals), torch.tensor(0.7 * math.pi).double(), rtol=coarse)
    sky = HarmonicLight.of_panorama((up > 0).double()[..., None])
    # of a hemisphere of radiance 1 a plane that looks up gets pi, one on its side half of that, one down nothing
    told = sky.irradiance(torch.stack([normals[1], normals[0], -normals[1]]))[:, 0]
    assert torch.allclose(told, math.pi * torch.tensor([1.0, 0.5, 0.0]).double(), atol=1e-3)
    own = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = torch.stack([right, up, -ahead], -1)
    back = HarmonicLight.of_panorama(HarmonicLight(coefficients=own).radiance(directions))
    assert torch.allclose(back.coefficients, own, atol=2e-3)
    with pytest.raises(ValueError, match="expected shape"):
        HarmonicLight.of_panorama(torch.zeros(4, 4, 3))
