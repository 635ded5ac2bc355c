"""Soft shadows: what a light's own picture hides from points."""

import torch

from simengine.render.brdf import soft_shadow
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image


def shadow_of(
    points: torch.Tensor, image: Image, camera: PinholeCamera, *, bias: float, softness: float
) -> torch.Tensor:
    """Which part of a light arrives at points, for `visibility` of `shade`.

    Differentiable in the points, the light's picture and its camera.

    Args:
        points: In the world [m], shape (..., 3).
        image: What the light sees, by any renderer with depth and alpha.
        camera: Where the light stands, and what it looks at; beyond its picture nothing is hidden.
        bias: How far behind the nearest surface a point is still half lit [m]; above the depth of a disc or pixel.
        softness: Width of the transition in depth [m].

    Returns:
        Shape (..., 1).

    Raises:
        ValueError: The camera is a batch, the picture has another size, or a length is not positive.
    """
    if camera.batch_shape or image.depth.shape != (camera.height, camera.width, 1):
        raise ValueError(
            f"image, camera: expected one camera and its picture of {camera.width} x {camera.height} pixels, "
            f"got batch {tuple(camera.batch_shape)} and depth {tuple(image.depth.shape)}"
        )
    if not (bias >= 0 and softness > 0):
        raise ValueError(f"bias, softness: expected lengths of at least and above 0 m, got {bias} and {softness}")
    flat = points.reshape(-1, 3)
    x, y, z = camera.project(flat).unbind(-1)
    ahead = z > 0
    place = torch.stack([x / camera.width, y / camera.height], dim=-1) * 2 - 1  # -1 and 1 are the border
    place = torch.where(ahead[:, None], place, torch.full_like(place, 9.0))
    # alpha times depth is what blends; depth alone would fall towards 0 at an outline
    blended = torch.cat([image.alpha * image.depth, image.alpha], dim=-1).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(blended, place[None, None], align_corners=False)[0, :, 0]
    total, alpha = sampled.unbind(0)
    covered = alpha > 1e-6
    depth = torch.where(covered, total / torch.where(covered, alpha, 1.0), z + 1e3 * softness)
    lit = soft_shadow(depth, z, bias=bias, softness=softness)
    return (1 - alpha * (1 - lit)).reshape(*points.shape[:-1], 1)
