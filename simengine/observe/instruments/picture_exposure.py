"""What one picture is the mean of: moments while the shutter is open, row after row, and places on the lens.

A picture of a moment by a pinhole is what the world answers. A shutter that stays open blurs what moves, a sensor that
is read row by row bends it (rolling shutter), and a lens of some width blurs what is out of its focus (Cook, Porter &
Carpenter 1984, distributed ray tracing): all are means of such pictures, linear in light and in what is covered.
"""

import math

import torch

from simengine.observe.instruments.picture_settings import PictureSettings
from simengine.render.camera import PinholeCamera

PLACES = 16  # on the lens


def moments(own: PictureSettings) -> torch.Tensor:
    """After the time of a picture, at which it is looked at, (m,) [s]; one, at once, for a shutter without a width."""
    last = torch.as_tensor(own.shutter + own.read_out, dtype=torch.float64)
    return last * torch.linspace(0.0, 1.0, own.moments, dtype=torch.float64) if last > 0 else torch.zeros(1).double()


def places(own: PictureSettings) -> torch.Tensor:
    """On the lens, right and down, (l, 2) [m]: a spiral that is even by area (Vogel 1979); its middle for a pinhole."""
    if not own.aperture > 0:
        return torch.zeros(1, 2, dtype=torch.float64)
    k = torch.arange(PLACES, dtype=torch.float64)
    radius, turn = own.aperture / 2 * ((k + 0.5) / PLACES).sqrt(), math.pi * (3 - math.sqrt(5)) * k
    return radius[:, None] * torch.stack([turn.cos(), turn.sin()], 1)


def cameras_of(own: PictureSettings, cameras: PinholeCamera) -> PinholeCamera:
    """Pinholes (f m l) whose pictures are averaged, of those of the pictures (f,): what is in focus stays in place."""
    lens = places(own)
    turned = torch.eye(4, dtype=torch.float64).repeat(len(lens), 1, 1)
    turned[:, :2, 3] = -lens
    poses = (turned[None, None] @ cameras.world_to_camera[:, None, None]).expand(-1, len(moments(own)), -1, 4, 4)
    focal, centre = cameras.intrinsics[:, None].expand(-1, len(lens), 4).split(2, -1)
    pinholes = torch.cat([focal, centre + focal * lens / own.focus], -1)
    many = pinholes[:, None].expand(-1, len(moments(own)), -1, 4)
    return PinholeCamera(
        world_to_camera=poses.reshape(-1, 4, 4),
        intrinsics=many.reshape(-1, 4),
        width=cameras.width,
        height=cameras.height,
    )


def times_of(own: PictureSettings, times: torch.Tensor) -> torch.Tensor:
    """Of the pinholes' pictures (f m l), of the times of the pictures (f,) [s]."""
    own_times = times[:, None] + own.clock_rate * moments(own)
    return own_times[:, :, None].expand(-1, -1, len(places(own))).reshape(-1)


def shares(own: PictureSettings, rows: int) -> torch.Tensor:
    """Of each moment in each row of a picture, (rows, m): the mean over the row of what is linear between them."""
    at = moments(own)
    if len(at) == 1:
        return torch.ones(rows, 1, dtype=torch.float64)
    width = at[1] - at[0]
    begins = own.read_out * (torch.arange(rows, dtype=torch.float64) + 0.5)[:, None] / rows
    if bool(own.shutter < 1e-6 * at[-1]):
        return (1 - (begins - at).abs() / width).clamp_min(0)

    def so_far(time: torch.Tensor) -> torch.Tensor:
        """Integral of each moment's hat."""
        parts = [(time - at - shift * width).clamp_min(0).square() / 2 for shift in (-1, 0, 1)]
        return (parts[0] - 2 * parts[1] + parts[2]) / width

    found: torch.Tensor = (so_far(begins + own.shutter) - so_far(begins)) / own.shutter
    return found


def exposed(own: PictureSettings, seen: torch.Tensor) -> torch.Tensor:
    """Pictures (f, h, w, c) of those of the pinholes (f m l, h, w, c)."""
    count, lens = len(moments(own)), len(places(own))
    if count * lens == 1:
        return seen
    apart = seen.reshape(-1, count, lens, *seen.shape[1:]).mean(2)
    return torch.einsum("fmhwc,hm->fhwc", apart, shares(own, seen.shape[1]).to(seen))


def fall_off(own: PictureSettings, shape: tuple[int, ...]) -> torch.Tensor | float:
    """What the lens lets through of the light beside the middle of the picture, (f, h, w, 1), or 1."""
    if not own.vignetting:
        return 1.0
    _, height, width = shape
    cx, cy = (own.pinholes(shape).intrinsics[:, k, None, None] for k in (2, 3))
    x, y = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (width, height))
    square = ((x[None, None] - cx).square() + (y[None, :, None] - cy).square()) / ((width**2 + height**2) / 4)
    terms = [value * square ** (k + 1) for k, value in enumerate(own.vignetting)]
    return (1 + torch.stack(terms).sum(0))[..., None]
