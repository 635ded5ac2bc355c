"""Gaussian splats: colours by direction, and pictures by their own formula, in plain torch.

3-D Gaussians are pictured as their program does (Kerbl et al. 2023, after Zwicker et al. 2001): each is projected to a
Gaussian of the picture by the slope of the projection at its centre, widened by 0.3 square pixels, and blended front to
back; that program also cuts each off at the tiles that three standard deviations reach, and this one does not. Flat
splats (Huang et al. 2024) are surfels. A picture costs splats times pixels: it is for files of some thousands; surfels
are what is trained and pictured fast here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from simengine.render.camera import PinholeCamera
from simengine.render.lights import spherical_harmonics
from simengine.render.surfels import Surfels, render_surfels, rotation_matrix

WIDENED = 0.3  # pixel^2 added to the covariance in the picture: no splat falls between the pixels
LEAST_ALPHA, MOST_ALPHA = 1 / 255, 0.99
LEAST_LEFT = 1e-4  # of the light: what lies behind is not looked at
NEAREST = 0.2  # depth; nearer centres are left out
CHUNK = 2**22  # values of splats times pixels at once
PIXEL = 12**-0.5  # least width of flat ones [pixel]: a pixel's own; wider ones reach over outlines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splats:
    """A cloud of n Gaussians, as their files hold them.

    Attributes:
        positions: Centres, shape (n, 3).
        harmonics: Of the colour, (n, (degree + 1)^2, 3), in the order and with the signs of the files.
        opacities: At the centres, before the logistic function, (n,).
        scales: Logarithms of the standard deviations, (n, 3), or (n, 2) of flat ones.
        rotations: Quaternions (w, x, y, z) of any length but 0, (n, 4).
    """

    positions: torch.Tensor
    harmonics: torch.Tensor
    opacities: torch.Tensor
    scales: torch.Tensor
    rotations: torch.Tensor

    @classmethod
    def of(cls, arrays: Mapping[str, Any], *, dtype: torch.dtype = torch.float64) -> "Splats":
        """Of the arrays of `read_splats`."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: torch.as_tensor(arrays[name]).to(dtype) for name in names})

    def colours(self, eye: torch.Tensor) -> torch.Tensor:
        """RGB as a camera at eye (3,) sees it, (n, 3): 1/2 and the harmonics of the direction to each, not below 0."""
        directions = torch.nn.functional.normalize(self.positions - eye, dim=-1)
        count = self.harmonics.shape[1]
        degree = round(count**0.5) - 1
        order = torch.cat([torch.arange(-k, k + 1) for k in range(degree + 1)])
        signs = 1.0 - 2.0 * (order % 2)  # the phase of Condon and Shortley, which the files have
        basis = spherical_harmonics(directions, degree=degree) * signs.to(directions)
        return ((basis[..., None] * self.harmonics).sum(1) + 0.5).clamp_min(0.0)

    def surfels(self, eye: torch.Tensor) -> Surfels:
        """Flat splats as discs with the colours that a camera at eye (3,) sees.

        Raises:
            ValueError: They are not flat.
        """
        if self.scales.shape[1] != 2:
            raise ValueError("splats: surfels are flat, and these have three scales; use render_splats")
        return Surfels(
            positions=self.positions,
            rotations=self.rotations,
            scales=self.scales.exp(),
            opacities=self.opacities.sigmoid(),
            colours=self.colours(eye),
        )


def render_splats(splats: Splats, camera: PinholeCamera, *, background: float = 0.0) -> torch.Tensor:
    """RGB (h, w, 3) of 3-D Gaussians by one camera; differentiable in all that they hold.

    Args:
        splats: The Gaussians, n of them.
        camera: Whose picture it is.
        background: Grey value behind all of them, linear.

    Raises:
        ValueError: They are flat.
    """
    if splats.scales.shape[1] != 3:
        raise ValueError("splats: these are flat; use Splats.surfels and render_surfels")
    camera = camera.to(splats.positions.dtype)
    place = camera.to_camera(splats.positions)
    seen = (place[:, 2] > NEAREST).nonzero()[:, 0]
    seen = seen[place[seen, 2].argsort(stable=True)]
    place = place[seen]
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    x, y, z = place.unbind(-1)
    # the slope is taken no farther out than 1.3 times the picture's border
    beyond_x, beyond_y = 1.3 * camera.width / (2 * fx), 1.3 * camera.height / (2 * fy)
    tx, ty = z * (x / z).clamp(-beyond_x, beyond_x), z * (y / z).clamp(-beyond_y, beyond_y)
    zero = torch.zeros_like(z)
    slope = torch.stack(
        [torch.stack((fx / z, zero, -fx * tx / z**2), -1), torch.stack((zero, fy / z, -fy * ty / z**2), -1)], -2
    )
    turn = rotation_matrix(splats.rotations[seen])
    axes = slope @ camera.rotation @ (turn * splats.scales[seen].exp()[:, None, :])
    covariance = axes @ axes.mT + WIDENED * torch.eye(2, dtype=axes.dtype)
    inverse = torch.linalg.inv(covariance)
    centre = torch.stack((fx * x / z + cx, fy * y / z + cy), -1)
    opacity, colour = splats.opacities[seen].sigmoid(), splats.colours(camera.position)[seen]
    rows = []
    across = torch.arange(camera.width, dtype=axes.dtype) + 0.5
    step = max(CHUNK // max(len(seen) * camera.width, 1), 1)
    for top in range(0, camera.height, step):
        down = torch.arange(top, min(top + step, camera.height), dtype=axes.dtype) + 0.5
        pixel = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], -1).reshape(-1, 1, 2)
        d = pixel - centre
        power = -0.5 * (d[..., None, :] @ inverse @ d[..., None])[..., 0, 0]
        alpha = (opacity * power.exp()).clamp_max(MOST_ALPHA)
        alpha = torch.where(alpha < LEAST_ALPHA, 0.0, alpha)
        left = (1 - alpha).cumprod(1)
        # blending ends before the splat that would leave less light
        alpha = torch.where(left < LEAST_LEFT, 0.0, alpha)
        before = torch.cat((torch.ones_like(left[:, :1]), (1 - alpha).cumprod(1)), 1)
        rows.append((alpha * before[:, :-1]) @ colour + background * before[:, -1:])
    return torch.cat(rows).reshape(camera.height, camera.width, 3)


def render_flat_splats(
    splats: Splats, camera: PinholeCamera, *, background: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB (h, w, 3) and alpha (h, w, 1) of flat Gaussians, as surfels; in the encoded values that their files hold.

    No disc is narrower in the picture than a pixel is. At the .71 pixel of other programs the rims of a body's discs
    stick out by more than a pixel, and a search puts the discs as far within the outline.

    Args:
        splats: Flat ones, n of them.
        camera: Whose picture it is.
        background: Behind all of them, a number or (h, w, 3).

    Raises:
        ValueError: They are not flat.
    """
    camera = camera.to(splats.positions.dtype)
    discs = splats.surfels(camera.position)
    image = render_surfels(discs, camera, background=background, normals=False, least_width=PIXEL)
    return image.rgb, image.alpha
