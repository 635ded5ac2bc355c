"""Photographs behind the object, in place of road, sky and surroundings."""

import dataclasses

import torch

from simengine.ops.light.ray_scene import RaySurface
from simengine.ops.light.raycast import RayBuffers
from simengine.render.tone import ToneCurve, encode_srgb


@dataclasses.dataclass(frozen=True, eq=False)
class BackgroundPhotograph:
    """A photograph.

    Attributes:
        name: Of its file.
        light: As a screen shows it, linear and in [0, 1], (h, w, 3).
    """

    name: str
    light: torch.Tensor

    def behind(self, size: tuple[int, int]) -> torch.Tensor:
        """Radiance that the usual tone curve shows as the photograph: its middle, as wide as the picture allows.

        Args:
            size: Height and width [pixels], at most those of the photograph.

        Returns:
            Shape (h, w, 3).
        """
        h, w = self.light.shape[:2]
        scale = min(h / size[0], w / size[1])
        rows, columns = round(scale * size[0]), round(scale * size[1])
        top, left = (h - rows) // 2, (w - columns) // 2
        middle = self.light[top : top + rows, left : left + columns].permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(middle, size, mode="area")
        return ToneCurve().decode(encode_srgb(small))[0].permute(1, 2, 0)


def behind(view: RayBuffers, ground: RayBuffers, photo: torch.Tensor) -> torch.Tensor:
    """Light that is not of the paint, (h, w, 3), with a photograph in place of what stands behind all labelled things.

    To the photograph is added what they change in a rendered scene: their shadows, and light from them.

    Args:
        view: With the labelled things, and nothing else on the ground.
        ground: The same view of ground and sky alone.
        photo: Of `BackgroundPhotograph.behind`.

    Source: Debevec, "Rendering synthetic objects into real scenes", SIGGRAPH 1998, section 6 (differential rendering).
    """
    free = (view.instance == 0).to(photo.dtype).mean(-1, keepdim=True)
    return (view.offset + free * (photo - ground.radiance)).clamp(min=0)


def speck() -> RaySurface:
    """A triangle far below the ground, where there is nothing else to cast rays at."""
    one = torch.zeros(1)
    return RaySurface(
        vertices=torch.tensor([[0.0, 0.0, -1e3], [1e-3, 0.0, -1e3], [0.0, 1e-3, -1e3]]),
        faces=torch.tensor([[0, 1, 2]]),
        material=torch.zeros(1, dtype=torch.long),
        albedo=torch.zeros(1, 3),
        roughness=torch.ones(1),
        reflectance=one,
        painted=one.bool(),
        part=one.bool(),
    )
