"""Marching rays through a grid of density and source in plain torch: every sample of every ray is stored."""

import torch

BRICK = 8  # cells along a side


def march_rays(
    field: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    near: torch.Tensor,
    far: torch.Tensor,
    *,
    step: float,
    emission: bool = False,
    sparse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.light.volume.march_rays`; its derivatives are torch's.

    Source: Max 1995, Optical models for direct volume rendering, eq. 11, with piecewise constant density and source.
    """
    count = torch.where(far > near, ((far - near) / step - 1e-3).ceil().clamp_min(1), 0.0).detach()
    longest = int(count.max()) if len(count) else 0
    i = torch.arange(longest, dtype=field.dtype, device=field.device)
    d = (far - near) / count.clamp_min(1)
    t = near[:, None] + (i + 0.5) * d[:, None]  # (m, samples)
    d = torch.where(i < count[:, None], d[:, None], torch.zeros_like(t))
    points = origins[:, None] + t[..., None] * directions[:, None]
    value = trilinear(field, points)
    if sparse:
        value = torch.where(in_empty_brick(field.detach(), points.detach(), emission)[..., None], 0.0, value)
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


def in_empty_brick(field: torch.Tensor, points: torch.Tensor, emission: bool) -> torch.Tensor:
    """Whether all nodes of the brick of BRICK^3 cells around a point (..., 3) are empty, shape (...)."""
    sizes = torch.tensor(field.shape[:3], device=field.device)
    cell = torch.minimum(points.clamp_min(0), (sizes - 1).to(points)).floor().long()
    own = torch.minimum(cell, (sizes - 2).clamp_min(0)) // BRICK
    full = (field != 0).any(-1) if emission else field[..., 0] != 0
    busy = torch.zeros(tuple((int(n) - 2) // BRICK + 1 if n > 1 else 1 for n in sizes), dtype=torch.bool)
    for brick in torch.cartesian_prod(*(torch.arange(n) for n in busy.shape)):
        i, j, k = (slice(int(b) * BRICK, int(b) * BRICK + BRICK + 1) for b in brick)
        busy[tuple(brick)] = full[i, j, k].any()
    return ~busy[own.unbind(-1)]


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
