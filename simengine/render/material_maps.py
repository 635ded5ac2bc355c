"""Flat samples of a material with maps, and procedural maps to try things on."""

import dataclasses
import math

import torch

from simengine.render.brdf import DisneyMaterial, shade
from simengine.render.lights import PointLight


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaterialMaps:
    """Maps over the square [-1, 1]^2 of the plane z = 0, row 0 at y = 1.

    Attributes:
        normal: Unit normals, z up, shape (n, n, 3).
        base_colour: Shape (n, n, 3).
        metallic: Shape (n, n, 1).
        roughness: Shape (n, n, 1).
    """

    normal: torch.Tensor
    base_colour: torch.Tensor
    metallic: torch.Tensor
    roughness: torch.Tensor

    def as_dict(self) -> dict[str, torch.Tensor]:
        """The maps by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def mean(self) -> "MaterialMaps":
        """Every map replaced by its mean, the normal by the direction of its mean."""
        values = {name: value.mean(dim=(0, 1), keepdim=True).expand_as(value) for name, value in self.as_dict().items()}
        values["normal"] = torch.nn.functional.normalize(values["normal"], dim=-1)
        return MaterialMaps(**values)


def flash_pictures(maps: MaterialMaps, lights: torch.Tensor, *, intensity: float, eye: torch.Tensor) -> torch.Tensor:
    """Radiance of a sample lit by one point light after another.

    Args:
        maps: Of the sample.
        lights: Positions [m], shape (k, 3).
        intensity: Of each light [W/sr].
        eye: Position of the eye [m], shape (3,).

    Returns:
        Pictures seen from straight above, shape (k, n, n, 3).
    """
    n = len(maps.normal)
    x = (2 * torch.arange(n, dtype=lights.dtype) + 1) / n - 1
    points = torch.stack([x.expand(n, n), -x[:, None].expand(n, n), torch.zeros(n, n, dtype=lights.dtype)], dim=-1)
    surface = DisneyMaterial(base_colour=maps.base_colour, metallic=maps.metallic, roughness=maps.roughness)
    lamps = PointLight(position=lights[:, None, None], intensity=torch.tensor(intensity, dtype=lights.dtype))
    return shade(points.expand(len(lights), n, n, 3), maps.normal, eye, surface, [lamps])


def procedural_maps(n: int, *, seed: int) -> MaterialMaps:
    """Smooth random maps: two colours in patches, one of them metal, with bumps.

    Args:
        n: Texels along each side.
        seed: Of everything random.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(cells: int) -> torch.Tensor:
        coarse = torch.rand(1, 1, cells + 3, cells + 3, generator=generator) * 2 - 1
        return torch.nn.functional.interpolate(coarse, size=(n, n), mode="bicubic", align_corners=True)[0, 0]

    patches = torch.sigmoid(6 * (noise(3) + 0.5 * noise(6)))[..., None]
    colours = 0.15 + 0.75 * torch.rand(2, 3, generator=generator)
    base = patches * colours[0] + (1 - patches) * colours[1] + 0.05 * noise(12)[..., None]
    height = (noise(5) + 0.5 * noise(10)) * 0.06
    slope_y, slope_x = torch.gradient(height, spacing=2 / n)
    normal = torch.nn.functional.normalize(torch.stack([-slope_x, slope_y, torch.ones(n, n)], dim=-1), dim=-1)
    return MaterialMaps(
        normal=normal,
        base_colour=base.clamp(0.02, 0.98),
        metallic=0.9 * patches,
        roughness=(0.5 + 0.2 * noise(4)).clamp(0.2, 0.9)[..., None],
    )


def ring_of_lights(count: int, *, radius: float, height: float, turn: float = 0.0) -> torch.Tensor:
    """Positions evenly on a circle above the sample and one above its middle, shape (count, 3)."""
    angle = turn + torch.arange(count - 1) * (2 * math.pi / max(count - 1, 1))
    ring = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.full_like(angle, height)], dim=-1)
    return torch.cat([torch.tensor([[0.0, 0.0, height]]), ring])
