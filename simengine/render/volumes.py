"""Volumes: boxes of density and source on a grid, pictured by emission and absorption."""

import dataclasses
from collections.abc import Sequence

import torch

from simengine.ops.light.volume import march_rays
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume:
    """A box of cells; density and source are those of the middle of each cell, trilinear in between.

    Attributes:
        density: What is absorbed per length [1/m], shape (nx, ny, nz).
        source: With `emission` the radiance that is added per length [1/m], otherwise the source function: the
            radiance of a depth of the medium that lets nothing through; shape (nx, ny, nz, c).
        lower: Lowest corner of the box [m], shape (3,).
        upper: Highest corner [m], shape (3,).
        emission: What `source` means. A medium that emits without absorbing (a flame) needs True.
        sparse: Whether bricks of 8^3 cells that hold nothing are to stay so: they are passed over by the gradient too,
            which is 0 there. The picture passes over them in any case.
    """

    density: torch.Tensor
    source: torch.Tensor
    lower: torch.Tensor | Sequence[float] = (-1.0, -1.0, -1.0)
    upper: torch.Tensor | Sequence[float] = (1.0, 1.0, 1.0)
    emission: bool = False
    sparse: bool = False

    def __post_init__(self) -> None:
        if self.density.ndim != 3 or 0 in self.density.shape:
            raise ValueError(
                f"density: expected shape (nx, ny, nz) without an empty axis, got {tuple(self.density.shape)}"
            )
        if self.source.ndim != 4 or self.source.shape[:3] != self.density.shape:
            raise ValueError(
                f"source: expected shape {(*self.density.shape, 'c')} as of density, got {tuple(self.source.shape)}"
            )
        corners = torch.as_tensor(self.lower), torch.as_tensor(self.upper)
        if not bool((corners[1] > corners[0]).all()):
            raise ValueError(f"upper: expected above lower along each axis, got {self.lower} and {self.upper}")


def render_volume(
    volume: Volume,
    camera: PinholeCamera,
    *,
    background: torch.Tensor | float = 0.0,
    step: float | None = None,
    samples: int = 1,
    num_threads: int = 1,
) -> Image:
    """Picture a volume by one camera, or by each camera of a batch; the camera may be inside.

    Differentiable in density, source, pose, intrinsics and background.

    Args:
        volume: The medium.
        camera: One camera, or a batch of any shape.
        background: Radiance behind the volume: a number, (c,) or an image (h, w, c).
        step: Longest step of the rays [m]; None for half the smallest side of a cell.
        samples: Rays per side of a pixel; the picture is their mean.
        num_threads: Threads on a CPU; the bits do not depend on it.

    Returns:
        The image; its tensors lead with the batch shape of the camera.
    """
    lower = torch.as_tensor(volume.lower, dtype=volume.density.dtype, device=volume.density.device)
    upper = torch.as_tensor(volume.upper, dtype=volume.density.dtype, device=volume.density.device)
    cell = (upper - lower) / torch.tensor(volume.density.shape, dtype=lower.dtype, device=lower.device)
    step = float(cell.min()) / 2 if step is None else step
    fine = camera.resized(camera.width * samples, camera.height * samples) if samples > 1 else camera
    origins, directions = fine.rays()
    shape = directions.shape[:-1]
    cosine = 1 / fine.directions().norm(dim=-1)  # z = t cosine
    origins, directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
    near, far = intersect_box(origins, directions, lower, upper)
    light, alpha, distance = march_rays(
        torch.cat([volume.density[..., None], volume.source], dim=-1),
        (origins - lower) / cell - 0.5,
        directions / cell,
        near,
        far,
        step=step,
        emission=volume.emission,
        sparse=volume.sparse,
        num_threads=num_threads,
    )
    light, alpha = light.reshape(*shape, -1), alpha.reshape(*shape, 1)
    depth = distance.reshape(*shape, 1) * cosine[..., None]
    if samples > 1:
        light, alpha, depth = (_mean_blocks(value, samples) for value in (light, alpha, depth))
    background = torch.as_tensor(background, dtype=light.dtype, device=light.device)
    covered = alpha > 1e-6
    return Image(
        rgb=light + (1 - alpha) * background,
        alpha=alpha,
        depth=torch.where(covered, depth / torch.where(covered, alpha, 1.0), 0.0),
    )


def intersect_box(
    origins: torch.Tensor, directions: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances at which rays (m, 3) enter and leave a box, from the origin on; equal where they miss it.

    Returns:
        Two tensors (m,), differentiable in the rays away from edges of the box.
    """
    parallel = directions.abs() < 1e-12
    safe = torch.where(parallel, torch.full_like(directions, 1e-12), directions)
    a, b = (lower - origins) / safe, (upper - origins) / safe
    near = torch.minimum(a, b).amax(dim=-1).clamp_min(0)
    far = torch.maximum(a, b).amin(dim=-1)
    hit = far > near
    zero = torch.zeros_like(near)
    return torch.where(hit, near, zero), torch.where(hit, far, zero)


def _mean_blocks(image: torch.Tensor, samples: int) -> torch.Tensor:
    """Mean over blocks of samples^2 pixels of an image (..., h, w, c)."""
    *batch, h, w, c = image.shape
    return image.reshape(*batch, h // samples, samples, w // samples, samples, c).mean(dim=(-4, -2))
