"""Which points a camera sees: three formulations, each differentiable, for points sampled in space.

    shadow:         V = sigmoid((D(u) + b - z) / s)            a shadow map with a soft edge
    transmittance:  V = exp(-int_0^z sigma dt)                 marched through a density along the ray
    surfels:        V = exp(-sum of the depths of the discs)   of the surfels of every view that lie in front

Source: the idea of explicit visibility is that of Zhou et al. 2024, arXiv 2402.12886; the formulations are our own.
"""

import torch
from torch import nn

from simengine.render.camera import PinholeCamera


def sample(maps: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of maps (v, c, h, w) at pixel coordinates (v, n, 2), shape (v, n, c); the border goes on."""
    size = pixels.new_tensor([maps.shape[-1], maps.shape[-2]])
    grid = (2 * pixels / size - 1)[:, :, None]
    taken = nn.functional.grid_sample(maps, grid, align_corners=False, padding_mode="border")
    return taken[..., 0].transpose(1, 2)


def inside(pixels: torch.Tensor, depth: torch.Tensor, camera: PinholeCamera) -> torch.Tensor:
    """Which points fall into the pictures: pixel coordinates (v, n, 2) and depths (v, n); shape (v, n), bool."""
    x, y = pixels.unbind(-1)
    return (depth > 0) & (x >= 0) & (x <= camera.width) & (y >= 0) & (y <= camera.height)


def inverse_planes(near: float, far: float, count: int, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Depths of planes, evenly spaced in 1/z [m], near to far, shape (count,)."""
    return 1 / torch.linspace(1 / near, 1 / far, count, dtype=dtype)


def plane_edges(planes: torch.Tensor) -> torch.Tensor:
    """Depths between planes, and as far again beyond the first and the last [m], shape (d + 1,)."""
    between = (planes[1:] + planes[:-1]) / 2
    return torch.cat([2 * planes[:1] - between[:1], between, 2 * planes[-1:] - between[-1:]])


def density_of_probability(probability: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    """Density [1/m] whose rays stop in each layer with a given probability.

    Args:
        probability: That the surface is in the layer of a plane, shape (v, d, h, w).
        planes: Depths [m], shape (d,).
    """
    before = probability.cumsum(1) - probability
    hazard = (probability / (1 - before).clamp_min(1e-6)).clamp(0, 0.999)
    return -torch.log1p(-hazard) / plane_edges(planes).diff()[None, :, None, None]


def shadow_visibility(
    depth: torch.Tensor, spread: torch.Tensor, pixels: torch.Tensor, z: torch.Tensor, *, bias: torch.Tensor
) -> torch.Tensor:
    """By a soft shadow map.

    Args:
        depth: Of the nearest surface in each pixel [m], shape (v, h, w).
        spread: How uncertain it is [m], shape (v, h, w).
        pixels: Where points fall, shape (v, n, 2).
        z: Their depths [m], shape (v, n).
        bias: In units of `spread`, shape ().

    Returns:
        Visibility, shape (v, n).
    """
    surface, softness = sample(torch.stack([depth, spread], dim=1), pixels).unbind(-1)
    return torch.sigmoid((surface + bias * softness - z) / softness)


def transmittance_visibility(
    density: torch.Tensor, planes: torch.Tensor, pixels: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """By what is left of light along the ray of a camera: exp(-int_0^z sigma dt), per unit of depth.

    Args:
        density: In the layers of planes [1/m], constant in each, shape (v, d, h, w).
        planes: Depths [m], evenly spaced in 1/z, shape (d,).
        pixels: Where points fall, shape (v, n, 2).
        z: Depths up to which to march [m], shape (v, n).

    Returns:
        Visibility, shape (v, n).
    """
    edges = plane_edges(planes)
    passed = (density * edges.diff()[None, :, None, None]).cumsum(1)
    passed = torch.cat([torch.zeros_like(passed[:, :1]), passed], dim=1)  # up to each edge
    right = torch.searchsorted(edges, z.detach().contiguous()).clamp(1, len(edges) - 1)
    share = ((z - edges[right - 1]) / (edges[right] - edges[right - 1])).clamp(0, 1)
    columns = sample(passed, pixels)  # (v, n, d + 1)
    low, high = (columns.gather(2, index[..., None])[..., 0] for index in (right - 1, right))
    return torch.exp(-(low + share * (high - low)))


def surfel_density(
    points: torch.Tensor, camera: PinholeCamera, planes: torch.Tensor, *, opacity: float
) -> torch.Tensor:
    """Layered density of a cloud of surfels as each camera of a batch sees it.

    A surfel of the size of a pixel adds -log(1 - opacity) of optical depth, shared by the four pixels and two planes
    around it, so that the density is differentiable in the points.

    Args:
        points: In the world [m], shape (n, 3).
        camera: A batch of v cameras.
        planes: Depths [m], evenly spaced in 1/z, shape (d,).
        opacity: Of a surfel, below 1.

    Returns:
        Density [1/m], shape (v, d, h, w).
    """
    projected = camera.project(points)
    v, d, h, w = len(projected), len(planes), camera.height, camera.width
    x, y, z = projected[..., 0] - 0.5, projected[..., 1] - 0.5, projected[..., 2].clamp_min(1e-6)
    layer = (1 / planes[0] - 1 / z) / (1 / planes[0] - 1 / planes[-1]) * (d - 1)
    grid = torch.stack([layer, y, x], dim=-1)
    base = grid.detach().floor()
    rest = grid - base
    limits = torch.tensor([d, h, w])
    total = -torch.log1p(torch.tensor(-opacity, dtype=points.dtype))
    depth = points.new_zeros(v, d * h * w)
    for corner in range(8):
        offset = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        index = base.long() + offset
        weight = torch.where(offset.bool(), rest, 1 - rest).prod(-1)
        within = ((index >= 0) & (index < limits)).all(-1)
        flat = (index[..., 0] * h + index[..., 1]) * w + index[..., 2]
        depth = depth.scatter_add(1, torch.where(within, flat, 0), torch.where(within, weight * total, 0.0))
    return depth.view(v, d, h, w) / plane_edges(planes).diff()[None, :, None, None]
