"""From linear radiance to an encoded picture and back."""

import dataclasses
from typing import Literal

import torch


def encode_srgb(linear: torch.Tensor) -> torch.Tensor:
    """The transfer function of sRGB (IEC 61966-2-1) for values in [0, 1]; its slope is finite everywhere."""
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, power)


def decode_srgb(encoded: torch.Tensor) -> torch.Tensor:
    """Inverse of `encode_srgb`."""
    power = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, power)


# of (x (a x + b)) / (x (c x + d) + e), Narkowicz's fit to the reference transform of ACES (2016)
ACES = (2.51, 0.03, 2.43, 0.59, 0.14)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToneCurve:
    """A shoulder followed by sRGB; increasing, so that it has an inverse up to where it is saturated.

    Attributes:
        exposure: Scale of the radiance before the shoulder, above 0.
        shoulder: `"soft"`: 1 - exp(-L), never saturated; `"aces"`: as in films and games, saturated from 7.2 on;
            `"none"`: cut at 1.
    """

    exposure: float = 1.0
    shoulder: Literal["soft", "aces", "none"] = "soft"

    def __post_init__(self) -> None:
        if not self.exposure > 0:
            raise ValueError(f"exposure: expected a number above 0, got {self.exposure}")
        if self.shoulder not in ("soft", "aces", "none"):
            raise ValueError(f"shoulder={self.shoulder!r}: expected 'soft', 'aces' or 'none'")

    def encode(self, radiance: torch.Tensor) -> torch.Tensor:
        """The picture in [0, 1] of linear radiance >= 0, any shape."""
        x = self.exposure * radiance
        if self.shoulder == "soft":
            return encode_srgb(-torch.expm1(-x))
        if self.shoulder == "aces":
            a, b, c, d, e = ACES
            x = x * (a * x + b) / (x * (c * x + d) + e)
        return encode_srgb(x.clamp(0, 1))

    def decode(self, image: torch.Tensor) -> torch.Tensor:
        """The linear radiance of a picture; values of 1, where the curve is lost, give that of 1 - 1e-6."""
        y = decode_srgb(image).clamp(max=1 - 1e-6)
        if self.shoulder == "soft":
            y = -torch.log1p(-y)
        elif self.shoulder == "aces":  # the positive root of (a - c y) x^2 + (b - d y) x - e y
            a, b, c, d, e = ACES
            p, q = b - d * y, a - c * y
            root = (p.square() + 4 * q * e * y).clamp(min=1e-12).sqrt()
            y = torch.where(p > 0, 2 * e * y / (p + root).clamp(min=1e-12), (root - p) / (2 * q))
        return y / self.exposure
