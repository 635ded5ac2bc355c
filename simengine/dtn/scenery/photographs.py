"""Photographs behind the object, in place of road, sky and surroundings."""

import functools
from pathlib import Path

import torch

from simengine.io.pictures import read_rgb
from simengine.ops.light.raycast import RayBuffers, RaySurface
from simengine.render.tone import ToneCurve, encode_srgb


@functools.lru_cache(maxsize=64)
def photograph(file: Path, size: tuple[int, int]) -> torch.Tensor:
    """Radiance that the usual tone curve shows as the photograph, (h, w, 3): its middle, as wide as the picture allows.

    Args:
        file: The photograph.
        size: Height and width [pixels].

    Raises:
        ValueError: It cannot be read, or is smaller than the picture.
    """
    light = torch.from_numpy(read_rgb(file)).clamp(0, 1).permute(2, 0, 1)[None]
    h, w = light.shape[2:]
    scale = min(h / size[0], w / size[1])
    if scale < 1:
        raise ValueError(
            f"{file.name}: {w} x {h} pixels; expected at least {size[1]} x {size[0]}, the size of the views"
        )
    rows, columns = round(scale * size[0]), round(scale * size[1])
    top, left = (h - rows) // 2, (w - columns) // 2
    cut = light[..., top : top + rows, left : left + columns]
    small = torch.nn.functional.interpolate(cut, size, mode="area")
    return ToneCurve().decode(encode_srgb(small))[0].permute(1, 2, 0)


def behind(with_object: RayBuffers, without: RayBuffers, photo: torch.Tensor) -> torch.Tensor:
    """Light that is not of the paint, (h, w, 3), with a photograph in place of what stands behind the object.

    To the photograph is added what the object changes in a rendered scene: its shadow, and light from it.

    Args:
        with_object: A view.
        without: The same view without the object.
        photo: Of `photograph`.

    Source: Debevec, "Rendering synthetic objects into real scenes", SIGGRAPH 1998, section 6 (differential rendering).
    """
    free = (1 - with_object.object)[..., None]
    return (with_object.offset + free * (photo - without.radiance)).clamp(min=0)


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
