"""New views from a few pictures, with explicit visibility and without a network call per point.

One convolutional network gives each picture a depth map with its uncertainty, from the picture and from how well the
others agree with it on planes of depth. All that follows are formulas of these maps: which points are solid, which
camera sees them, what colour they have, and a few samples around the expected depth of each ray.
"""

import dataclasses
from typing import Literal

import torch
from torch import nn

from simengine.render.camera import PinholeCamera
from simengine.render.unet import UNet
from simengine.render.visibility import (
    density_of_probability,
    inside,
    inverse_planes,
    sample,
    shadow_visibility,
    surfel_density,
    transmittance_visibility,
)

Formulation = Literal["shadow", "transmittance", "surfels", "none"]
FORMULATIONS: tuple[Formulation, ...] = ("shadow", "transmittance", "surfels", "none")
NEAR, FAR = 2.6, 6.8  # depths of planes and samples [m]
LEAST_SPREAD = 0.02  # [m]
LEAST_VISIBILITY = 1e-3  # so that a point that nobody sees still has a colour
BEYOND = 1e-6  # weight of pictures that a point falls out of: their border is better than black where no other has it
SURFEL_OPACITY = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceViews:
    """What is known of v pictures.

    Attributes:
        camera: A batch of v cameras.
        pictures: Linear RGB, shape (v, h, w, 3).
        planes: Depths [m], shape (d,).
        probability: That the surface is near each plane, shape (v, d, h, w).
        depth: Expected [m], shape (v, h, w).
        spread: Its uncertainty [m], shape (v, h, w).
    """

    camera: PinholeCamera
    pictures: torch.Tensor
    planes: torch.Tensor
    probability: torch.Tensor
    depth: torch.Tensor
    spread: torch.Tensor

    def points(self) -> torch.Tensor:
        """The surfaces of all views as points in the world [m], shape (v h w, 3)."""
        along = self.camera.directions() @ self.camera.rotation[:, None]
        return (self.camera.position[:, None, None] + along * self.depth[..., None]).reshape(-1, 3)


@torch.no_grad()
def plane_sweep(pictures: torch.Tensor, camera: PinholeCamera, planes: torch.Tensor) -> torch.Tensor:
    """How little each pixel agrees with the other pictures if its surface were at each depth.

    Args:
        pictures: Linear RGB, shape (v, h, w, 3).
        camera: A batch of v cameras.
        planes: Depths [m], shape (d,).

    Returns:
        Shape (v, 2 d, h, w): the mean difference to the better half of the others (what is hidden from some must not
        count against it), and to all; 1 where no picture has the point.
    """
    v, h, w, _ = pictures.shape
    maps, half = pictures.permute(0, 3, 1, 2), max(1, v // 2)
    along = camera.directions() @ camera.rotation[:, None]
    costs = []
    for k in range(v):
        points = camera.position[k] + along[k] * planes[:, None, None, None]  # (d, h, w, 3)
        projected = camera.project(points.reshape(-1, 3))
        seen = sample(maps, projected[..., :2]).view(v, len(planes), h, w, 3)
        known = inside(projected[..., :2], projected[..., 2], camera).view(v, len(planes), h, w)
        difference = torch.where(known, (seen - pictures[k]).abs().mean(-1), 1.0)
        others = torch.cat([difference[:k], difference[k + 1 :]]).sort(dim=0).values
        costs.append(torch.cat([others[:half].mean(0), others.mean(0)]))
    return torch.stack(costs)


class ViewSynthesis(nn.Module):
    """The network, and the few numbers that its formulas have.

    Args:
        num_planes: Planes of depth.
        width: Channels of the network at full size, divisible by 4.
        coarse: Samples of a ray that find its expected depth.
        fine: Samples around it that give the colour.
    """

    def __init__(self, *, num_planes: int = 24, width: int = 16, coarse: int = 32, fine: int = 4) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.register_buffer("planes", inverse_planes(NEAR, FAR, num_planes), persistent=False)
        self.net = UNet(2 * num_planes + 3, num_planes, width=width, depth=2)
        self.solid_bias = nn.Parameter(torch.tensor(2.0))  # in spreads; see `solidity`
        self.visible_bias = nn.Parameter(torch.tensor(3.0))
        self.log_focus = nn.Parameter(torch.tensor(2.0))  # how much views from a similar side count for more

    planes: torch.Tensor

    def look(self, pictures: torch.Tensor, camera: PinholeCamera) -> SourceViews:
        """Maps of v pictures (v, h, w, 3) by a batch of v cameras; sides divisible by 4.

        Raises:
            ValueError: Shapes disagree.
        """
        v, h, w, _ = pictures.shape
        if camera.batch_shape != (v,) or (h, w) != (camera.height, camera.width) or h % 4 or w % 4 or v < 2:
            raise ValueError(
                f"pictures: expected shape (v, {camera.height}, {camera.width}, 3), v at least 2 cameras, sides "
                f"divisible by 4, got {tuple(pictures.shape)} and {tuple(camera.batch_shape)} cameras"
            )
        cost = plane_sweep(pictures, camera, self.planes)
        logits = self.net(torch.cat([6 * cost, pictures.permute(0, 3, 1, 2)], dim=1)) - 60 * cost[:, : len(self.planes)]
        probability = logits.softmax(dim=1)
        planes = self.planes[None, :, None, None]
        depth = (probability * planes).sum(1)
        variance = (probability * (planes - depth[:, None]).square()).sum(1)
        spread = (variance + LEAST_SPREAD**2).sqrt()
        return SourceViews(
            camera=camera, pictures=pictures, planes=self.planes, probability=probability, depth=depth, spread=spread
        )

    def solidity(self, views: SourceViews, pixels: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Opacity of points: what any camera looks through is empty, what all find behind their surfaces is solid.

        Args:
            views: The sources.
            pixels: Where points fall in them, shape (v, n, 2).
            z: Their depths there [m], shape (v, n).

        Returns:
            Shape (n,).
        """
        depth, spread = sample(torch.stack([views.depth, views.spread], dim=1), pixels).unbind(-1)
        behind = nn.functional.logsigmoid(2 * ((z - depth) / spread + self.solid_bias))
        known = inside(pixels, z, views.camera)
        opacity = torch.where(known, behind, 0.0).sum(0).exp()
        return torch.where(known.any(0), opacity, 0.0).clamp(0, 1 - 1e-4)

    def visibility(
        self, views: SourceViews, pixels: torch.Tensor, z: torch.Tensor, formulation: Formulation
    ) -> torch.Tensor:
        """Which part of each point each camera sees, shape (v, n); arguments as of `solidity`."""
        if formulation == "none":
            return torch.ones_like(z)
        if formulation == "shadow":
            return shadow_visibility(views.depth, views.spread, pixels, z, bias=self.visible_bias)
        spread = sample(views.spread[:, None], pixels)[..., 0]
        before = z - self.visible_bias * spread  # the surface itself does not hide itself
        if formulation == "transmittance":
            density = density_of_probability(views.probability, views.planes)
        else:
            density = surfel_density(views.points(), views.camera, views.planes, opacity=SURFEL_OPACITY)
        return transmittance_visibility(density, views.planes, pixels, before)

    def forward(
        self, views: SourceViews, camera: PinholeCamera, *, formulation: Formulation = "shadow"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The picture and the depth that another camera sees.

        Args:
            views: The sources, of `look`.
            camera: A single camera, of any size.
            formulation: Of the visibility.

        Returns:
            Linear RGB (h, w, 3) and depth [m] (h, w).
        """
        along = (camera.directions() @ camera.rotation).view(-1, 1, 3)
        origin = camera.position
        t = inverse_planes(NEAR, FAR, self.coarse, dtype=along.dtype).to(along).expand(len(along), -1)
        weights = _weights(self._opacity(views, origin + along * t[..., None]))
        likely = weights.square() + 1e-8  # of two surfaces the more opaque one, not their mean
        likely = likely / likely.sum(1, keepdim=True)
        middle = (likely * t).sum(1, keepdim=True)
        width = ((likely * (t - middle).square()).sum(1, keepdim=True) + 0.03**2).sqrt().clamp_max(0.3)
        t = middle + width * torch.linspace(-1.0, 1.0, self.fine).to(along)
        points = origin + along * t[..., None]
        weights = _weights(self._opacity(views, points))
        colours = self._colours(views, points, along, formulation)
        depth = (weights * t).sum(1)
        return (weights[..., None] * colours).sum(1).view(camera.height, camera.width, 3), depth.view(
            camera.height, camera.width
        )

    def _opacity(self, views: SourceViews, points: torch.Tensor) -> torch.Tensor:
        projected = views.camera.project(points.reshape(-1, 3))
        return self.solidity(views, projected[..., :2], projected[..., 2]).view(points.shape[:-1])

    def _colours(
        self, views: SourceViews, points: torch.Tensor, along: torch.Tensor, formulation: Formulation
    ) -> torch.Tensor:
        """sum_i w_i V_i c_i / sum_i w_i V_i of points (n, m, 3) on rays (n, 1, 3), shape (n, m, 3)."""
        flat = points.reshape(-1, 3)
        projected = views.camera.project(flat)
        pixels, z = projected[..., :2], projected[..., 2]
        seen = sample(views.pictures.permute(0, 3, 1, 2), pixels)
        towards = nn.functional.normalize(flat - views.camera.position[:, None], dim=-1)
        mine = nn.functional.normalize(along.expand_as(points).reshape(-1, 3), dim=-1)
        cosine = (towards * mine).sum(-1)
        weight = torch.exp(self.log_focus.exp() * (cosine - 1)) * (inside(pixels, z, views.camera) + BEYOND)
        weight = weight * (self.visibility(views, pixels, z, formulation) + LEAST_VISIBILITY)
        mixed = (weight[..., None] * seen).sum(0) / (weight.sum(0) + 1e-30)[..., None]
        return mixed.view(points.shape)


def _weights(opacity: torch.Tensor) -> torch.Tensor:
    """Share of each sample of rays (n, m), front to back; the last one takes what is left."""
    opacity = torch.cat([opacity[:, :-1], torch.ones_like(opacity[:, -1:])], dim=1)
    left = torch.cumprod(1 - opacity, dim=1)
    return opacity * torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=1)
