"""Pictures and videos of particles without any graphics library: soft balls, lit from their depth image."""

import dataclasses
from typing import Any

import torch

from simengine.ops.light.surfel import composite_surfels
from simengine.render.camera import PinholeCamera
from simengine.render.shading import normals_of_depth
from simengine.render.surfels import finish_image, intrinsic_matrix

DEFAULT_COLOUR = (0.05, 0.25, 0.6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """How particles are shown.

    Attributes:
        background: Linear RGB behind the particles.
        light: Direction to the light, in camera coordinates (x right, y down, z forward).
        ambient: Share of light from everywhere; the rest comes from `light`.
        shading: Whether to light the particles; else each shows its colour.
    """

    background: tuple[float, float, float] = (0.9, 0.9, 0.92)
    light: tuple[float, float, float] = (-0.5, -0.8, -0.9)
    ambient: float = 0.35
    shading: bool = True


class SurfelRenderer:
    """Pictures particles as screen-facing Gaussian discs, composited and lit.

    Runs everywhere torch does. Without shading, the picture is differentiable in positions, colours and the camera.

    Args:
        camera: A single camera.
        radius: Radius of a particle [m]; None for 0.7 times the median distance between nearest
            neighbours in the first frame.
        look: Background and light.
        num_threads: Threads on a CPU.
    """

    def __init__(
        self,
        camera: PinholeCamera,
        *,
        radius: float | None = None,
        look: Look | None = None,
        num_threads: int = 1,
    ) -> None:
        if camera.batch_shape:
            raise ValueError("camera: SurfelRenderer takes a single camera, got a batch; index it")
        if radius is not None and not radius > 0:
            raise ValueError(f"radius: expected a positive length in metres, got {radius}")
        self.camera = camera
        self.radius = radius
        self.look: Look = look or Look()
        self.num_threads = num_threads

    def __call__(self, particles: Any, *, colours: torch.Tensor | None = None) -> torch.Tensor:
        """Picture particles.

        Args:
            particles: Positions [m] of shape (n, 3) or (frames, n, 3), or a trajectory with `.states.x` of that shape.
            colours: Linear RGB of shape (3,), (n, 3) or (frames, n, 3).

        Returns:
            Linear RGB of shape (h, w, 3), or (frames, h, w, 3).

        Raises:
            ValueError: A shape is wrong, or a position is not finite.
        """
        x = getattr(getattr(particles, "states", particles), "x", particles)
        x = torch.as_tensor(x).to(self.camera.intrinsics)
        if x.ndim not in (2, 3) or x.shape[-1] != 3:
            raise ValueError(f"particles: expected positions of shape (n, 3) or (frames, n, 3), got {tuple(x.shape)}")
        tint = x.new_tensor(DEFAULT_COLOUR) if colours is None else torch.as_tensor(colours).to(x)
        try:
            tint = tint.expand(x.shape)
        except RuntimeError as error:
            raise ValueError(
                f"colours: expected shape (3,), (n, 3) or (frames, n, 3) with n = {x.shape[-2]}, "
                f"got {tuple(tint.shape)}"
            ) from error
        if x.ndim == 2:
            return self._picture(x, tint, self.radius or neighbour_distance(x) * 0.7)
        if not len(x):
            raise ValueError("particles: the trajectory has no frames")
        radius = self.radius or neighbour_distance(x[0]) * 0.7
        return torch.stack([self._picture(frame, colour, radius) for frame, colour in zip(x, tint, strict=True)])

    def _picture(self, positions: torch.Tensor, colours: torch.Tensor, radius: float) -> torch.Tensor:
        camera, look = self.camera, self.look
        transforms = screen_discs(positions, camera, radius / 2)
        blended, alpha, depth, median = composite_surfels(
            transforms,
            positions.new_full((len(positions),), 0.97),
            colours.contiguous(),
            width=camera.width,
            height=camera.height,
            num_threads=self.num_threads,
        )
        background = positions.new_tensor(look.background)
        if not look.shading:
            return finish_image(blended, alpha, depth, median, background=background, normals=False).rgb
        image = finish_image(blended, alpha, depth, median, background=0.0, normals=False)
        normal = normals_of_depth(image.depth[..., 0], image.alpha[..., 0], camera, blur=2)
        light = torch.nn.functional.normalize(positions.new_tensor(look.light), dim=0)
        lambert = (normal @ light).clamp_min(0)[..., None]
        mirrored = (2 * lambert * normal - light)[..., 2:]  # towards the camera is -z
        gloss = 0.25 * (-mirrored).clamp_min(0) ** 24
        lit = image.rgb * (look.ambient + (1 - look.ambient) * lambert) + image.alpha * gloss
        return lit + (1 - image.alpha) * background


def screen_discs(positions: torch.Tensor, camera: PinholeCamera, scale: float | torch.Tensor) -> torch.Tensor:
    """Transforms for `composite_surfels` of round discs parallel to the picture; `scale` is the deviation [m]."""
    centres = camera.to_camera(positions)
    scale = torch.as_tensor(scale, dtype=positions.dtype, device=positions.device).expand(len(positions))
    tangents = scale[:, None, None] * torch.eye(3, dtype=positions.dtype, device=positions.device)[:, :2]
    return intrinsic_matrix(camera) @ torch.cat([tangents, centres[:, :, None]], dim=-1)


def neighbour_distance(positions: torch.Tensor) -> float:
    """Median distance of particles to their nearest neighbours [m], from at most 512 of them; 1 for a single one."""
    n = len(positions)
    if n < 2:
        return 1.0
    sample = torch.linspace(0, n - 1, min(n, 512), device=positions.device).long()
    distance = torch.cdist(positions[sample].detach().double(), positions.detach().double())
    distance[torch.arange(len(sample), device=positions.device), sample] = float("inf")
    return float(distance.min(dim=1).values.median().clamp_min(1e-9))
