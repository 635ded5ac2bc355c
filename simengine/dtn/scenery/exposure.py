"""What a camera makes of a view's light: streaks of rain while its shutter is open, and its metering."""

import dataclasses

import torch

from simengine.dtn.scenery.skies import LUMINANCE
from simengine.dtn.weather.rain import BRIGHT
from simengine.ops.light.ray_scene import Vector
from simengine.ops.light.raycast import RayBuffers

GREY = 0.18  # mean luminance that a camera that meters brightens a dark view to [W/(m^2 sr)]


def streaked(buffers: RayBuffers, covered: torch.Tensor, airlight: Vector) -> RayBuffers:
    """Buffers with streaks of rain before them.

    Args:
        buffers: Of the view without them.
        covered: Share of each pixel's exposure that drops cover (h, w), of `simengine.dtn.weather.rain.streaks`.
        airlight: Radiance of the surroundings, which drops look like [W/(m^2 sr)].
    """
    share = covered[..., None]
    light = BRIGHT * share * torch.tensor(airlight)
    return dataclasses.replace(
        buffers,
        gain=(1 - share) * buffers.gain,
        offset=(1 - share) * buffers.offset + light,
        radiance=(1 - share) * buffers.radiance + light,
    )


def metered(buffers: RayBuffers, most: float) -> RayBuffers:
    """Buffers as a camera exposes them that brightens dark views, by the geometric mean of what it sees.

    Args:
        buffers: Of the view.
        most: Largest factor; 1 leaves all as it is.
    """
    if most == 1:
        return buffers
    luminance = buffers.radiance @ torch.tensor(LUMINANCE)
    mean = float(luminance.clamp(min=1e-7).log().mean().exp())
    factor = min(max(GREY / mean, 1.0), most)
    changed = {name: factor * getattr(buffers, name) for name in ("gain", "offset", "radiance")}
    return dataclasses.replace(buffers, **changed)
