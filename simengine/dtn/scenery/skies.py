"""Panoramas of the sky as light and as what is seen behind everything: the sun apart, the rest as it is."""

import dataclasses
import math
from functools import cached_property

import torch

from simengine.ops.light.ray_scene import check_panorama

LUMINANCE = (0.2126, 0.7152, 0.0722)
MEAN = (
    0.38  # luminance to which skies are scaled: the mean, by the cosine from above, of the clear sky of `ViewSampler`
)
NEAR = math.radians(4.0)  # about the brightest direction, within which the sun and its glare lie
RING = math.radians(7.0)  # up to here it is the sky about the sun
SUN = 5.0  # times brighter than that is sun
ROWS = 256  # of the panorama that is kept


@dataclasses.dataclass(frozen=True, eq=False)
class SkyPanorama:
    """Light from all directions, scaled to a mean of the sky of 0.38; the sun is a direction of its own.

    Attributes:
        name: Of its file.
        light: Radiance without the sun, (r, 2 r, 3); row 0 is up, and its right half lies clockwise of its middle.
        azimuth: Of the sun from the middle column, counterclockwise [rad]; of the brightest place where there is none.
        elevation: Likewise [rad].
        sun: Its irradiance on a plane that faces it, (3,); zeros where the sky is overcast, or cut off at white.
    """

    name: str
    light: torch.Tensor
    azimuth: float
    elevation: float
    sun: torch.Tensor

    @classmethod
    def of(cls, name: str, radiance: torch.Tensor) -> "SkyPanorama":
        """The sky and the sun of a panorama in any unit.

        What is five times brighter than the sky between 4 and 7 degrees from the brightest place, and within 4, is the
        sun; the sky goes on behind it. So the two send as much light together as the file holds.

        Args:
            name: Of its file.
            radiance: Linear, (h, 2 h, 3), row 0 is up.

        Raises:
            ValueError: It is no panorama, or dark above the horizon.
        """
        check_panorama(radiance)
        if len(radiance) > ROWS:
            smaller = torch.nn.functional.interpolate(radiance.permute(2, 0, 1)[None], (ROWS, 2 * ROWS), mode="area")
            radiance = smaller[0].permute(1, 2, 0)
        directions, solid = panorama_directions(len(radiance))
        luminance = radiance @ radiance.new_tensor(LUMINANCE)
        up = directions[..., 2]
        brightest = int(torch.where(up > 0, luminance, -1.0).argmax())
        towards = directions.flatten(0, 1)[brightest]
        away = torch.acos((directions @ towards).clamp(-1, 1))
        ring = (away >= NEAR) & (away < RING) & (up > 0)
        about = radiance[ring].median(0).values if bool(ring.any()) else radiance.new_zeros(3)
        bright = (away < NEAR) & (up > 0) & (luminance > SUN * (about @ about.new_tensor(LUMINANCE)))
        excess = (radiance - about).clamp(min=0) * bright[..., None]
        light = radiance - excess
        weight = (up.clamp(min=0) * solid)[..., None]
        mean = float(((light * weight).sum((0, 1)) / math.pi) @ light.new_tensor(LUMINANCE))
        if not mean > 0:
            raise ValueError(f"{name}: it is dark above the horizon; expected a panorama of light from all directions")
        x, y, z = towards.tolist()
        return cls(
            name=name,
            light=light * (MEAN / mean),
            azimuth=math.atan2(y, x),
            elevation=math.asin(z),
            sun=(excess * solid[..., None]).sum((0, 1)) * (MEAN / mean),
        )

    @property
    def illuminance(self) -> float:
        """Luminance-weighted irradiance of the sun on a plane that faces it."""
        return float(self.sun @ torch.tensor(LUMINANCE))

    @cached_property
    def ambient(self) -> torch.Tensor:
        """Mean radiance of the upper half by the cosine from above, (3,): its irradiance on the ground over pi."""
        directions, solid = panorama_directions(len(self.light))
        return (self.light * (directions[..., 2:].clamp(min=0) * solid[..., None])).sum((0, 1)) / math.pi


def panorama_directions(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (r, 2 r, 3), z up, the middle column along +x, and solid angles (r, 2 r) [sr] of a panorama."""
    down = (torch.arange(rows) + 0.5) * (math.pi / rows)
    around = math.pi - (torch.arange(2 * rows) + 0.5) * (math.pi / rows)
    ring, height = down.sin()[:, None], down.cos()[:, None].expand(rows, 2 * rows)
    directions = torch.stack([ring * around.cos(), ring * around.sin(), height], -1)
    edges = torch.linspace(0, math.pi, rows + 1).cos()
    solid = (edges[:-1] - edges[1:])[:, None].expand(rows, 2 * rows) * (math.pi / rows)
    return directions, solid
