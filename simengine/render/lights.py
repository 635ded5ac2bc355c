"""Lights: what arrives at a point, and from where."""

import dataclasses
import math

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointLight:
    """A point that shines into all directions alike.

    Attributes:
        position: In the coordinates of the points it lights [m], shape (3,).
        intensity: Radiant intensity [W/sr], shape (c,) or ().
        attenuation: k_c, k_l [1/m], k_q [1/m^2] of 1/(k_c + k_l d + k_q d^2); (0, 0, 1) is that of empty space.
    """

    position: torch.Tensor
    intensity: torch.Tensor
    attenuation: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def arriving(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit directions towards the light (..., 3) and irradiance on a plane across them (..., c)."""
        way = self.position - points
        distance = way.square().sum(dim=-1, keepdim=True).clamp_min(1e-30).sqrt()  # faster than norm on planes
        constant, linear, quadratic = self.attenuation
        return way / distance, self.intensity / (constant + linear * distance + quadratic * distance**2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionalLight:
    """A light infinitely far away.

    Attributes:
        direction: Towards the light, any length but 0, shape (3,).
        irradiance: On a plane across the direction [W/m^2], shape (c,) or ().
    """

    direction: torch.Tensor
    irradiance: torch.Tensor

    def arriving(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit directions towards the light (..., 3) and irradiance on a plane across them (..., c)."""
        unit = torch.nn.functional.normalize(self.direction, dim=-1)
        irradiance = self.irradiance.reshape(-1)
        return unit.expand_as(points), irradiance.expand(*points.shape[:-1], len(irradiance))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HarmonicLight:
    """Light from all around, by real spherical harmonics up to degree 2.

    Attributes:
        coefficients: Of the radiance, in the order (l, m) = 00, 1-1, 10, 11, 2-2, 2-1, 20, 21, 22; shape (9, c).
    """

    coefficients: torch.Tensor

    @classmethod
    def of_panorama(cls, radiance: torch.Tensor) -> "HarmonicLight":
        """The part of a picture of all directions that matt surfaces see (image-based light).

        What is left out of it changes the irradiance of a surface by some per cent at most, and a highlight much.

        Args:
            radiance: Linear, shape (h, 2 h, c): its upper row is up (+y), its middle column ahead (-z), its right half
                to the right (+x), as panoramas are stored.

        Raises:
            ValueError: It is not twice as wide as it is high.
        """
        if radiance.ndim != 3 or radiance.shape[1] != 2 * radiance.shape[0]:
            raise ValueError(f"radiance: expected shape (h, 2 h, c) of all directions, got {tuple(radiance.shape)}")
        height, width, _ = radiance.shape
        down = (torch.arange(height, dtype=radiance.dtype) + 0.5) * (math.pi / height)
        around = (torch.arange(width, dtype=radiance.dtype) + 0.5) * (2 * math.pi / width) - math.pi
        ring = down.sin()[:, None]
        directions = torch.stack(
            [ring * around.sin(), down.cos()[:, None].expand(height, width), -ring * around.cos()], -1
        )
        # solid angle of a pixel: its width times the difference of the cosines at its upper and lower edge
        edges = torch.linspace(0, math.pi, height + 1, dtype=radiance.dtype).cos()
        solid = (edges[:-1] - edges[1:])[:, None, None] * (2 * math.pi / width)
        return cls(coefficients=torch.einsum("hwk,hwc->kc", solid * spherical_harmonics(directions), radiance))

    def radiance(self, directions: torch.Tensor) -> torch.Tensor:
        """Radiance from unit directions (..., 3), shape (..., c)."""
        return spherical_harmonics(directions) @ self.coefficients

    def irradiance(self, normals: torch.Tensor) -> torch.Tensor:
        """Irradiance on planes with unit normals (..., 3), shape (..., c).

        Source: Ramamoorthi and Hanrahan 2001, An efficient representation for irradiance environment maps, eq. 8: the
        cosine lobe multiplies degree l by pi, 2 pi/3, pi/4.
        """
        factors = [math.pi, *[2 * math.pi / 3] * 3, *[math.pi / 4] * 5]
        return spherical_harmonics(normals) @ (self.coefficients.new_tensor(factors)[:, None] * self.coefficients)


Light = PointLight | DirectionalLight | HarmonicLight


def spherical_harmonics(directions: torch.Tensor, degree: int = 2) -> torch.Tensor:
    """Real spherical harmonics, orthonormal, without the phase of Condon and Shortley; shape (..., (degree + 1)^2).

    Args:
        directions: Unit vectors, shape (..., 3).
        degree: The highest, 0 to 3.

    Raises:
        ValueError: The degree is another.
    """
    if degree not in range(4):
        raise ValueError(f"degree: expected 0, 1, 2 or 3, got {degree}")
    x, y, z = directions.unbind(-1)
    a, b, c = math.sqrt(1 / math.pi) / 2, math.sqrt(3 / math.pi) / 2, math.sqrt(15 / math.pi) / 2
    d = math.sqrt(5 / math.pi) / 4
    found = [torch.full_like(x, a)]
    if degree > 0:
        found += [b * y, b * z, b * x]
    if degree > 1:
        found += [c * x * y, c * y * z, d * (3 * z**2 - 1), c * x * z, c / 2 * (x**2 - y**2)]
    if degree > 2:
        e, f = math.sqrt(35 / (2 * math.pi)) / 4, math.sqrt(105 / math.pi) / 2
        g, h = math.sqrt(21 / (2 * math.pi)) / 4, math.sqrt(7 / math.pi) / 4
        found += [
            e * y * (3 * x**2 - y**2),
            f * x * y * z,
            g * y * (5 * z**2 - 1),
            h * z * (5 * z**2 - 3),
            g * x * (5 * z**2 - 1),
            f / 2 * z * (x**2 - y**2),
            e * x * (x**2 - 3 * y**2),
        ]
    return torch.stack(found, dim=-1)
