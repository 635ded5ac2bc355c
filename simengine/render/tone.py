"""From linear radiance to an encoded picture and back."""

import dataclasses

import torch


def encode_srgb(linear: torch.Tensor) -> torch.Tensor:
    """The transfer function of sRGB (IEC 61966-2-1) for values in [0, 1]; its slope is finite everywhere."""
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, power)


def decode_srgb(encoded: torch.Tensor) -> torch.Tensor:
    """Inverse of `encode_srgb`."""
    power = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, power)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToneCurve:
    """A soft shoulder, 1 - exp(-exposure L), followed by sRGB; strictly increasing, so that it has an inverse.

    Attributes:
        exposure: Scale of the radiance before the shoulder, above 0.
    """

    exposure: float = 1.0

    def __post_init__(self) -> None:
        if not self.exposure > 0:
            raise ValueError(f"exposure: expected a number above 0, got {self.exposure}")

    def encode(self, radiance: torch.Tensor) -> torch.Tensor:
        """The picture in [0, 1) of linear radiance >= 0, any shape."""
        return encode_srgb(-torch.expm1(-self.exposure * radiance))

    def decode(self, image: torch.Tensor) -> torch.Tensor:
        """The linear radiance of a picture; values of 1, where the curve is lost, give that of 1 - 1e-6."""
        return -torch.log1p(-decode_srgb(image).clamp(max=1 - 1e-6)) / self.exposure
