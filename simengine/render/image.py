"""What every renderer returns."""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from simengine.notebook import heading, pictures
from simengine.render.tone import encode_srgb


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """A picture with what was measured on the way; row 0 is on top.

    Attributes:
        rgb: Linear radiance, background included, shape (..., h, w, 3).
        alpha: Coverage in [0, 1], shape (..., h, w, 1).
        depth: Expected depth z over what covers the pixel [m], 0 where nothing does, shape (..., h, w, 1).
        median_depth: Depth at which half of the light is taken [m], 0 where less is, shape (..., h, w, 1); without a
            gradient. None where a renderer has none.
        normal: Unit normal in camera coordinates, 0 where nothing covers the pixel, shape (..., h, w, 3), or None.
    """

    rgb: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor
    median_depth: torch.Tensor | None = None
    normal: torch.Tensor | None = None

    def __repr__(self) -> str:
        *batch, h, w, _ = self.rgb.shape
        has = [name for name in ("median_depth", "normal") if getattr(self, name) is not None]
        many = f"{tuple(batch)} of " if batch else ""
        return f"Image({many}{w} x {h} px, {', '.join(('rgb', 'alpha', 'depth', *has))}, {self.rgb.dtype})"

    def _repr_html_(self) -> str:
        rgb = encode_srgb(self.rgb.detach().clamp(0.0, 1.0))
        return heading(repr(self)) + pictures(rgb.reshape(-1, *rgb.shape[-3:]))

    @classmethod
    def stack(cls, images: "Sequence[Image]") -> "Image":
        """Pictures of one renderer and size as a batch."""

        def together(name: str) -> torch.Tensor | None:
            values = [getattr(image, name) for image in images]
            return None if values[0] is None else torch.stack(values)

        return cls(**{field.name: together(field.name) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]

    def detach(self) -> "Image":
        """The picture without its graph."""
        return self._map(torch.Tensor.detach)

    def __getitem__(self, index: int) -> "Image":
        """One picture of a batch."""
        return self._map(lambda value: value[index])

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Image":
        return Image(
            rgb=function(self.rgb),
            alpha=function(self.alpha),
            depth=function(self.depth),
            median_depth=None if self.median_depth is None else function(self.median_depth),
            normal=None if self.normal is None else function(self.normal),
        )


def psnr(image: torch.Tensor, reference: torch.Tensor, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio [dB] of `image` against `reference`, of one shape, with values up to `peak`."""
    mse = float((image.double() - reference.double()).square().mean())
    return float("inf") if mse == 0 else 10 * float(torch.log10(torch.tensor(peak**2 / mse, dtype=torch.float64)))
