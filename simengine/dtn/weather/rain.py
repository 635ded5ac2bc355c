"""Rain: how much it dims what is far, and the streaks that near drops draw while the shutter is open.

Drops of diameter D [mm] have the number N0 exp(-L D) dD per m^3, N0 = 8000 per m^3 and mm, L = 4.1 R^-0.21 per mm at R
mm/h (Marshall and Palmer 1948), and fall at 9.65 - 10.3 exp(-0.6 D) m/s (Atlas, Srivastava and Sekhon 1973). A drop
bends the light of a field of view of 165 degrees into the camera, so that it looks like the mean of its surroundings,
not like what is behind it (Garg and Nayar 2007). Drops that are drawn also dim: they count twice, 1 % at 60 mm/h.
"""

import math

import torch

from simengine.render.camera import PinholeCamera

NUMBER = 8000.0  # N0 [1/(m^3 mm)]
SMALLEST = 0.5  # diameter of the smallest drop that is drawn [mm]
NEAR, FAR = 0.4, 4.0  # distances between which drops are drawn [m]; what is beyond only dims
BRIGHT = 0.94  # transmittance of a drop


def slope(rate: float) -> float:
    """L of the distribution of diameters [1/mm] at a rain rate [mm/h] above 0."""
    return 4.1 * rate**-0.21


def extinction(rate: float) -> float:
    """Extinction coefficient of rain [1/m]: the integral of twice the cross-section of the drops.

    Args:
        rate: Of rain [mm/h]; 0 for none.

    Raises:
        ValueError: The rate is below 0.
    """
    if not rate >= 0:
        raise ValueError(f"rate: expected a rain rate of at least 0 [mm/h], got {rate}")
    # 2 pi/4 int N0 exp(-L D) D^2 dD = pi N0/L^3 [mm^2/m^3]
    return 0.0 if rate == 0 else math.pi * NUMBER / slope(rate) ** 3 * 1e-6


def fall_speed(diameter: torch.Tensor) -> torch.Tensor:
    """Terminal speed of drops [m/s] of diameters [mm]."""
    return (9.65 - 10.3 * torch.exp(-0.6 * diameter)).clamp(min=0.0)


def streaks(rate: float, camera: PinholeCamera, depth: torch.Tensor, *, shutter: float, seed: int) -> torch.Tensor:
    """Share of each pixel's exposure that near drops cover, shape (h, w).

    A drop covers its disc while it falls; the time that it spends before each pixel is that share. Widths below a pixel
    count by their area.

    Args:
        rate: Of rain [mm/h].
        camera: Of the picture.
        depth: Of what stands there along the optical axis [m], 0 for nothing, shape (h, w): drops behind are not seen.
        shutter: Time that the shutter is open [s].
        seed: Of the drops.
    """
    h, w = depth.shape
    share = torch.zeros(h * w, dtype=torch.float64)
    if rate <= 0:
        return share.reshape(h, w).float()
    generator = torch.Generator().manual_seed(seed)
    fx, fy, cx, cy = camera.intrinsics.double().tolist()
    scale = slope(rate)
    # a frustum a fifth wider than the picture, so that streaks may enter it
    area = 1.44 * w / fx * h / fy
    density = NUMBER / scale * math.exp(-scale * SMALLEST)
    mean = density * area * (FAR**3 - NEAR**3) / 3
    number = int(torch.poisson(torch.tensor(mean), generator=generator))

    def uniform() -> torch.Tensor:
        return torch.rand(number, generator=generator, dtype=torch.float64)

    z = (NEAR**3 + (FAR**3 - NEAR**3) * uniform()) ** (1 / 3)
    x, y = (1.2 * (uniform() - 0.5) * w / fx * z, 1.2 * (uniform() - 0.5) * h / fy * z)
    diameter = SMALLEST - torch.log(1 - uniform()) / scale
    down = camera.world_to_camera[:3, :3].double() @ torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    way = fall_speed(diameter)[:, None] * shutter * down  # in the camera's axes [m]
    start = torch.stack([x, y, z], 1) - way / 2
    # the disc's area in pixels, spread evenly along its way
    mass = math.pi / 4 * (diameter * 1e-3) ** 2 * fx * fy / z**2
    length = (way[:, :2].norm(dim=1) * max(fx, fy) / z).max()
    steps = max(2, min(96, math.ceil(2 * float(length)))) if number else 0
    for k in range(steps):
        p = start + way * ((k + 0.5) / steps)
        column, row = fx * p[:, 0] / p[:, 2] + cx - 0.5, fy * p[:, 1] / p[:, 2] + cy - 0.5
        left, top = column.floor(), row.floor()
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            c, r = (left + j).long(), (top + i).long()
            weight = (1 - (column - left - j).abs()) * (1 - (row - top - i).abs())
            inside = (c >= 0) & (c < w) & (r >= 0) & (r < h) & (p[:, 2] > 0)
            place = (r * w + c)[inside]
            behind = depth.reshape(-1)[place].double()
            seen = (behind == 0) | (p[:, 2][inside] < behind)
            share.index_add_(0, place, (mass * weight)[inside] * seen / steps)
    return share.reshape(h, w).clamp(max=1.0).float()
