"""Ray casting of a painted triangle mesh: per view the pair (A, B) that any colour of the paint enters affinely.

For a fixed camera and light the linear radiance of a flat paint c is A c + B per pixel and channel, so that every
further colour or pattern of that view costs one multiply-add. Light that the paint throws on the paint and on other
surfaces is that of `paint`, a mid grey unless given. Geometry carries no gradient; A c + B carries that of c.
"""

import dataclasses
from typing import Any

import torch
import warp as wp

from simengine.kernels.light import raycast as kernels
from simengine.ops import bridge
from simengine.ops.light.ray_scene import Environment, RaySurface


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RayBuffers:
    """What a view shows, float32.

    Attributes:
        gain: A: linear radiance per unit of paint, shape (h, w, 3).
        offset: B: linear radiance with black paint, shape (h, w, 3).
        radiance: Linear radiance with the given paint, traced in full, shape (h, w, 3).
        paint: Share of the pixel covered by paint, shape (h, w).
        object: Share of the pixel covered by the object, shape (h, w).
        normal: Unit normal to the viewer of the first sample of the foremost kind (paint, object, other), zero where
            nothing is hit, shape (h, w, 3).
        position: Its position [m], shape (h, w, 3).
        uv: Its texture coordinates, shape (h, w, 2).
        footprint: Side of the pixel on the surface [m], shape (h, w).
        uv_footprint: The same in texture coordinates, shape (h, w).
        depth: Along the optical axis [m], 0 where nothing is hit, shape (h, w).
        instance: Number of the labelled thing that each sample of a pixel shows, 0 for none, shape (h, w, samples^2).
    """

    gain: torch.Tensor
    offset: torch.Tensor
    radiance: torch.Tensor
    paint: torch.Tensor
    object: torch.Tensor
    normal: torch.Tensor
    position: torch.Tensor
    uv: torch.Tensor
    footprint: torch.Tensor
    uv_footprint: torch.Tensor
    depth: torch.Tensor
    instance: torch.Tensor

    def cpu(self) -> "RayBuffers":
        """The same in main memory; itself where it is there already."""
        if self.gain.device.type == "cpu":
            return self
        return RayBuffers(**{f.name: getattr(self, f.name).cpu() for f in dataclasses.fields(self)})


def check_arguments(
    world_to_camera: torch.Tensor, intrinsics: torch.Tensor, size: tuple[int, int], samples: int, sky_rays: int
) -> None:
    """Raise ValueError for arguments no view can be cast from."""
    if tuple(world_to_camera.shape) != (4, 4):
        raise ValueError(f"world_to_camera: expected shape (4, 4), got {tuple(world_to_camera.shape)}")
    if tuple(intrinsics.shape) != (4,):
        raise ValueError(f"intrinsics: expected shape (4,) for (fx, fy, cx, cy), got {tuple(intrinsics.shape)}")
    r = world_to_camera[:3, :3].double()
    if not torch.allclose(r @ r.T, torch.eye(3, dtype=r.dtype, device=r.device), atol=1e-4):
        raise ValueError("world_to_camera: its upper left 3 x 3 block is not a rotation; remove its scale")
    if min(size) < 0 or samples < 1 or sky_rays < 0:
        raise ValueError(f"expected size >= 0, samples >= 1, sky_rays >= 0, got {size}, {samples}, {sky_rays}")


def sky_jitter(size: tuple[int, int], seed: int) -> torch.Tensor:
    """The offsets of the sky rays, in [0, 1), shape (h, w, 2)."""
    return torch.rand((*size, 2), generator=torch.Generator().manual_seed(seed))


def raycast(
    surface: RaySurface,
    environment: Environment,
    world_to_camera: torch.Tensor,
    intrinsics: torch.Tensor,
    size: tuple[int, int],
    *,
    samples: int = 2,
    sky_rays: int = 4,
    paint: torch.Tensor | None = None,
    repetitions_per_metre: float = 0.0,
    seed: int = 0,
) -> RayBuffers:
    """Cast the rays of one view, on the device of the surface.

    Args:
        surface: What is seen besides ground and sky.
        environment: The light.
        world_to_camera: Rigid transform into an OpenCV camera (x right, y down, z forward), shape (4, 4).
        intrinsics: (fx, fy, cx, cy) [pixels], shape (4,); pixel centres at (j + 1/2, i + 1/2).
        size: Height and width [pixels].
        samples: Per pixel and axis.
        sky_rays: Per sample; noise falls with their number.
        paint: Linear albedo of the paint in [0, 1], a texture (rows, columns, 3); None for a mid grey of 0.5.
        repetitions_per_metre: 0 puts `paint` on by uv; above 0 triplanar, with this many repetitions [1/m].
        seed: Of the directions of the sky rays.

    Raises:
        ValueError: Shapes or ranges are wrong.

    About 0.1 s of CPU at 128 x 128 with 2 x 2 samples and 4 sky rays.
    """
    check_arguments(world_to_camera, intrinsics, size, samples, sky_rays)
    device = surface.vertices.device
    texture = torch.full((1, 1, 3), 0.5) if paint is None else paint
    check_texture(texture)
    texture = texture.detach().to(device, torch.float32).contiguous()
    h, w = size
    jitter = sky_jitter(size, seed).to(device).contiguous()
    channels = {"gain": 3, "offset": 3, "radiance": 3, "coverage": 2, "normal": 3, "position": 3}
    channels |= {"uv": 2, "size": 2, "depth": 1}
    out = {name: torch.zeros((h, w, c) if c > 1 else (h, w), device=device) for name, c in channels.items()}
    instance = torch.zeros((h, w, samples**2), dtype=torch.int32, device=device)
    if h and w:
        pose = world_to_camera.detach().double().cpu()
        rotation = pose[:3, :3].T
        _, handle = surface._handle
        inputs = [
            handle,
            environment._struct(1.0 / float(intrinsics[0]), device),
            wp.vec3(*(-rotation @ pose[:3, 3]).tolist()),
            wp.mat33(*rotation.reshape(-1).tolist()),
            wp.vec4(*intrinsics.detach().double().cpu().tolist()),
            samples,
            sky_rays,
            float(repetitions_per_metre),
            bridge.array(texture),
            bridge.array(jitter, wp.vec2),
        ]
        types: dict[int | None, Any] = {1: None, 2: wp.vec2, 3: wp.vec3}
        outputs = [bridge.array(value, types[value.shape[2] if value.dim() == 3 else 1]) for value in out.values()]
        bridge.launch(kernels.raycast, (h, w), inputs, [*outputs, bridge.array(instance)], on=jitter)
    coverage, footprint = out.pop("coverage"), out.pop("size")
    return RayBuffers(
        **out,
        paint=coverage[..., 0],
        object=coverage[..., 1],
        footprint=footprint[..., 0],
        uv_footprint=footprint[..., 1],
        instance=instance,
    )


def check_texture(texture: torch.Tensor) -> None:
    """Raise ValueError unless `texture` is of shape (rows, columns, 3) with values in [0, 1]."""
    if texture.dim() != 3 or texture.shape[2] != 3 or 0 in texture.shape:
        raise ValueError(f"texture: expected shape (rows, columns, 3), got {tuple(texture.shape)}")
    low, high = float(texture.detach().min()), float(texture.detach().max())
    if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
        raise ValueError(f"texture: expected linear albedo in [0, 1], got {low:g}..{high:g}; clamp it or divide by 255")
