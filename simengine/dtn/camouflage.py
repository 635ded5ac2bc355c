"""Textures that a detector does not see as the object: what hardening a detector has to withstand.

The loss is an expectation over views, lights and weathers (the batch), brightness, contrast, shift and scale
(`augment`).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from simengine.dtn.checks import check_gradient, checked_dense
from simengine.dtn.protocol import Detector, box_iou
from simengine.dtn.texture import mip_levels

# A military three-colour scheme: the naive camouflage of the comparisons.
NAIVE_PALETTE = ((0.10, 0.12, 0.05), (0.16, 0.10, 0.05), (0.03, 0.03, 0.025))


class PaintTexture(nn.Module):
    """A texture of linear albedo within what a paint can be: the logistic function of a sum of levels.

    Each level has half the rows and columns of the one before, so that an optimiser moves large patches, which distant
    views see, as readily as single texels.

    Args:
        size: Rows and columns.
        albedo: Lowest and highest albedo.
        seed: Of the random start.
        spread: Standard deviation of the start of the finest level; 0 starts from mid grey.
        levels: Their number at most; they end where a side is odd.
    """

    def __init__(
        self,
        size: tuple[int, int] = (16, 16),
        *,
        albedo: tuple[float, float] = (0.02, 0.85),
        seed: int = 0,
        spread: float = 0.5,
        levels: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= albedo[0] < albedo[1] <= 1:
            raise ValueError(f"albedo: expected two bounds in order within [0, 1], got {albedo}")
        self.albedo = albedo
        start = torch.randn(*size, 3, generator=torch.Generator().manual_seed(seed)) * spread
        coarser = [torch.zeros(rows, columns, 3) for rows, columns in mip_levels(size)[1:levels]]
        self.levels: nn.ParameterList = nn.ParameterList([start, *coarser])

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns, _ = self.levels[0].shape
        return rows, columns

    def forward(self) -> torch.Tensor:
        """The texture, shape (rows, columns, 3)."""
        total = self.levels[0]
        for number, level in enumerate(self.levels):
            if number:
                total = total + level.repeat_interleave(1 << number, 0).repeat_interleave(1 << number, 1)
        return self.albedo[0] + (self.albedo[1] - self.albedo[0]) * torch.sigmoid(total)

    @torch.no_grad()
    def set(self, texture: torch.Tensor) -> None:
        """Take a texture of the same size; albedos at the bounds are kept 1 % away from them.

        Raises:
            ValueError: The size differs, or an albedo lies outside the bounds.
        """
        low, high = self.albedo
        if texture.shape != (*self.size, 3):
            raise ValueError(f"texture: expected shape {(*self.size, 3)}, got {tuple(texture.shape)}")
        share = (texture - low) / (high - low)
        if not bool(((share >= -1e-6) & (share <= 1 + 1e-6)).all()):
            expected = f"albedos in [{low:g}, {high:g}]"
            raise ValueError(f"texture: expected {expected}, got {float(texture.min()):g}..{float(texture.max()):g}")
        self._start(torch.logit(share, eps=0.01))

    @torch.no_grad()
    def scatter(self) -> None:
        """Start anew at random, from torch's global generator."""
        self._start(torch.randn(self.levels[0].shape))

    def _start(self, finest: torch.Tensor) -> None:
        for number, level in enumerate(self.levels):
            level.copy_(torch.zeros_like(level) if number else finest)

    @torch.no_grad()
    def climb(self, step: float) -> None:
        """Move every level by `step` along the sign of the gradient that lies in it, which is then taken away."""
        for level in self.levels:
            if level.grad is not None:
                level.add_(level.grad.sign(), alpha=step)
                level.grad = None


def random_texture(
    size: tuple[int, int], seed: int, *, block: int = 1, albedo: tuple[float, float] = (0.02, 0.85)
) -> torch.Tensor:
    """Independent uniform albedos of blocks of texels, shape (rows, columns, 3).

    Args:
        size: Rows and columns.
        seed: Of the colours.
        block: Side of a block [texels]; it divides rows and columns.
        albedo: Lowest and highest.
    """
    if size[0] % block or size[1] % block:
        raise ValueError(f"block: expected a divisor of {size}, got {block}")
    values = torch.rand(size[0] // block, size[1] // block, 3, generator=torch.Generator().manual_seed(seed))
    values = values.repeat_interleave(block, 0).repeat_interleave(block, 1)
    return albedo[0] + (albedo[1] - albedo[0]) * values


def naive_texture(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Smooth blotches of three colours that repeat without a seam, shape (rows, columns, 3)."""
    rows, columns = size
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows).view(-1, 1) * (2 * torch.pi / rows)
    x = torch.arange(columns).view(1, -1) * (2 * torch.pi / columns)
    fields = []
    for _ in range(3):
        field = torch.zeros(rows, columns)
        for a in range(-3, 4):
            for b in range(4):
                weight, phase = torch.rand(2, generator=generator).tolist()
                field += weight / (1 + a * a + b * b) * torch.cos(a * y + b * x + 2 * torch.pi * phase)
        fields.append(field)
    return torch.tensor(NAIVE_PALETTE)[torch.stack(fields).argmax(0)]


def total_variation(texture: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring texels of a texture that repeats."""
    return (texture - texture.roll(1, 0)).abs().mean() + (texture - texture.roll(1, 1)).abs().mean()


def palette_distance(texture: torch.Tensor, palette: Sequence[Sequence[float]]) -> torch.Tensor:
    """Mean squared distance of the texels to the nearest colour of a palette, softened so that it is smooth."""
    colours = texture.new_tensor(palette)
    distance = (texture[:, :, None] - colours).square().sum(-1)
    return -(torch.logsumexp(-distance / 0.01, -1) * 0.01).mean() + 0.01 * float(torch.log(torch.tensor(len(palette))))


def augment(
    images: torch.Tensor,
    boxes: torch.Tensor,
    *,
    brightness: float = 0.1,
    contrast: float = 0.2,
    shift: float = 4.0,
    scale: float = 0.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and their boxes under transformations drawn for each picture from torch's global generator.

    Args:
        images: Encoded, shape (b, 3, h, w).
        boxes: True boxes (x0, y0, x1, y1) [pixels], shape (b, 4).
        brightness: Largest value added or taken away.
        contrast: Largest relative change of the distance to mid grey.
        shift: Largest shift along each side [pixels].
        scale: Largest relative change of size, about the middle of the picture.

    Returns:
        Pictures of the same size, borders continued outwards, and the boxes where the objects now are, cut at the edge.

    Raises:
        ValueError: There is not one box a picture.
    """
    b, _, h, w = images.shape
    if boxes.shape != (b, 4):
        raise ValueError(f"boxes: expected shape {(b, 4)}, got {tuple(boxes.shape)}")

    def uniform(most: float, *shape: int) -> torch.Tensor:
        return most * (2 * torch.rand(b, *shape, dtype=images.dtype) - 1).to(images.device)

    images = ((images - 0.5) * (1 + uniform(contrast, 1, 1, 1)) + 0.5 + uniform(brightness, 1, 1, 1)).clamp(0, 1)
    factor, move = 1 + uniform(scale, 1), uniform(shift, 2)
    size = images.new_tensor([w, h])
    if shift or scale:  # a pixel at x comes from x0 = (x - w/2 - move)/factor + w/2, in units of half the picture
        theta = images.new_zeros(b, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / factor[:, 0]
        theta[:, :, 2] = -2 * move / size / factor
        grid = nn.functional.affine_grid(theta, [b, 3, h, w], align_corners=False)
        images = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    corners = (boxes.view(b, 2, 2) - size / 2) * factor[:, None] + size / 2 + move[:, None]
    return images, torch.minimum(corners.clamp(min=0), size).view(b, 4)


Evasion = Literal["best", "all", "soft"]


def evasion_loss(
    detector: Detector,
    images: torch.Tensor,
    boxes: torch.Tensor,
    *,
    overlap: float = 0.5,
    kind: int | None = None,
    over: Evasion = "best",
) -> torch.Tensor:
    """Mean of -log(1 - s), s the scores before suppression of boxes that overlap the object.

    Args:
        detector: Its `dense` is used.
        images: Encoded pictures, shape (b, 3, h, w).
        boxes: True boxes [pixels], shape (b, 4).
        overlap: Smallest IoU of the boxes that count; 0 for all boxes.
        kind: Class whose score counts; None for the best of all classes.
        over: `"best"`: the best score of a picture (DTA, eq. 7; stealth loss of ACTIVE); `"all"`: the sum over all that
            count, so that the second best does not take the place of the best; `"soft"`: as `"all"`, but scores count
            by a logistic function of their IoU, 0.1 wide, so that pushing a box off the object is a way too.
    """
    found, scores = checked_dense(detector, images)
    if images.requires_grad:
        check_gradient(scores)
    score = scores.amax(-1) if kind is None else scores[..., kind]
    iou = box_iou(found, boxes[:, None])
    if over == "soft":
        counts = torch.sigmoid((iou - overlap) / 0.1)
    else:
        counts = (iou.detach() >= overlap).to(score.dtype)
    lost = -torch.log1p(-(score * counts).clamp(max=1 - 1e-6))
    return (lost.amax(1) if over == "best" else lost.sum(1)).mean()
