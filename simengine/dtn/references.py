"""Closed forms: how a texture looks in a view of which pictures with K known grey paints are at hand.

Linear radiance is affine in the paint per pixel and channel, L = A c + B. So two references give every paint exactly
where the tone curve is known; where it is not, a polynomial through K references in encoded values comes near.
"""

import dataclasses

import torch

from simengine.dtn.views import ViewSet
from simengine.render.tone import ToneCurve, encode_srgb


class ReferencePredictor:
    """Predicts pictures of any paint from pictures of K grey ones; needs no training.

    Args:
        levels: The K greys, linear albedo in [0, 1], all different; K >= 2.
        images: The encoded pictures, shape (n, K, 3, h, w).
        tone: The tone curve where it is known: then the affine law is used (least squares if K > 2). None interpolates
            encoded pictures over encoded paint by the polynomial of degree K - 1 (Lagrange).

    Raises:
        ValueError: There are fewer than two levels, two are equal, or the shapes disagree.
    """

    def __init__(self, levels: torch.Tensor, images: torch.Tensor, *, tone: ToneCurve | None = None) -> None:
        k = len(levels)
        if k < 2 or len(levels.unique()) < k or float(levels.min()) < 0 or float(levels.max()) > 1:
            raise ValueError(f"levels: expected at least two different greys in [0, 1], got {levels.tolist()}")
        if images.dim() != 5 or images.shape[1:3] != (k, 3):
            raise ValueError(f"images: expected shape (n, {k}, 3, h, w), got {tuple(images.shape)}")
        self.levels: torch.Tensor = levels.to(images.device)
        self.images: torch.Tensor = images
        self.tone: ToneCurve | None = tone

    def __call__(self, paint: torch.Tensor) -> torch.Tensor:
        """Encoded pictures, differentiable in the paint.

        Args:
            paint: Linear albedo, broadcast to shape (n, 3, h, w), on any device.
        """
        paint = paint.to(self.images.device)
        if self.tone is not None:
            radiance = self.tone.decode(self.images)
            centred = self.levels - self.levels.mean()
            weights = (centred / centred.square().sum()).to(radiance.dtype)
            gain = torch.einsum("k,nkchw->nchw", weights, radiance)
            offset = radiance.mean(1) - gain * self.levels.mean()
            return self.tone.encode((gain * paint + offset).clamp(min=0))
        knots, t = encode_srgb(self.levels), encode_srgb(paint)
        total = torch.zeros_like(self.images[:, 0])
        for i, knot in enumerate(knots):
            basis = torch.ones_like(t)
            for j, other in enumerate(knots):
                if j != i:
                    basis = basis * (t - other) / (knot - other)
            total = total + basis * self.images[:, i]
        return total.clamp(0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReferencedViews(ViewSet):
    """Views whose pictures follow from those in K greys, by the polynomial through them, in place of A c + B.

    Attributes:
        levels: The greys, linear albedo.
        images: Encoded pictures in them, shape (n, K, 3, h, w).
    """

    levels: tuple[float, ...]
    images: torch.Tensor

    def picture(self, paint: torch.Tensor, index: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """See `ViewSet.picture`; what shows no paint stays as it is in the pictures."""
        return ReferencePredictor(torch.tensor(self.levels), self.images[index])(paint)
