"""Marching rays through a grid of density and source in plain torch: every sample of every ray is stored."""

import torch


def march_rays(
    field: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    near: torch.Tensor,
    far: torch.Tensor,
    *,
    step: float,
    emission: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.volume.march_rays`; its derivatives are torch's.

    Source: Max 1995, Optical models for direct volume rendering, eq. 11, with piecewise constant density and source.
    """
    count = torch.where(far > near, ((far - near) / step - 1e-3).ceil().clamp_min(1), 0.0).detach()
    longest = int(count.max()) if len(count) else 0
    i = torch.arange(longest, dtype=field.dtype, device=field.device)
    d = (far - near) / count.clamp_min(1)
    t = near[:, None] + (i + 0.5) * d[:, None]  # (m, samples)
    d = torch.where(i < count[:, None], d[:, None], torch.zeros_like(t))
    value = trilinear(field, origins[:, None] + t[..., None] * directions[:, None])
    x = value[..., 0] * d
    absorbed = -torch.expm1(-x)
    small = x.abs() < 1e-6
    phi = torch.where(small, 1 - x / 2, absorbed / torch.where(small, torch.ones_like(x), x))
    w = d * phi if emission else absorbed
    transmittance = torch.exp(-torch.cat([torch.zeros_like(x[:, :1]), x.cumsum(dim=1)], dim=1))
    if longest == 0:
        transmittance = torch.ones_like(near)[:, None]
    light = transmittance[:, :longest]
    source = ((light * w)[..., None] * value[..., 1:]).sum(dim=1)
    distance = (light * absorbed * t).sum(dim=1)
    return source, 1 - transmittance[:, -1], distance


def trilinear(field: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Values of a grid (n0, n1, n2, c) at grid coordinates (..., 3), constant beyond the outermost nodes."""
    sizes = torch.tensor(field.shape[:3], device=field.device)
    clamped = torch.minimum(positions.clamp_min(0), (sizes - 1).to(positions.dtype))
    lower = torch.minimum(clamped.detach().floor().long(), (sizes - 2).clamp_min(0))
    upper = torch.minimum(lower + 1, sizes - 1)
    a, b, c = (clamped - lower).unsqueeze(-1).unbind(-2)

    def at(i: torch.Tensor, j: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return field[i[..., 0], j[..., 1], k[..., 2]]

    low = (1 - b) * ((1 - c) * at(lower, lower, lower) + c * at(lower, lower, upper))
    low = low + b * ((1 - c) * at(lower, upper, lower) + c * at(lower, upper, upper))
    high = (1 - b) * ((1 - c) * at(upper, lower, lower) + c * at(upper, lower, upper))
    high = high + b * ((1 - c) * at(upper, upper, lower) + c * at(upper, upper, upper))
    return (1 - a) * low + a * high
