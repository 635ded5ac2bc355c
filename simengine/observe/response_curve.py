"""How light becomes the numbers of a file, and back: a camera's response.

A number is stored = h(base(light)): the base is that of sRGB, a power or nothing, and h a curve from 0 to 1 of a few
numbers c_k that bends it. Its slope is exp(sum_k c_k T_k(2 x - 1)), of Chebyshev's polynomials, over what makes h(1)
one (as monotone functions in Ramsay 1998): whatever the numbers are, h grows, so light can be told from what is
stored; all 0 leave the base as it is. Cameras' responses are told by few numbers (Grossberg & Nayar 2004).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from simengine.render.tone import decode_srgb, encode_srgb

NODES = 16  # of Gauss and Legendre, for integrals from 0 to x: the slope is smooth
DARK = 1e-12  # below this a power has no slope
NEWTON, TOLERANCE = 60, 1e-13
Base = Literal["srgb", "gamma", "linear"]


@dataclasses.dataclass(frozen=True)
class CameraResponse:
    """The response of a camera or of the program that wrote a file; differentiable in light, gamma and curve.

    Attributes:
        base: srgb, gamma, or linear.
        gamma: Exponent of the base `gamma`: a number or a tensor.
        curve: Numbers of h; none for the base alone.
    """

    base: Base
    gamma: Any = 2.2
    curve: Sequence[Any] = ()

    def stored(self, light: torch.Tensor) -> torch.Tensor:
        """What a file holds of linear light, any shape; beyond full scale along the slope that h has there."""
        if self.base == "srgb":
            light = encode_srgb(light)
        elif self.base == "gamma":
            light = light.clamp_min(DARK) ** (1 / self.gamma)
        return self._bent(light) if self.curve else light

    def light(self, stored: torch.Tensor) -> torch.Tensor:
        """Linear light of what a file holds, the inverse of `stored`."""
        if self.curve:
            stored = self._straight(stored)
        if self.base == "srgb":
            return decode_srgb(stored)
        return stored.clamp_min(DARK) ** self.gamma if self.base == "gamma" else stored

    def _slope(self, x: torch.Tensor) -> torch.Tensor:
        """Of h, but for the factor that makes h(1) = 1."""
        turned = 2 * x - 1
        before, now, total = torch.ones_like(x), turned, torch.zeros_like(x)
        for number in self.curve:
            total = total + number * now
            before, now = now, 2 * turned * now - before
        return total.exp()

    def _whole(self, like: torch.Tensor) -> torch.Tensor:
        """The integral of the slope, by which it is divided."""
        nodes, weights = _nodes(like)
        found: torch.Tensor = (weights * self._slope(nodes)).sum()
        return found

    def _bent(self, x: torch.Tensor) -> torch.Tensor:
        """The curve h."""
        inside = x.clamp(0, 1)
        share = sum(weight * self._slope(inside * node) for node, weight in zip(*_nodes(x), strict=True))
        found: torch.Tensor = (inside * share + (x - inside) * self._slope(inside)) / self._whole(x)
        return found

    def _straight(self, y: torch.Tensor) -> torch.Tensor:
        """The inverse of h: Newton's method between bounds, and one step more that carries the derivatives."""
        with torch.no_grad():
            whole, inside = self._whole(y), y.clamp(0, 1)
            x, low, high = inside.clone(), torch.zeros_like(inside), torch.ones_like(inside)
            for _ in range(NEWTON):
                gap = self._bent(x) - inside
                low, high = torch.where(gap < 0, x, low), torch.where(gap > 0, x, high)
                step = x - gap * whole / self._slope(x)
                step = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
                done = not bool(((step - x).abs() > TOLERANCE).any())
                x = step
                if done:
                    break
            x = x + (y - inside) * whole / self._slope(inside)  # straight beyond both ends
            tangent = self._slope(x.clamp(0, 1)) / whole
        return x - (self._bent(x) - y) / tangent


def _nodes(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of Gauss and Legendre between 0 and 1, and their weights."""
    nodes, weights = (torch.from_numpy(part).to(like) for part in np.polynomial.legendre.leggauss(NODES))
    return (nodes + 1) / 2, weights / 2
