"""Pictures of a flame: its profile laid out in space, the temperature as a slice, the light by rays."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simengine.flame.emission import Emission
from simengine.render import PinholeCamera, render_volume
from simengine.render.tone import encode_srgb
from simengine.render.volumes import Volume

Shape = Literal["cone", "disc"]
BLUE = Emission(kappa=1e-4, efficiency=1e-4)  # a flame without soot, whose light is that of reaction


def flame_volume(
    profiles: Mapping[str, torch.Tensor], shape: Shape, emission: Emission, *, cells: int = 72
) -> tuple[Volume, torch.Tensor, float]:
    """A flame in space: the light of its gas, and its temperature.

    A cone is the flame on a round burner whose gas flows at twice the flame speed, so that its side stands at 30
    degrees to the axis; a disc is a flat flame. The profile is that across the flame; curvature is neglected, so
    the tip is rounder and brighter in nature.

    Args:
        profiles: `x`, `T`, `heat`, each (q,), of a solution.
        shape: How it stands.
        emission: How it shines.
        cells: Across the box; along the axis half as many more.

    Returns:
        The volume, temperature of its cells (cells, 3/2 cells, cells) [K], and half the width of the box [m].
    """
    x, T, heat = (profiles[name] for name in ("x", "T", "heat"))
    thickness = _thickness(x, heat)
    half = 9 * thickness if shape == "cone" else 12 * thickness
    tall = 3 * cells // 2
    axis = torch.linspace(-half, half, cells, dtype=x.dtype)
    up = torch.linspace(0, 3 * half, tall, dtype=x.dtype)
    X, Z_up, Z = torch.meshgrid(axis, up, axis, indexing="ij")
    radius = (X * X + Z * Z).sqrt()
    middle = float(x[heat.argmax()])
    if shape == "cone":  # distance from the side of a cone of half angle 30 degrees, positive outside, in the burnt gas
        base, slope = 0.75 * half, math.radians(30)
        across = (radius - base) * math.cos(slope) + Z_up * math.sin(slope)
        edge = torch.ones_like(radius)
    else:
        across = Z_up - 1.5 * half
        edge = torch.sigmoid((0.8 * half - radius) / (0.05 * half))
    at = (across + middle).clamp(float(x[0]), float(x[-1]))
    temperature = _interpolate(x, T, at)
    temperature = float(T[0]) + (temperature - float(T[0])) * edge
    light = emission(temperature, _interpolate(x, heat, at).clamp_min(0.0) * edge)
    box = Volume(
        density=torch.full_like(temperature, emission.kappa).float(),
        source=light.float(),
        lower=(-half, 0.0, -half),
        upper=(half, 3 * half, half),
        emission=True,
    )
    return box, temperature, half


def _thickness(x: torch.Tensor, heat: torch.Tensor) -> float:
    """Full width at half maximum of the heat release [m]."""
    inside = x[heat > 0.5 * heat.max()]
    return max(float(inside.max() - inside.min()), float(x[-1] - x[0]) / 400)


def _interpolate(x: torch.Tensor, y: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    keep = torch.cat((torch.ones(1, dtype=torch.bool), x.diff() > 0))
    x, y = x[keep], y[keep]
    k = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    share = (at - x[k - 1]) / (x[k] - x[k - 1])
    return y[k - 1] + (y[k] - y[k - 1]) * share


def _camera(half: float, elevation: float, size: int) -> PinholeCamera:
    middle = 1.5 * half
    reach = 9.0 * half
    eye = (0.0, middle + reach * math.sin(elevation), reach * math.cos(elevation))
    return PinholeCamera.look_at(
        eye, (0.0, middle, 0.0), fov_y=math.radians(22), width=2 * size // 3, height=size, dtype=torch.float32
    )


def picture_flame(
    profiles: Mapping[str, Any], file: Path, *, shape: Shape = "cone", emission: Emission | None = None, fps: float = 30
) -> Path:
    """Write the picture of a flame: temperature in the plane of the axis beside the light seen by a camera.

    Args:
        profiles: `x`, `T`, `heat` as arrays.
        file: A .png, or a .gif or .mp4 in which the camera rises.
        shape: How the flame stands.
        emission: How it shines.
        fps: Of a video.
    """
    from matplotlib import colormaps

    from simengine.io.registry import write

    tensors = {name: torch.as_tensor(np.asarray(profiles[name]), dtype=torch.float64) for name in ("x", "T", "heat")}
    box, temperature, half = flame_volume(tensors, shape, emission or BLUE)
    size = 288
    slice_ = temperature[:, :, temperature.shape[2] // 2].T.flip(0)  # (up, across)
    level = ((slice_ - slice_.min()) / (slice_.max() - slice_.min())).numpy()
    coloured = torch.as_tensor(colormaps["inferno"](level)[..., :3]).permute(2, 0, 1)[None]
    height = size
    coloured = torch.nn.functional.interpolate(coloured, size=(height, 2 * size // 3), mode="bilinear")[0]
    left = (255 * coloured.permute(1, 2, 0)).round().to(torch.uint8).numpy()
    moving = file.suffix.lower() in (".gif", ".mp4")
    frames, exposure = [], 0.0
    for elevation in np.linspace(0.0, math.radians(45), 16) if moving else (math.radians(8),):
        light = render_volume(box, _camera(half, float(elevation), size)).rgb.clamp_min(0.0)
        exposure = exposure or 2.5 / float(light.quantile(0.995).clamp_min(1e-12))
        right = (255 * encode_srgb(1 - torch.exp(-exposure * light))).round().to(torch.uint8).numpy()
        frames.append(np.concatenate((left, right), axis=1))
    if moving:
        write(file, np.stack([*frames, *frames[::-1]]), fps=fps)
    else:
        write(file, frames[0])
    return file
