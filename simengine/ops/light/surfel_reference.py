"""Compositing of oriented Gaussian discs in plain torch: every disc in every pixel, memory n h w."""

import math

import torch

CUTOFF = 3.0
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4


def composite_surfels(
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    *,
    width: int,
    height: int,
    least_width: float = 0.5**0.5,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.light.surfel.composite_surfels`; its derivatives are torch's.

    Source: Huang et al. 2024, 2D Gaussian Splatting, eq. 8-11 and 19; weights end continuously at CUTOFF.
    """
    order = torch.argsort(depth_keys(transforms.detach()), stable=True)
    order = order[visible(transforms.detach())[order]]
    M, opacity, features = transforms[order], opacity[order], features[order]
    n = len(M)
    weight, z = _weights(M, width=width, height=height, least_width=least_width)
    alpha = (opacity * weight).clamp_max(MAX_ALPHA)
    ahead = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha], dim=1), dim=1)
    light = torch.where(ahead[:, :n] > MIN_TRANSMITTANCE, ahead[:, :n], torch.zeros_like(alpha))
    contribution = light * alpha
    crossing = (ahead[:, :n] > 0.5) & (ahead[:, 1:] <= 0.5)
    return (
        (contribution @ features).reshape(height, width, -1),
        contribution.sum(dim=1).reshape(height, width),
        (contribution * z).sum(dim=1).reshape(height, width),
        (crossing * z.detach()).sum(dim=1).reshape(height, width),
    )


def visible(transforms: torch.Tensor) -> torch.Tensor:
    """Which discs lie before the plane of the eye, at least in part, out to the cut-off; shape (n,), bool."""
    return transforms[:, 2, 2] + _reach(transforms) > 0


def wholly_ahead(transforms: torch.Tensor) -> torch.Tensor:
    """Which discs lie wholly before the plane of the eye, out to the cut-off; shape (n,), bool."""
    return transforms[:, 2, 2] > _reach(transforms)


def depth_keys(transforms: torch.Tensor) -> torch.Tensor:
    """Orders discs [m]: the depth of the centre, or of the farthest point of one that reaches behind the eye.

    So what stands on a floor is before it.
    """
    depth, reach = transforms[:, 2, 2], _reach(transforms)
    return torch.where(depth > reach, depth, depth + reach)


def _reach(transforms: torch.Tensor) -> torch.Tensor:
    """How much farther than its centre a disc goes in depth [m], shape (n,)."""
    return CUTOFF * transforms[:, 2, :2].norm(dim=-1)


def average_surfels(
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    front: torch.Tensor,
    *,
    thickness: float,
    least_width: float = 0.5**0.5,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.light.surfel_average.average_surfels`; its derivatives are torch's."""
    height, width = front.shape
    seen = visible(transforms.detach())
    M, opacity, features = transforms[seen], opacity[seen], features[seen]
    weight, z = _weights(M, width=width, height=height, least_width=least_width)
    surface = front.detach().reshape(-1, 1)
    near = ((z.detach() - surface).abs() < thickness) & (surface > 0)
    weight = torch.where(near, opacity * weight, torch.zeros_like(weight))
    sums = (weight @ features).reshape(height, width, -1)
    return sums, weight.sum(dim=1).reshape(height, width), (weight * z).sum(dim=1).reshape(height, width)


def _weights(M: torch.Tensor, *, width: int, height: int, least_width: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and depth of each disc in each pixel, shape (pixels, n) each."""
    dtype = M.dtype
    x = (torch.arange(width, dtype=dtype) + 0.5).expand(height, width).reshape(-1, 1, 1)
    y = (torch.arange(height, dtype=dtype) + 0.5)[:, None].expand(height, width).reshape(-1, 1, 1)
    Tu, Tv, Tw = M[:, 0], M[:, 1], M[:, 2]
    k = torch.linalg.cross(x * Tw - Tu, y * Tw - Tv)  # (pixels, n, 3)
    edge_on = k[..., 2].abs() < 1e-30
    kz = torch.where(edge_on, torch.ones_like(k[..., 2]), k[..., 2])
    u, v = k[..., 0] / kz, k[..., 1] / kz
    rho_disc = torch.where(edge_on, torch.full_like(u, 1e12), u**2 + v**2)
    z_disc = Tw[:, 0] * u + Tw[:, 1] * v + Tw[:, 2]
    rho_disc = torch.where(edge_on | (z_disc > 0), rho_disc, torch.full_like(u, 1e12))
    ahead = Tw[:, 2] > 0  # a centre behind the eye is in no pixel
    depth = torch.where(ahead, Tw[:, 2], torch.ones_like(Tw[:, 2]))
    rho_pixel = least_width**-2 * ((x[..., 0] - Tu[:, 2] / depth) ** 2 + (y[..., 0] - Tv[:, 2] / depth) ** 2)
    rho_pixel = torch.where(ahead, rho_pixel, torch.full_like(rho_pixel, 1e12))
    tilted = rho_disc <= rho_pixel
    rho = torch.where(tilted, rho_disc, rho_pixel)
    z = torch.where(tilted, z_disc, Tw[:, 2])
    edge = math.exp(-(CUTOFF**2) / 2)
    weight = ((torch.exp(-rho / 2) - edge) / (1 - edge)).clamp_min(0)
    return weight, z
