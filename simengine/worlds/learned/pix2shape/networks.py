"""Pix2Shape: shape from single pictures without supervision, one surfel per pixel (Rajeswar et al., IJCV 2020).

    picture --encoder--> code --decoder, a pose--> depth --rays, planes--> points, normals --shading--> picture

A decoder gives depth alone; everything after it is the renderer, so that a loss on pictures shapes the depth. A critic
compares pairs of picture and code, those of the encoder with those of the decoder (adversarially learned inference).

What differs from the published code, on purpose: regularisers are minimised, and of every picture of a batch; pixels
are looked at through their centres; ambient light is added once; the specular term falls off with distance like all.
"""

import math

import torch
from torch import nn

from simengine.render.brdf import PhongMaterial, shade
from simengine.render.camera import PinholeCamera
from simengine.render.lights import PointLight
from simengine.worlds.learned.solids import DISTANCE, Solids, cast

NEAREST, FARTHEST = 2.0, 7.0  # depths that are possible [m]
AMBIENT = 0.08
ALBEDO = 0.9


def lamps(dtype: torch.dtype = torch.float32) -> list[PointLight]:
    """A red, a green and a blue lamp before the camera, in its coordinates; so near that their falloff tells depth."""
    lights = []
    for k in range(3):
        angle = 2 * math.pi * k / 3 + math.pi / 6
        position = torch.tensor([1.5 * math.cos(angle), 1.5 * math.sin(angle), 1.5], dtype=dtype)
        intensity = torch.full((3,), 1.6, dtype=dtype)
        intensity[k] = 7.0
        lights.append(PointLight(position=position, intensity=intensity))
    return lights


def plane_normals(points: torch.Tensor) -> torch.Tensor:
    """Unit normals towards the camera of least-squares planes through the 3 x 3 neighbours of each pixel.

    Args:
        points: In camera coordinates [m], shape (b, h, w, 3); at the border the neighbours there are.

    Returns:
        Shape (b, h, w, 3). The plane minimises sum_k (n . (p_k - mean))^2 with n_z = 1.
    """
    x, y, z = points.permute(3, 0, 1, 2)
    z = z - z.detach().mean()  # variances are differences of means: keep these small
    products = torch.stack([x, y, z, x * x, x * y, y * y, x * z, y * z], dim=1)
    x, y, z, xx, xy, yy, xz, yz = nn.functional.avg_pool2d(products, 3, 1, 1, count_include_pad=False).unbind(1)
    xx, xy, yy, xz, yz = xx - x * x, xy - x * y, yy - y * y, xz - x * z, yz - y * z
    determinant = (xx * yy - xy * xy).clamp_min(1e-12)
    across, down = (xy * yz - yy * xz) / determinant, (xy * xz - xx * yz) / determinant
    normal = torch.stack([across, down, torch.ones_like(across)], dim=-1)
    facing = torch.where((normal * points).sum(-1, keepdim=True) > 0, -1.0, 1.0)
    return nn.functional.normalize(facing * normal, dim=-1)


def shade_points(points: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """Linear RGB (b, h, w, 3) of surfaces in camera coordinates, both (b, h, w, 3)."""
    material = PhongMaterial(albedo=torch.full((3,), ALBEDO, dtype=points.dtype))
    return shade(points, normals, torch.zeros_like(points[0, 0, 0]), material, lamps(points.dtype), ambient=AMBIENT)


def picture_of_depth(depth: torch.Tensor, camera: PinholeCamera) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture and normals of surfaces given by their depth in each pixel.

    Args:
        depth: Depth z at the pixel centres [m], shape (b, h, w).
        camera: With the size of the pictures; its pose does not matter.

    Returns:
        Linear RGB and unit normals in camera coordinates, shape (b, h, w, 3) each.
    """
    points = camera.directions() * depth[..., None]
    normals = plane_normals(points)
    return shade_points(points, normals), normals


def picture_of_solids(solids: Solids, camera: PinholeCamera) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact pictures (b, h, w, 3) and depths (b, h, w) of scenes, lit by the same lamps."""
    hits = cast(solids, camera)
    points = camera.directions() * hits.depth[..., None]
    normals = hits.normals @ camera.rotation[:, None].mT
    return shade_points(points, normals), hits.depth


def in_a_mirror(picture: torch.Tensor, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and poses of the mirror images of scenes across x = 0, which need not be rendered.

    Left and right change places, and with them the red and the green lamp.

    Args:
        picture: As of `picture_of_solids`, shape (b, h, w, 3).
        poses: Azimuth and elevation [rad], shape (b, 2).
    """
    return picture.flip(2)[..., [1, 0, 2]], poses * poses.new_tensor([-1.0, 1.0])


def regularisers(depth: torch.Tensor, normals: torch.Tensor, picture: torch.Tensor) -> dict[str, torch.Tensor]:
    """Terms to be made small, means over every pixel of every picture.

    Args:
        depth: [m], shape (b, h, w).
        normals: Shape (b, h, w, 3).
        picture: What was seen, linear RGB, shape (b, h, w, 3).

    Returns:
        `range`: squared distance by which depths leave [2, 7] m; `normals`: 1 - n . n' of neighbours; `edges`: steps of
        depth [m] where the picture is even.
    """
    outside = (NEAREST - depth).clamp_min(0).square() + (depth - FARTHEST).clamp_min(0).square()
    turns, steps = [], []
    for axis in (1, 2):
        n, first = normals.shape[axis], normals.narrow(axis, 0, normals.shape[axis] - 1)
        turns.append(1 - (first * normals.narrow(axis, 1, n - 1)).sum(-1).mean())
        change = picture.diff(dim=axis).abs().sum(-1)
        steps.append((depth.diff(dim=axis).abs() * torch.exp(-10 * change)).mean())
    return {"range": outside.mean(), "normals": torch.stack(turns).mean(), "edges": torch.stack(steps).mean()}


def _pose_features(poses: torch.Tensor) -> torch.Tensor:
    return torch.cat([poses.sin(), poses.cos()], dim=-1)


Details = list[torch.Tensor]


class Encoder(nn.Module):
    """Code of a picture seen from a pose, and what only this view shows.

    Args:
        size: Pixels along each side, a power of two from 16 on.
        latent: Length of the code.
        width: Channels at half the size.
    """

    def __init__(self, *, size: int, latent: int, width: int) -> None:
        super().__init__()
        channels = stage_channels(size, width)
        self.layers: nn.ModuleList = nn.ModuleList(
            [nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in zip([3, *channels[:-1]], channels, strict=True)]
        )
        self.head: nn.Sequential = nn.Sequential(
            nn.Linear(channels[-1] * 16 + 4, 8 * width), nn.SiLU(), nn.Linear(8 * width, latent)
        )

    def forward(self, picture: torch.Tensor, poses: torch.Tensor) -> tuple[torch.Tensor, Details]:
        """Codes (b, latent) of pictures (b, h, w, 3) seen from poses (b, 2), and maps of every size."""
        maps = picture.permute(0, 3, 1, 2) * 2 - 1
        details = [maps]
        for layer in self.layers:
            maps = nn.functional.silu(layer(maps))
            details.append(maps)
        code: torch.Tensor = self.head(torch.cat([maps.flatten(1), _pose_features(poses)], dim=1))
        return code, details


class Decoder(nn.Module):
    """Depth seen from a pose, z = softplus(g) + the nearest depth, where the published z = relu(-g) + z_min.

    Where the pose is that of the picture, the encoder's maps sharpen the depth; from elsewhere the code has to do.

    Args:
        size: Pixels along each side, a power of two from 16 on.
        latent: Length of the code.
        width: Channels at half the size.
    """

    def __init__(self, *, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.channels: list[int] = stage_channels(size, width)
        coarsest = self.channels[-1]
        self.start: nn.Sequential = nn.Sequential(
            nn.Linear(latent + 4, 8 * width), nn.SiLU(), nn.Linear(8 * width, coarsest * 16), nn.SiLU()
        )
        finer = [*reversed(self.channels[:-1]), max(8, width // 2)]
        layers, inside = [], coarsest
        for detail, outside in zip(reversed([3, *self.channels[:-1]]), finer, strict=True):
            layers.append(nn.Conv2d(inside + detail, outside, 3, padding=1))
            inside = outside
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.head: nn.Conv2d = nn.Conv2d(inside, 1, 3, padding=1)

    def forward(self, code: torch.Tensor, poses: torch.Tensor, details: Details | None = None) -> torch.Tensor:
        """Depths [m], shape (b, h, w), of codes (b, latent) seen from poses (b, 2), with the maps of the encoder."""
        maps = self.start(torch.cat([code, _pose_features(poses)], dim=1)).unflatten(1, (-1, 4, 4))
        wanted = [3, *self.channels[:-1]]
        for level, layer in zip(reversed(range(len(wanted))), self.layers, strict=True):
            maps = nn.functional.interpolate(maps, scale_factor=2.0, mode="bilinear")
            more = maps.new_zeros(len(maps), wanted[level], *maps.shape[2:]) if details is None else details[level]
            maps = nn.functional.silu(layer(torch.cat([maps, more], dim=1)))
        g = self.head(maps)[:, 0]
        return NEAREST + nn.functional.softplus(g + DISTANCE - NEAREST)


def stage_channels(size: int, width: int) -> list[int]:
    """Channels at each halving of the size down to 4 x 4 pixels."""
    return [min(width * 2**k, 4 * width) for k in range(int(math.log2(size // 4)))]


class Critic(nn.Module):
    """A number for each pair of picture and code: high for pairs of the encoder, low for those of the decoder."""

    def __init__(self, *, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.maps: Encoder = Encoder(size=size, latent=4 * width, width=width)
        self.head: nn.Sequential = nn.Sequential(
            nn.Linear(4 * width + latent, 4 * width), nn.SiLU(), nn.Linear(4 * width, 1)
        )

    def forward(self, picture: torch.Tensor, code: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """Shape (b,)."""
        value: torch.Tensor = self.head(torch.cat([self.maps(picture, poses)[0], code], dim=1))[:, 0]
        return value


def gradient_penalty(
    critic: Critic,
    real: tuple[torch.Tensor, torch.Tensor],
    made: tuple[torch.Tensor, torch.Tensor],
    poses: torch.Tensor,
) -> torch.Tensor:
    """Mean of (|grad| - 1)^2 of the critic between pairs of picture and code (WGAN-GP, Gulrajani et al. 2017)."""
    share = torch.rand(len(poses), 1, 1, 1)
    picture = (share * real[0] + (1 - share) * made[0]).detach().requires_grad_()
    code = (share[..., 0, 0] * real[1] + (1 - share[..., 0, 0]) * made[1]).detach().requires_grad_()
    slopes = torch.autograd.grad(critic(picture, code, poses).sum(), (picture, code), create_graph=True)
    norm = (slopes[0].square().flatten(1).sum(1) + slopes[1].square().sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def hausdorff(a: torch.Tensor, b: torch.Tensor) -> float:
    """Hausdorff distance [m] of two sets of points, (n, 3) and (m, 3)."""
    distance = torch.cdist(a, b)
    return float(torch.maximum(distance.amin(0).max(), distance.amin(1).max()))
