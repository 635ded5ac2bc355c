"""Verification of materials and lights: laws that hold exactly, integrals over the hemisphere, differences."""

import math

import pytest
import torch

from simengine.render.brdf import DisneyMaterial, PhongMaterial, shade, soft_shadow
from simengine.render.lights import DirectionalLight, HarmonicLight, PointLight, spherical_harmonics

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def material(base: float, metallic: float, roughness: float) -> DisneyMaterial:
    return DisneyMaterial(
        base_colour=torch.full((3,), base, dtype=torch.float64),
        metallic=torch.tensor(metallic, dtype=torch.float64),
        roughness=torch.tensor(roughness, dtype=torch.float64),
    )


def hemisphere(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions above the plane and the solid angle of each: midpoints in cos(theta) and phi."""
    cosine, phi = (torch.arange(n, dtype=torch.float64) + 0.5) / n, 2 * math.pi * torch.arange(n).double() / n
    c, p = torch.meshgrid(cosine, phi, indexing="ij")
    s = (1 - c * c).sqrt()
    return torch.stack([s * p.cos(), s * p.sin(), c], dim=-1).reshape(-1, 3), torch.tensor(2 * math.pi / n**2)


def random_directions(n: int) -> torch.Tensor:
    direction = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=-1)
    return torch.cat([direction[:, :2], direction[:, 2:].abs() + 1e-3], dim=-1).div(1.0)


@pytest.mark.parametrize(("metallic", "roughness"), [(0.0, 0.5), (1.0, 0.3), (0.4, 1.0)])
def test_reciprocity(metallic: float, roughness: float) -> None:
    # f(l, v) = f(v, l)
    light, view = (torch.nn.functional.normalize(random_directions(200), dim=-1) for _ in range(2))
    surface = material(0.6, metallic, roughness)
    there = surface.reflectance(UP, view, light) / light[:, 2:]
    back = surface.reflectance(UP, light, view) / view[:, 2:]
    torch.testing.assert_close(there, back, rtol=1e-12, atol=0)


@pytest.mark.parametrize("roughness", [0.4, 0.6, 1.0])
def test_white_metal_seen_from_above(roughness: float) -> None:
    # seen along the normal, integral of D/4 over the upper half space = part of the facets within 45 degrees of it
    # = 1/(1 + alpha^2): what a white metal sends back before facets hide each other
    directions, weight = hemisphere()
    value = material(1.0, 1.0, roughness).reflectance(UP, UP, directions)[:, 0]
    alpha2, cosine = roughness**4, directions[:, 2]
    unhidden = value * (cosine + (alpha2 + (1 - alpha2) * cosine**2).sqrt()) / (2 * cosine)
    assert float((unhidden * weight).sum()) == pytest.approx(1 / (1 + alpha2), rel=1e-3)
    assert float((value * weight).sum()) < 1


def test_distribution_is_normalised() -> None:
    # integral of D (n.h) over h is 1; at l = v = h the specular term is D F G/(4 (n.h)^2) with F = 1 for a white metal
    directions, weight = hemisphere(800)
    surface = material(1.0, 1.0, 0.7)
    cosine = directions[:, 2:]
    value = surface.reflectance(UP, directions, directions) / cosine  # D G1(c)^2/(4 c^2)
    alpha2 = 0.7**4
    smith = 2 * cosine / (cosine + (alpha2 + (1 - alpha2) * cosine**2).sqrt())
    distribution = value[:, :1] * 4 * cosine**2 / smith**2
    # directions flatter than SMALLEST_COSINE do not occur on this grid
    assert float((distribution * cosine * weight).sum()) == pytest.approx(1.0, rel=1e-4)


def test_matte_limit() -> None:
    # at normal incidence on a rough dielectric the diffuse term is base/pi, the specular one 0.04/(4 pi) for alpha = 1
    value = material(0.6, 0.0, 1.0).reflectance(UP, UP, UP)
    assert float(value[0]) == pytest.approx(0.6 / math.pi + 0.04 / (4 * math.pi), rel=1e-12)


def test_mirrored_at_sixty_degrees() -> None:
    # n.l = n.v = l.h = 1/2, n.h = 1. Schlick: F = 0.04 + 0.96 (1/2)^5 = 0.07; at alpha = 1, D = 1/pi and G1 = 2/3.
    # Burley: F_D90 = 0.5 + 2 (1/2)^2 roughness is 1 at roughness 1 and 3/4 at 1/2, taken (1 - n.l)^5 = 1/32 of the way
    side = math.sqrt(0.75)
    light, view = (torch.tensor([x, 0.0, 0.5], dtype=torch.float64) for x in (side, -side))
    for roughness, diffuse in ((1.0, 1.0), (0.5, (1 - 0.25 / 32) ** 2)):
        black, white = (material(base, 0.0, roughness).reflectance(UP, view, light)[0] for base in (0.0, 1.0))
        assert float(white - black) == pytest.approx(0.5 * diffuse / math.pi, rel=1e-12)
        if roughness == 1:
            assert float(black) == pytest.approx(0.5 * 0.07 * (2 / 3) ** 2 / math.pi, rel=1e-12)


def test_gradients() -> None:
    maps = [torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 1, dtype=torch.float64)]
    maps.append(0.3 + 0.6 * torch.rand(4, 1, dtype=torch.float64))
    points, normals = (
        torch.randn(4, 3, dtype=torch.float64) * 0.3,
        torch.tensor([[0.1, -0.2, 1.0]]).double().repeat(4, 1),
    )
    light, intensity = torch.tensor([0.5, 0.2, 2.0]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    coefficients, eye = torch.rand(9, 3, dtype=torch.float64), torch.tensor([-0.3, 0.4, 3.0]).double()

    def picture(
        base: torch.Tensor, metallic: torch.Tensor, roughness: torch.Tensor, *rest: torch.Tensor
    ) -> torch.Tensor:
        points, normals, eye, position, intensity, coefficients = rest
        surface = DisneyMaterial(base_colour=base, metallic=metallic, roughness=roughness)
        lights = [PointLight(position=position, intensity=intensity), HarmonicLight(coefficients=coefficients)]
        return shade(points, torch.nn.functional.normalize(normals, dim=-1), eye, surface, lights, ambient=0.1)

    inputs = [value.requires_grad_() for value in (*maps, points, normals, eye, light, intensity, coefficients)]
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_harmonics_are_orthonormal_and_light_planes() -> None:
    # integral of Y_i Y_j over the sphere; irradiance against the integral of L (n.w) over the hemisphere
    above, weight = hemisphere()
    sphere = torch.cat([above, -above])
    Y = spherical_harmonics(sphere)
    torch.testing.assert_close(Y.T @ Y * weight, torch.eye(9).double(), rtol=0, atol=1e-4)
    light = HarmonicLight(coefficients=torch.rand(9, 3, dtype=torch.float64))
    direct = (light.radiance(above) * above[:, 2:] * weight).sum(0)
    torch.testing.assert_close(light.irradiance(UP), direct, rtol=1e-4, atol=0)


def test_phong_and_ambient_once() -> None:
    # facing everything: (k_d + k_s) I/d^2 albedo-weighted, and the ambient term once for two lights
    surface = PhongMaterial(albedo=torch.tensor([0.5, 0.25, 1.0]).double())
    lamp = PointLight(position=torch.tensor([0.0, 0.0, 2.0]).double(), intensity=torch.tensor(8.0).double())
    result = shade(torch.zeros(3).double(), UP, 3 * UP, surface, [lamp, lamp], ambient=0.1)
    expected = 2 * 2.0 * (0.5 * surface.albedo + 0.2) + 0.1 * surface.albedo
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    sun = DirectionalLight(direction=-UP, irradiance=torch.ones(3).double())
    assert not shade(torch.zeros(3).double(), UP, 3 * UP, surface, [sun]).any()  # from behind


def test_shadow() -> None:
    depth = torch.ones(3, dtype=torch.float64)
    lit = soft_shadow(depth, torch.tensor([1.0, 1.1, 3.0], dtype=torch.float64), bias=0.1, softness=0.02)
    assert float(lit[0]) > 0.99 and float(lit[1]) == pytest.approx(0.5, abs=1e-9) and float(lit[2]) < 1e-6
    with pytest.raises(ValueError, match="one entry for each"):
        shade(
            torch.zeros(3), UP.float(), UP.float(), PhongMaterial(albedo=torch.ones(3)), [], visibility=[torch.ones(1)]
        )


def test_a_point_light_falls_off_as_its_three_numbers_say() -> None:
    """At 3 and 4 to the sides of the lamp, 5 m away: 8 / (1 + 0.2 5 + 0.04 25) = 8 / 3, towards it."""
    lamp = PointLight(
        position=torch.tensor([3.0, 0.0, 4.0]).double(),
        intensity=torch.tensor(8.0).double(),
        attenuation=(1.0, 0.2, 0.04),
    )
    towards, irradiance = lamp.arriving(torch.zeros(3, dtype=torch.float64))
    assert towards.tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert float(irradiance) == pytest.approx(8 / 3, rel=1e-12)
