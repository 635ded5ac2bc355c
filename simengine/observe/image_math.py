"""What is done with pictures before they are compared: outlines out of colours, slopes, correlation, coarser copies."""

import dataclasses
from typing import Literal

import torch

from simengine.observe.colour_mixture import body_pixels
from simengine.scene.strict import Positive, Vector

WEIGHTS = (0.2126, 0.7152, 0.0722)  # of R, G, B in luminance (Rec. 709)
TINT = 0.1  # of a colour that another has not, from which the two are told apart in any light


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """What of a picture is the body.

    Attributes:
        color: Of the body, shares of full scale as a colour picker shows them; None for what differs from `background`
            [1].
        tolerance: Largest distance of a pixel from that colour, or least from the background, on the same scale [1].
        by: `color`; `hue`, the same colour in any light: distances are those of R, G, B over their sum; or `mixture`:
            colours and threshold are sought, two Gaussians of light that make the pictures likeliest, the wall's as a
            lamp from aside lights it; from what `color` or `background` tells, or else from the edges of the pictures.
    """

    color: Vector | None = None
    tolerance: Positive = 0.1
    by: Literal["color", "hue", "mixture"] = "color"

    def opacity(
        self,
        stored: torch.Tensor,
        light: torch.Tensor,
        empty: torch.Tensor | None,
        empty_light: torch.Tensor | None,
        *,
        sharp: bool = True,
    ) -> torch.Tensor:
        """How much of each pixel the body covers, (f, h, w).

        Args:
            stored: Pictures as the file has them, shares of full scale, (f, h, w, 3).
            light: The same in linear light.
            empty: The background as the file has it, (h, w, 3).
            empty_light: The same in linear light.
            sharp: Whether colours are known in each pixel.

        Raises:
            ValueError: There is neither a colour nor a background.
        """
        if self.by == "mixture" and self.color is None and empty is None:
            return matted(light, body_pixels(light, None), sharp=sharp, any_light=sharp)
        if self.color is None and (empty is None or empty_light is None):
            raise ValueError("segment: name the body's color, or a background to differ from")
        if self.by == "hue":
            color_light = None if self.color is None else _decoded(torch.tensor(self.color, dtype=torch.float64))
            other = color_light if color_light is not None else empty_light
            assert other is not None
            distance = (_hue(light) - _hue(other)).norm(dim=-1)
        else:
            other = empty if self.color is None else torch.tensor(self.color, dtype=torch.float64)
            assert other is not None
            distance = (stored - other).norm(dim=-1)
        hard = distance > self.tolerance if self.color is None else distance < self.tolerance
        if self.by == "mixture":
            hard = body_pixels(light, hard)
        return matted(light, hard, sharp=sharp, any_light=sharp and self.by != "color")


def _hue(light: torch.Tensor) -> torch.Tensor:
    return light / light.sum(-1, keepdim=True).clamp_min(1e-3)


def _decoded(encoded: torch.Tensor) -> torch.Tensor:
    from simengine.render.tone import decode_srgb

    return decode_srgb(encoded)


def matted(light: torch.Tensor, hard: torch.Tensor, *, sharp: bool = True, any_light: bool = False) -> torch.Tensor:
    """Opacities (f, h, w) of a mask (f, h, w): pixels at its edge are mixtures of the colours on both sides.

    A threshold alone puts the outline up to half a pixel off; the share of a mixture in linear light does not.

    Args:
        light: Linear, (f, h, w, 3).
        hard: The mask.
        sharp: Whether colours are known in each pixel; of smeared ones the mean over more pixels is taken.
        any_light: Whether what is behind may be darker or brighter at the edge than beside it, as in the shadow where a
            body stands: the share is then told by what of the colour the wall has not.
    """
    inside = hard.to(light)[:, None]
    beside = torch.nn.functional.avg_pool2d(inside, 3, 1, 1, divisor_override=1)
    inside = inside * (beside > 2.5)  # one or two pixels alone are noise: in the dark any hue comes up
    core = -torch.nn.functional.max_pool2d(-inside, 3, 1, 1)  # whole neighbourhood inside
    rim = torch.nn.functional.max_pool2d(inside, 3, 1, 1)
    off = 1 - rim
    pixels = light.permute(0, 3, 1, 2)

    def near(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # the nearest colours that there are: shading changes along a body, and a wider mean puts a dark edge inside
        colour, found = torch.zeros_like(pixels), torch.zeros_like(weight, dtype=torch.bool)
        for reach in (2, 3) if sharp else (3,):
            size = 2 * reach + 1
            count = torch.nn.functional.avg_pool2d(weight, size, 1, reach)
            mean = torch.nn.functional.avg_pool2d(pixels * weight, size, 1, reach) / count.clamp_min(1e-9)
            colour = torch.where(found, colour, mean)
            found = found | (count > 1e-6)
        return colour, found

    (body, has_body), (wall, has_wall) = near(core), near(off)
    across, beyond = body - wall, pixels - wall
    if any_light:
        of = wall / wall.norm(dim=1, keepdim=True).clamp_min(1e-9)
        own = body - (body * of).sum(1, keepdim=True) * of
        across = torch.where(own.norm(dim=1, keepdim=True) > TINT * body.norm(dim=1, keepdim=True), own, across)
    share = (beyond * across).sum(1, keepdim=True) / across.square().sum(1, keepdim=True).clamp_min(1e-9)
    edge = (core < 0.5) & (off < 0.5)
    found = torch.where(edge & has_body & has_wall, share.clamp(0, 1), inside)
    return found[:, 0]


def grey(light: torch.Tensor) -> torch.Tensor:
    """Luminance (..., 1) of colours (..., c)."""
    if light.shape[-1] != 3:
        return light.mean(-1, keepdim=True)
    return (light * light.new_tensor(WEIGHTS)).sum(-1, keepdim=True)


def slopes(light: torch.Tensor) -> torch.Tensor:
    """Central differences of the luminance along columns and rows [1/px], (f, h, w, 2); 0 at the border."""
    y = grey(light)[..., 0]
    out = torch.zeros(*y.shape, 2, dtype=y.dtype)
    inner = torch.stack(
        [(y[:, 1:-1, 2:] - y[:, 1:-1, :-2]) / 2, (y[:, 2:, 1:-1] - y[:, :-2, 1:-1]) / 2],
        -1,
    )
    return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1)) + out


def normalised(light: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Luminance of each picture less its mean, over its root mean square: no gain, no offset, (f, h, w, 1).

    Args:
        light: (f, h, w, c).
        weight: Pixels that count, (f, h, w), 0 or 1.
    """
    y, w = grey(light), weight[..., None].to(light)
    total = w.sum((1, 2, 3), keepdim=True).clamp_min(1)
    y = y - (w * y).sum((1, 2, 3), keepdim=True) / total
    size = ((w * y.square()).sum((1, 2, 3), keepdim=True) / total).sqrt()
    return y / size.clamp_min(1e-9)


def shrunk(pictures: torch.Tensor, factor: int) -> torch.Tensor:
    """Means over blocks of factor x factor pixels, (f, h // factor, w // factor, c)."""
    if factor == 1:
        return pictures
    f, h, w, c = pictures.shape
    h, w = h // factor, w // factor
    cut = pictures[:, : h * factor, : w * factor]
    return cut.reshape(f, h, factor, w, factor, c).mean((2, 4))


def coarsened(gap: torch.Tensor, weight: torch.Tensor, level: int) -> torch.Tensor:
    """Weighted means over blocks of 2^level pixels in the place of each of their pixels, (f, h, w, c)."""
    n = 2**level
    f, h, w, c = gap.shape
    pad = (0, 0, 0, -w % n, 0, -h % n)
    sums = []
    for values in (gap * weight, weight.expand(gap.shape)):
        padded = torch.nn.functional.pad(values, pad)
        blocks = padded.reshape(f, padded.shape[1] // n, n, padded.shape[2] // n, n, c).sum((2, 4))
        sums.append(blocks.repeat_interleave(n, 1).repeat_interleave(n, 2)[:, :h, :w])
    return sums[0] / sums[1].clamp_min(1)
