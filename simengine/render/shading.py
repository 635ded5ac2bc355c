"""From a depth image to a picture: positions along the rays, normals from neighbours, shading (Pix2Shape's path)."""

from collections.abc import Sequence

import torch

from simengine.render.brdf import Material, shade
from simengine.render.camera import PinholeCamera
from simengine.render.lights import Light


def shade_depth(
    depth: torch.Tensor,
    camera: PinholeCamera,
    material: Material,
    lights: Sequence[Light],
    *,
    ambient: float | torch.Tensor = 0.0,
) -> torch.Tensor:
    """Picture a surface that is given by its depth in each pixel; lights stand in camera coordinates.

    Args:
        depth: Depth z at the pixel centres [m], all positive, shape (h, w).
        camera: The camera that sees it.
        material: One for all, or maps of shape (h, w, ...).
        lights: Their positions and directions in camera coordinates.
        ambient: Times the colour of the material, added once.

    Returns:
        Linear RGB, shape (h, w, 3), differentiable in depth, material, lights and intrinsics.

    Source: Rajeswar et al. 2020, Pix2Shape, section 3.2.
    """
    if depth.shape != (camera.height, camera.width):
        raise ValueError(f"depth: expected shape {(camera.height, camera.width)}, got {tuple(depth.shape)}")
    # each component is a plane in memory, which makes what follows twice as fast; normals as of `normals_of_depth`
    points = (camera.directions().permute(2, 0, 1) * depth).contiguous()
    padded = torch.nn.functional.pad(points[None], (1, 1, 1, 1), mode="replicate")[0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    normals = torch.linalg.cross(down, across, dim=0)
    normals = normals * normals.square().sum(0).clamp_min(1e-40).rsqrt()
    points, normals = points.permute(1, 2, 0), normals.permute(1, 2, 0)
    return shade(points, normals, torch.zeros_like(points[0, 0]), material, lights, ambient=ambient)


def normals_of_depth(depth: torch.Tensor, alpha: torch.Tensor, camera: PinholeCamera, *, blur: int = 0) -> torch.Tensor:
    """Unit normals in camera coordinates that look towards the camera, from central differences of a depth image.

    Depth is averaged with the coverage as weight, so that what covers nothing has no say.

    Args:
        depth: Depth z [m], shape (h, w).
        alpha: Coverage in [0, 1], shape (h, w).
        camera: The camera that saw it.
        blur: Passes of a 3 x 3 mean before differences are taken.

    Returns:
        Normals (h, w, 3); (0, 0, -1) where nothing is covered.
    """
    weight = alpha.detach().clamp(0, 1)[None, None]
    total = depth[None, None] * weight
    pool = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    for _ in range(blur):
        total, weight = pool(total), pool(weight)
    # 3 x 3 holes filled with the mean around them, so that a silhouette does not turn into a cliff
    around, around_weight = pool(total), pool(weight)
    own = weight[0, 0] > 0.5
    fallback = around[0, 0] / around_weight[0, 0].clamp_min(1e-6)
    z = torch.where(own, total[0, 0] / weight[0, 0].clamp_min(1e-6), fallback)
    points = camera.directions() * z[..., None]
    padded = torch.nn.functional.pad(points.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    known = torch.nn.functional.pad(own[None, None].to(z), (1, 1, 1, 1), mode="replicate")[0, 0][..., None] > 0
    middle = padded[1:-1, 1:-1]

    def neighbour(rows: slice, columns: slice) -> torch.Tensor:
        return torch.where(known[rows, columns], padded[rows, columns], middle)

    inner = slice(1, -1)
    across = neighbour(inner, slice(2, None)) - neighbour(inner, slice(None, -2))
    down = neighbour(slice(2, None), inner) - neighbour(slice(None, -2), inner)
    normal = -torch.linalg.cross(across, down)
    length = normal.norm(dim=-1, keepdim=True)
    towards = torch.zeros_like(normal)
    towards[..., 2] = -1
    usable = own[..., None] & (length > 1e-20)
    return torch.where(usable, normal / length.clamp_min(1e-20), towards)
