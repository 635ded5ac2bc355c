"""Materials from one flash picture: random materials to learn from, and a network that estimates their maps.

The eye is above the middle of a flat sample, the square [-1, 1]^2 of the plane z = 0, and the flash is held aside, so
that slopes show as light and dark. Three numbers of a texel cannot tell its seven unknowns. What makes it possible is
that a sample consists of few materials, so that the highlight somewhere tells how rough they are elsewhere; and that
bumps are wider than texels: light and dark tell only the slope towards the flash, but of a smooth surface, whose lines
towards the flash all meet at its foot, that tells the height and so the other slope too.
"""

import functools

import torch
from torch import nn

from simengine.render.brdf import DisneyMaterial, shade
from simengine.render.lights import PointLight
from simengine.render.material_maps import MaterialMaps
from simengine.worlds.learned.unet import UNet

EYE = (0.0, 0.0, 2.0)  # [m]
FLASH = (1.2, 1.2, 1.6)  # [m]
INTENSITY = 16.0  # [W/sr]
BUMPS = 8  # of the finest kind along a side
FLOOR = 0.01  # added before logarithms of radiance are taken
LEAST_ROUGHNESS = 0.1


def sample_points(n: int, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Middles of the texels [m], row 0 at y = 1, shape (n, n, 3)."""
    x = (2 * torch.arange(n, dtype=dtype) + 1) / n - 1
    return torch.stack([x.expand(n, n), -x[:, None].expand(n, n), torch.zeros(n, n, dtype=dtype)], dim=-1)


def relit(maps: MaterialMaps, light: torch.Tensor, eye: torch.Tensor) -> torch.Tensor:
    """Radiance of samples, each lit by a point light and seen from a place of its own.

    Args:
        maps: Of shape (b, n, n, ...).
        light: Positions [m], shape (b, 3).
        eye: Positions [m], shape (b, 3).

    Returns:
        Linear RGB, shape (b, n, n, 3), each texel where it is on the sample.
    """
    points = sample_points(maps.normal.shape[-2], dtype=maps.normal.dtype).expand_as(maps.normal)
    surface = DisneyMaterial(base_colour=maps.base_colour, metallic=maps.metallic, roughness=maps.roughness)
    lamp = PointLight(position=light[:, None, None], intensity=light.new_tensor(INTENSITY))
    return shade(points, maps.normal, eye[:, None, None], surface, [lamp])


def flash_picture(maps: MaterialMaps) -> torch.Tensor:
    """The one picture of each sample, shape (b, n, n, 3)."""
    flash, eye = (maps.normal.new_tensor(place).expand(len(maps.normal), 3) for place in (FLASH, EYE))
    return relit(maps, flash, eye)


def random_places(count: int) -> torch.Tensor:
    """Places of lights or eyes spread evenly over the sky above the sample down to 60 degrees, shape (count, 3)."""
    height = 0.5 + 0.5 * torch.rand(count)
    turn = 2 * torch.pi * torch.rand(count)
    ring = (1 - height.square()).sqrt()
    directions = torch.stack([ring * turn.cos(), ring * turn.sin(), height], dim=-1)
    return directions * (1.6 + 1.2 * torch.rand(count, 1))


@functools.cache
def smooth_basis(n: int, cells: int) -> torch.Tensor:
    """Values at n texels of the curves that bicubic interpolation puts through cells + 3 numbers, (n, cells + 3)."""
    unit = torch.eye(cells + 3)[:, None, None].expand(-1, 1, 2, -1)
    return nn.functional.interpolate(unit, size=(2, n), mode="bicubic", align_corners=True)[:, 0, 0].T.contiguous()


def smooth_map(coarse: torch.Tensor, n: int) -> torch.Tensor:
    """Maps (..., n, n) through coarse numbers (..., cells + 3, cells + 3)."""
    basis = smooth_basis(n, coarse.shape[-1] - 3).to(coarse)
    return basis @ coarse @ basis.T


def _noise(count: int, n: int, cells: int) -> torch.Tensor:
    """Smooth noise in about [-1, 1], shape (count, n, n)."""
    return smooth_map(torch.rand(count, cells + 3, cells + 3) * 2 - 1, n)


def normals_of_height(height: torch.Tensor) -> torch.Tensor:
    """Unit normals (b, n, n, 3) of heights over the sample [m], shape (b, n, n)."""
    down, across = torch.gradient(height, spacing=2 / height.shape[-1], dim=(-2, -1))
    return nn.functional.normalize(torch.stack([-across, down, torch.ones_like(height)], dim=-1), dim=-1)


def layered_materials(count: int, n: int) -> MaterialMaps:
    """Random samples from torch's global generator: two materials in patches, mottled, with bumps and worn edges.

    Half of the materials are metals. Their roughness is even but for a little noise.

    Args:
        count: Number of samples b.
        n: Texels along each side.

    Returns:
        Maps of shape (b, n, n, ...).
    """
    cover = _noise(count, n, 3) + 0.6 * _noise(count, n, 6) + 0.5 * (2 * torch.rand(count, 1, 1) - 1)
    mask = torch.sigmoid(12 * cover)[..., None]

    def blend(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return mask * one[:, None, None] + (1 - mask) * other[:, None, None]

    metal = (torch.rand(2, count, 1) < 0.5).float()
    colours = 0.05 + 0.9 * torch.rand(2, count, 3)
    colours = torch.where(metal > 0, 0.4 + 0.6 * colours, colours)  # metals reflect much
    rough = 0.2 + 0.65 * torch.rand(2, count, 1)
    mottled = 1 + 0.05 * _noise(count, n, 12)[..., None]
    height = 0.08 * _noise(count, n, BUMPS // 2) + 0.04 * _noise(count, n, BUMPS)
    height = (0.3 + 1.2 * torch.rand(count, 1, 1)) * height + 0.03 * (2 * torch.rand(count, 1, 1) - 1) * mask[..., 0]
    return MaterialMaps(
        normal=normals_of_height(height),
        base_colour=(blend(colours[0], colours[1]) * mottled).clamp(0.02, 0.98),
        metallic=blend(metal[0], metal[1]),
        roughness=(blend(rough[0], rough[1]) + 0.04 * _noise(count, n, 6)[..., None]).clamp(LEAST_ROUGHNESS, 1.0),
    )


class MapsNetwork(nn.Module):
    """A U-net from one flash picture to maps, with the mean over the whole picture at its bottom.

    Normals are those of a height: a smooth one, as bumps are, and one that may have steps, as patches have.

    Args:
        width: Channels at full size; doubled at each halving, up to four times.
        depth: Halvings.
    """

    def __init__(self, *, width: int = 24, depth: int = 3) -> None:
        super().__init__()
        self.net: UNet = UNet(5, 7, width=width, depth=depth, overall=True)

    def forward(self, pictures: torch.Tensor) -> MaterialMaps:
        """Maps (b, n, n, ...) of flash pictures (b, n, n, 3), linear RGB as `flash_picture` makes them.

        Raises:
            ValueError: The shape is wrong.
        """
        b, n, m, c = pictures.shape
        if n != m or c != 3 or n % 2**self.net.depth:
            raise ValueError(
                f"pictures: expected shape (b, n, n, 3) with n divisible by {2**self.net.depth}, "
                f"got {tuple(pictures.shape)}"
            )
        place = sample_points(n, dtype=pictures.dtype)[..., :2].expand(b, n, n, 2)
        seen = torch.cat([0.5 * (pictures + FLOOR).log() + 1, place], dim=-1).permute(0, 3, 1, 2)
        bumps, steps, *others = self.net(seen).unbind(1)
        basis = smooth_basis(n, BUMPS).to(pictures)
        smooth = basis @ torch.linalg.pinv(basis)
        height = 0.1 * smooth @ bumps @ smooth.T + 0.02 * steps.tanh()
        values = torch.sigmoid(torch.stack(others, dim=-1))
        return MaterialMaps(
            normal=normals_of_height(height),
            base_colour=values[..., :3],
            metallic=values[..., 3:4],
            roughness=LEAST_ROUGHNESS + (1 - LEAST_ROUGHNESS) * values[..., 4:],
        )


def rendering_loss(found: MaterialMaps, true: MaterialMaps, *, pairs: int = 3) -> torch.Tensor:
    """Mean over random light and eye positions of |log(R(found) + 0.01) - log(R(true) + 0.01)|.

    Source: Boss and Lensch 2019, Single image BRDF parameter estimation with a conditional adversarial network.
    """
    b, losses = len(true.normal), []
    for _ in range(pairs):
        light, eye = random_places(b), random_places(b)
        with torch.no_grad():
            wanted = (relit(true, light, eye) + FLOOR).log()
        losses.append(((relit(found, light, eye) + FLOOR).log() - wanted).abs().mean())
    return torch.stack(losses).mean()
