"""Surfels: oriented 2-D Gaussian discs, pictured with gradients to every attribute, the camera and its intrinsics."""

import dataclasses

import torch

from simengine.ops.light.surfel import composite_surfels
from simengine.ops.light.surfel_average import average_surfels
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surfels:
    """A cloud of n discs.

    Attributes:
        positions: Centres [m], shape (n, 3).
        rotations: Unit quaternions (w, x, y, z) that turn the axes (x, y, z) to the two tangents and the normal; any
            length but 0 is normalised; shape (n, 4).
        scales: Standard deviations along the two tangents [m], shape (n, 2).
        opacities: At the centres, in [0, 1], shape (n,).
        colours: Linear RGB, or any 1 to 13 channels, shape (n, c).
    """

    positions: torch.Tensor
    rotations: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    colours: torch.Tensor

    def __post_init__(self) -> None:
        n = len(self.positions)
        for name, shape in (("positions", (n, 3)), ("rotations", (n, 4)), ("scales", (n, 2)), ("opacities", (n,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(getattr(self, name).shape)}")
        if self.colours.ndim != 2 or len(self.colours) != n:
            raise ValueError(f"colours: expected shape ({n}, c), got {tuple(self.colours.shape)}")
        outside = (self.opacities < 0) | (self.opacities > 1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise ValueError(
                f"opacities: expected values in [0, 1], got {float(self.opacities[row]):.4g} at surfel {row}"
            )

    @classmethod
    def oriented(
        cls,
        positions: torch.Tensor,
        normals: torch.Tensor,
        *,
        scale: float | torch.Tensor,
        colours: torch.Tensor,
        opacity: float | torch.Tensor = 1.0,
    ) -> "Surfels":
        """Round discs with given normals.

        Args:
            positions: Centres [m], shape (n, 3).
            normals: Any length but 0, shape (n, 3).
            scale: Standard deviation [m], a number or (n,).
            colours: Shape (n, c) or (c,).
            opacity: A number or (n,).
        """
        n = len(positions)
        scales = torch.as_tensor(scale, dtype=positions.dtype, device=positions.device).expand(n)
        opacities = torch.as_tensor(opacity, dtype=positions.dtype, device=positions.device).expand(n)
        return cls(
            positions=positions,
            rotations=quaternion_of_normal(normals),
            scales=torch.stack([scales, scales], dim=-1),
            opacities=opacities,
            colours=colours.expand(n, colours.shape[-1]),
        )


def render_surfels(
    surfels: Surfels,
    camera: PinholeCamera,
    *,
    background: torch.Tensor | float = 0.0,
    normals: bool = True,
    least_width: float = 0.5**0.5,
    surface_thickness: float | None = None,
    num_threads: int = 1,
) -> Image:
    """Picture surfels by one camera, or by each camera of a batch.

    Differentiable in every attribute of the surfels, in pose and intrinsics of the camera, and in the background.

    Args:
        surfels: The discs.
        camera: One camera, or a batch (b,); computed with in the dtype of the surfels.
        background: Colour behind them: a number, (c,) or an image (h, w, c).
        normals: Whether to blend normals too.
        least_width: Smallest standard deviation of a disc in the picture [pixel].
        surface_thickness: None composites all discs front to back. A length [m] takes colour, depth and normal as
            means over the discs within it of the median depth instead (alpha stays that of compositing): exact to
            second order in the size of the discs on opaque surfaces, where compositing favours nearer discs.
        num_threads: Threads on a CPU; the bits do not depend on it.

    Returns:
        The image; its tensors lead with b where the camera is a batch. `rgb` has as many channels as `colours`.

    Raises:
        ValueError: A value is not finite, or the camera has more than one batch dimension.
    """
    if len(camera.batch_shape) == 1:
        if not len(camera.world_to_camera):
            raise ValueError("camera: the batch is empty")
        views = [
            render_surfels(
                surfels,
                camera[b],
                background=background,
                normals=normals,
                least_width=least_width,
                surface_thickness=surface_thickness,
                num_threads=num_threads,
            )
            for b in range(len(camera.world_to_camera))
        ]
        return Image(
            rgb=torch.stack([view.rgb for view in views]),
            alpha=torch.stack([view.alpha for view in views]),
            depth=torch.stack([view.depth for view in views]),
            median_depth=torch.stack([view.median_depth for view in views if view.median_depth is not None]),
            normal=torch.stack([view.normal for view in views if view.normal is not None]) if normals else None,
        )
    if camera.batch_shape:
        raise ValueError(f"camera: expected one camera or one batch dimension, got {tuple(camera.batch_shape)}")
    transforms, facing = project_surfels(surfels, camera.to(surfels.positions.dtype))
    features = torch.cat([surfels.colours, facing], dim=-1) if normals else surfels.colours
    blended, alpha, depth, median = composite_surfels(
        transforms,
        surfels.opacities,
        features,
        width=camera.width,
        height=camera.height,
        least_width=least_width,
        num_threads=num_threads,
    )
    if surface_thickness is not None:
        sums, weight, sum_of_depths = average_surfels(
            transforms,
            surfels.opacities,
            features,
            median,
            thickness=surface_thickness,
            width=camera.width,
            height=camera.height,
            least_width=least_width,
            num_threads=num_threads,
        )
        known = weight > 1e-6
        share = torch.where(known, alpha / torch.where(known, weight, 1.0), 0.0)
        blended = torch.where(known[..., None], sums * share[..., None], blended)
        depth = torch.where(known, sum_of_depths * share, depth)
    return finish_image(blended, alpha, depth, median, background=background, normals=normals)


def finish_image(
    blended: torch.Tensor,
    alpha: torch.Tensor,
    depth: torch.Tensor,
    median: torch.Tensor | None,
    *,
    background: torch.Tensor | float,
    normals: bool,
) -> Image:
    """An image of what `composite_surfels` returns; the last three channels are normals where `normals`."""
    channels = blended.shape[-1] - 3 * normals
    alpha = alpha[..., None]
    background = torch.as_tensor(background, dtype=blended.dtype, device=blended.device)
    covered = alpha > 1e-6
    mean_depth = torch.where(covered, depth[..., None] / torch.where(covered, alpha, 1.0), 0.0)
    normal = None
    if normals:
        sum_of_normals = blended[..., channels:]
        length = sum_of_normals.square().sum(-1, keepdim=True)
        seen = length > 1e-12
        normal = torch.where(seen, sum_of_normals * torch.where(seen, length, 1.0).rsqrt(), 0.0)
    return Image(
        rgb=blended[..., :channels] + (1 - alpha) * background,
        alpha=alpha,
        depth=mean_depth,
        median_depth=None if median is None else median[..., None],
        normal=normal,
    )


def project_surfels(surfels: Surfels, camera: PinholeCamera) -> tuple[torch.Tensor, torch.Tensor]:
    """Discs as `composite_surfels` takes them, and their normals.

    Returns:
        Transforms (n, 3, 3) and unit normals in camera coordinates that look towards the camera (n, 3).
    """
    axes = camera.rotation @ rotation_matrix(surfels.rotations)  # columns: tangents and normal in camera coordinates
    centres = camera.to_camera(surfels.positions)
    tangents = axes[:, :, :2] * surfels.scales[:, None, :]
    transforms = intrinsic_matrix(camera) @ torch.cat([tangents, centres[:, :, None]], dim=-1)
    normal = axes[:, :, 2]
    away = (normal * centres).sum(-1, keepdim=True) > 0
    return transforms, torch.where(away, -normal, normal)


def intrinsic_matrix(camera: PinholeCamera) -> torch.Tensor:
    """Camera coordinates to homogeneous pixels, shape (3, 3)."""
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one]).reshape(3, 3)


def rotation_matrix(quaternions: torch.Tensor) -> torch.Tensor:
    """Rotations (n, 3, 3) of quaternions (w, x, y, z), normalised first, shape (n, 4)."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_of_normal(normals: torch.Tensor) -> torch.Tensor:
    """The shortest rotation of the z axis to each normal, as quaternions (w, x, y, z), shape (n, 4)."""
    x, y, z = torch.nn.functional.normalize(normals, dim=-1).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    upward = torch.stack([1 + z, -y, x, zero], dim=-1)  # z axis x normal = (-y, x, 0)
    upside_down = torch.stack([zero, one, zero, zero], dim=-1)
    return torch.where((1 + z > 1e-6)[:, None], upward, upside_down)
