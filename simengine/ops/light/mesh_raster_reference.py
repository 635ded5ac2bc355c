"""What `simengine.ops.light.mesh_raster` finds, in plain torch: every triangle and every edge at every pixel."""

import torch


def barycentric(corners: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Barycentric coordinates, in space, of where the rays of pixels meet the planes of triangles; differentiable.

    Args:
        corners: Homogeneous pixel coordinates, shape (..., 3, 3).
        pixels: Pixel coordinates (x, y), shape (..., 2), broadcast against the triangles.

    Returns:
        Shape (..., 3), sums to 1.

    Source: Olano and Greer 1997, with corners relative to the pixel, which keeps float32 exact to 1e-6 of a pixel.
    """
    w = corners[..., :2] - pixels[..., None, :] * corners[..., 2:]
    p, q = w[..., [1, 2, 0], :], w[..., [2, 0, 1], :]
    e = p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    total = e.sum(-1, keepdim=True)
    return e / torch.where(total == 0, torch.ones_like(total), total)


def pixel_centres(width: int, height: int, like: torch.Tensor) -> torch.Tensor:
    """Coordinates (x, y) of the pixel centres, shape (h, w, 2)."""
    y, x = torch.meshgrid(torch.arange(height).to(like) + 0.5, torch.arange(width).to(like) + 0.5, indexing="ij")
    return torch.stack([x, y], dim=-1)


def depth_of(corners: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    """Depth of the triangle that each pixel shows [m], 0 where it shows none, shape (h, w)."""
    seen = face >= 0
    depth = torch.zeros(face.shape, dtype=corners.dtype, device=corners.device)
    own = corners[face[seen]]
    centres = pixel_centres(face.shape[1], face.shape[0], corners)[seen]
    depth[seen] = (barycentric(own, centres) * own[..., 2]).sum(-1)
    return depth


def draw_triangles(corners: torch.Tensor, *, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.light.mesh_raster.draw_triangles`."""
    if not len(corners):
        none = torch.full((height, width), -1, dtype=torch.int64, device=corners.device)
        return none, depth_of(corners, none)
    b = barycentric(corners, pixel_centres(width, height, corners)[:, :, None])  # (h, w, f, 3)
    z = (b * corners[..., 2]).sum(-1)
    total = torch.linalg.det(corners) != 0
    z = torch.where((b >= 0).all(-1) & (z > 0) & total, z, torch.inf)
    nearest, face = z.min(dim=-1)
    face = torch.where(nearest.isinf(), -1, face)
    return face, depth_of(corners, face)


def draw_outlines(
    edges: torch.Tensor, side: torch.Tensor, face: torch.Tensor, depth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same as `simengine.ops.light.mesh_raster.draw_outlines`."""
    near = 1e-3 * edges[..., 2].amax(-1)
    a, b = edges.unbind(1)
    a, b = _clip(a, b, near), _clip(b, a, near)
    ends = torch.stack([a, b], dim=1)
    known, depth = near > 0, torch.where(face >= 0, depth, torch.inf)
    down = _links(ends, side, depth, known)
    turned = ends[..., [1, 0, 2]]  # rows and columns exchanged, which turns the sign of the determinant
    across = _links(turned, -side, depth.T, known).T
    return down, across


def _clip(a: torch.Tensor, b: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    short = (a[:, 2] < near) & (a[:, 2] != b[:, 2])
    share = (near - a[:, 2]) / torch.where(short, b[:, 2] - a[:, 2], 1.0)
    return torch.where(short[:, None], a + share[:, None] * (b - a), a)


def _links(ends: torch.Tensor, side: torch.Tensor, depth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The nearest edge between pixels (row, column) and (row + 1, column), shape (h - 1, w)."""
    height, width = depth.shape
    x = torch.arange(width).to(ends) + 0.5
    (ua, ub) = (ends[:, k, 0, None] - x * ends[:, k, 2, None] for k in (0, 1))  # (e, w)
    az, bz, ay, by = (ends[:, k, c, None] for c in (2, 1) for k in (0, 1))
    crossing = ((ua > 0) != (ub > 0)) & known[:, None]
    z = (ua * bz - ub * az) / torch.where(crossing, ua - ub, 1.0)
    scale = ua * bz - ub * az
    row = ((ua * by - ub * ay) / torch.where(crossing, scale, 1.0) - 0.5).floor().long()
    crossing &= (row >= 0) & (row < height - 1)
    row = row.clamp(0, max(height - 2, 0))
    upward = -scale * side[:, None] < 0  # the surface lies above
    columns = torch.arange(width).expand_as(row)
    inner, outer = depth[row + (~upward).long(), columns], depth[row + upward.long(), columns]
    crossing &= ~inner.isinf() & ~(outer < z)
    found = torch.full((len(ends), height - 1, width), torch.inf, dtype=ends.dtype, device=ends.device)
    index, column = crossing.nonzero(as_tuple=True)
    found[index, row[index, column], column] = z[index, column]
    if not len(ends):
        return torch.full((height - 1, width), -1, dtype=torch.int64, device=ends.device)
    nearest, edge = found.min(dim=0)
    return torch.where(nearest.isinf(), -1, edge)
