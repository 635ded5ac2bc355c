"""Materials: what part of the light that arrives is sent to the eye."""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.render.lights import HarmonicLight, Light

SMALLEST_COSINE = 1e-4  # a surface seen or lit more flatly than this counts as seen or lit at it


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisneyMaterial:
    """Metal-rough material; each attribute is a map or one value for all.

    Attributes:
        base_colour: Linear RGB in [0, 1], shape (..., 3).
        metallic: 0 for dielectrics with 4 % reflectance, 1 for metals, shape (..., 1) or ().
        roughness: Square root of the width of the GGX distribution, in (0, 1], shape (..., 1) or ().
    """

    base_colour: torch.Tensor
    metallic: torch.Tensor
    roughness: torch.Tensor

    def reflectance(self, normal: torch.Tensor, view: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        """BRDF times the cosine of the light [1/sr], shape (..., 3); 0 where light or eye are behind the surface.

        Args:
            normal: Unit normals, shape (..., 3).
            view: Unit directions to the eye, shape (..., 3).
            light: Unit directions to the light, shape (..., 3).

        Source: Burley 2012, Physically based shading at Disney; Karis 2013 for the metal-rough variant.
        """
        n_l, n_v = _dot(normal, light), _dot(normal, view)
        visible = (n_l > 0) & (n_v > 0)
        n_l, n_v = n_l.clamp(SMALLEST_COSINE, 1), n_v.clamp(SMALLEST_COSINE, 1)
        half = _unit(light + view)
        n_h, l_h = _dot(normal, half).clamp(0, 1), _dot(light, half).clamp(0, 1)
        alpha2 = self.roughness**4
        grazing = 0.5 + 2 * l_h**2 * self.roughness - 1
        diffuse = (1 + grazing * (1 - n_l) ** 5) * (1 + grazing * (1 - n_v) ** 5) / math.pi
        distribution = alpha2 / (math.pi * (n_h**2 * (alpha2 - 1) + 1) ** 2)
        f0 = 0.04 * (1 - self.metallic) + self.base_colour * self.metallic
        fresnel = f0 + (1 - f0) * (1 - l_h) ** 5
        shadowing = _smith(n_l, alpha2) * _smith(n_v, alpha2)
        specular = distribution * fresnel * shadowing / (4 * n_l * n_v)
        total = self.base_colour * (1 - self.metallic) * diffuse + specular
        return torch.where(visible, total * n_l, torch.zeros_like(total))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhongMaterial:
    """Phong's material, with the attenuation of a light on all of its terms; what Pix2Shape renders with.

    Attributes:
        albedo: Linear RGB, shape (..., 3).
        diffuse: k_d.
        specular: k_s.
        shininess: Exponent of the specular term.
    """

    albedo: torch.Tensor
    diffuse: float = 0.5
    specular: float = 0.2
    shininess: float = 8.0

    def reflectance(self, normal: torch.Tensor, view: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        """Part of the irradiance that is sent to the eye, shape (..., 3); arguments as of `DisneyMaterial`.

        Source: Rajeswar et al. 2020, Pix2Shape, eq. 3.
        """
        n_l = _dot(normal, light)
        mirrored = 2 * n_l * normal - light
        gloss = _dot(view, mirrored).clamp_min(0) ** self.shininess
        shine = torch.where(n_l > 0, gloss, torch.zeros_like(gloss))
        return self.diffuse * n_l.clamp_min(0) * self.albedo + self.specular * shine


Material = DisneyMaterial | PhongMaterial


def shade(
    points: torch.Tensor,
    normals: torch.Tensor,
    eye: torch.Tensor,
    material: Material,
    lights: Sequence[Light],
    *,
    ambient: float | torch.Tensor = 0.0,
    visibility: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Radiance that surfaces send to the eye, differentiable in everything.

    Args:
        points: In the coordinates of the lights [m], shape (..., 3).
        normals: Unit normals, shape (..., 3).
        eye: Position of the eye [m], shape (3,).
        material: Of the points.
        lights: Point, directional and harmonic ones; a harmonic light is reflected diffusely.
        ambient: Times the colour of the material, added once.
        visibility: For each light the part that arrives, shape (..., 1); None for all.

    Returns:
        Radiance, shape (..., 3).

    Raises:
        ValueError: `visibility` has not one entry per light.
    """
    if visibility is not None and len(visibility) != len(lights):
        raise ValueError(f"visibility: expected one entry for each of {len(lights)} lights, got {len(visibility)}")
    colour = material.base_colour if isinstance(material, DisneyMaterial) else material.albedo
    view = _unit(eye - points)
    total = (ambient * colour).expand(points.shape)
    for index, light in enumerate(lights):
        if isinstance(light, HarmonicLight):
            matte = 1 - material.metallic if isinstance(material, DisneyMaterial) else material.diffuse
            sent = colour * matte / math.pi * light.irradiance(normals).clamp_min(0)
        else:
            direction, irradiance = light.arriving(points)
            sent = material.reflectance(normals, view, direction) * irradiance
        total = total + (sent if visibility is None else sent * visibility[index])
    return total


def soft_shadow(depth_at: torch.Tensor, depth_of: torch.Tensor, *, bias: float, softness: float) -> torch.Tensor:
    """Which part of a light arrives: a shadow map with a soft edge, sigmoid((D + bias - z)/softness).

    Args:
        depth_at: Depth D of the nearest surface in the light's picture, where each point falls into it [m].
        depth_of: Depth z of the point in the light's picture [m].
        bias: How far behind the nearest surface a point is still half lit [m].
        softness: Width of the transition [m].
    """
    return torch.sigmoid((depth_at + bias - depth_of) / softness)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(-1, keepdim=True)


def _unit(a: torch.Tensor) -> torch.Tensor:
    """Of length 1; twice as fast as `normalize` where the components are planes in memory."""
    return a * _dot(a, a).clamp_min(1e-24).rsqrt()


def _smith(cosine: torch.Tensor, alpha2: torch.Tensor) -> torch.Tensor:
    """Part of the facets seen under an angle that others do not hide (GGX)."""
    return 2 * cosine / (cosine + (alpha2 + (1 - alpha2) * cosine**2).sqrt())
