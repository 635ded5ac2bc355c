"""New views from a few pictures, with explicit visibility and without a network call per point.

One convolutional network gives each picture a depth map with its uncertainty, from the picture and from how well the
others agree with it on planes of depth; once more with the depths it has found, which tell who sees a plane at all.
All that follows are formulas of these maps: which points are solid, which camera sees them, what colour they have, and
a few samples around the expected depth of each ray.
"""

import dataclasses
from typing import Literal

import torch
from torch import nn

from simengine.render.camera import PinholeCamera
from simengine.worlds.learned.unet import UNet
from simengine.worlds.learned.views_from_few.visibility import (
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
WINDOW = 2  # planes on either side of the likeliest one whose mean is the depth: between two surfaces there is none


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

    @classmethod
    def likely(
        cls, camera: PinholeCamera, pictures: torch.Tensor, planes: torch.Tensor, probability: torch.Tensor
    ) -> "SourceViews":
        """With the mean and the deviation of the depth around the likeliest plane of each pixel."""
        number = torch.arange(len(planes))[None, :, None, None]
        near = (number - probability.argmax(1, keepdim=True)).abs() <= WINDOW
        local = probability * near
        local = local / local.sum(1, keepdim=True)
        z = planes[None, :, None, None]
        depth = (local * z).sum(1)
        variance = (local * (z - depth[:, None]).square()).sum(1)
        spread = (variance + LEAST_SPREAD**2).sqrt()
        return cls(camera=camera, pictures=pictures, planes=planes, probability=probability, depth=depth, spread=spread)


@torch.no_grad()
def plane_sweep(
    pictures: torch.Tensor, camera: PinholeCamera, planes: torch.Tensor, found: SourceViews | None = None
) -> torch.Tensor:
    """How little each pixel agrees with the other pictures if its surface were at each depth.

    Args:
        pictures: Linear RGB, shape (v, h, w, 3).
        camera: A batch of v cameras.
        planes: Depths [m], shape (d,).
        found: What is known of depths, None for nothing yet.

    Returns:
        Shape (v, 4 d, h, w): the mean difference to the better half of the others (what is hidden from some must not
        count against it), and to all, 1 where no picture has the point. With known depths the mean to all is over those
        that see the point; after it comes the share of the others that have found a surface there, and how much the
        point is in front of what one of them sees; both 0 without.
    """
    v, h, w, _ = pictures.shape
    d, half = len(planes), max(1, v // 2)
    maps = pictures.permute(0, 3, 1, 2)
    if found is not None:
        maps = torch.cat([maps, found.depth[:, None], found.spread[:, None]], dim=1)
    along = camera.directions() @ camera.rotation[:, None]
    sweeps = []
    for k in range(v):
        others = [i for i in range(v) if i != k]
        points = camera.position[k] + along[k] * planes[:, None, None, None]  # (d, h, w, 3)
        projected = camera.project(points.reshape(-1, 3))[others]
        pixels, z = projected[..., :2], projected[..., 2]
        seen = sample(maps[others], pixels)
        known = inside(pixels, z, camera)
        colour = pictures[k].expand(d, h, w, 3).reshape(-1, 3)
        difference = torch.where(known, (seen[..., :3] - colour).abs().mean(-1), 1.0)
        better = difference.sort(dim=0).values[:half].mean(0)
        if found is None:
            parts = [better, difference.mean(0), *torch.zeros(2, len(better))]
        else:
            behind = (z - seen[..., 3]) / (seen[..., 4] + 0.05)  # in spreads
            seers = known * torch.sigmoid(2 * (2 - behind)) + 1e-3
            there = (known * torch.exp(-0.5 * behind.square())).mean(0)
            before = (known * torch.sigmoid(2 * (-2 - behind))).amax(0)
            parts = [better, (seers * difference).sum(0) / seers.sum(0), there, before]
        sweeps.append(torch.cat([part.view(d, h, w) for part in parts]))
    return torch.stack(sweeps)


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
        self.coarse: int = coarse
        self.fine: int = fine
        self.register_buffer("planes", inverse_planes(NEAR, FAR, num_planes), persistent=False)
        self.net: UNet = UNet(5 * num_planes + 3, num_planes, width=width, depth=2)
        self.solid_bias: nn.Parameter = nn.Parameter(torch.tensor(2.0))  # in spreads; see `solidity`
        self.visible_bias: nn.Parameter = nn.Parameter(torch.tensor(3.0))
        self.log_focus: nn.Parameter = nn.Parameter(
            torch.tensor(2.0)
        )  # how much views from a similar side count for more

    planes: torch.Tensor

    def look(self, pictures: torch.Tensor, camera: PinholeCamera) -> SourceViews:
        """Maps of v pictures (v, h, w, 3) by a batch of v cameras; sides divisible by 4.

        Raises:
            ValueError: Shapes disagree.
        """
        return self.looks(pictures, camera)[-1]

    def looks(self, pictures: torch.Tensor, camera: PinholeCamera) -> list[SourceViews]:
        """The first look, from the pictures alone, and the second one, with the depths of the first; as `look`."""
        v, h, w, _ = pictures.shape
        if camera.batch_shape != (v,) or (h, w) != (camera.height, camera.width) or h % 4 or w % 4 or v < 2:
            raise ValueError(
                f"pictures: expected shape (v, {camera.height}, {camera.width}, 3), v at least 2 cameras, sides "
                f"divisible by 4, got {tuple(pictures.shape)} and {tuple(camera.batch_shape)} cameras"
            )
        d = len(self.planes)
        looks: list[SourceViews] = []
        logits = torch.zeros(v, d, h, w)
        for _ in range(2):
            sweep = plane_sweep(pictures, camera, self.planes, looks[-1] if looks else None)
            known = torch.cat([6 * sweep, 0.2 * logits.detach(), pictures.permute(0, 3, 1, 2)], dim=1)
            logits = self.net(known) - 10 * sweep[:, :d]
            looks.append(SourceViews.likely(camera, pictures, self.planes, logits.softmax(dim=1)))
        return looks

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
        along = (camera.directions() @ camera.rotation).view(-1, 3)
        colour, depth = self.rays(views, camera.position, along, formulation=formulation)
        return colour.view(camera.height, camera.width, 3), depth.view(camera.height, camera.width)

    def rays(
        self, views: SourceViews, origin: torch.Tensor, along: torch.Tensor, *, formulation: Formulation
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours (n, 3) and depths [m] (n,) of rays from one origin (3,) along (n, 3), per unit of depth."""
        along = along[:, None]
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
        return (weights[..., None] * colours).sum(1), (weights * t).sum(1)

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
