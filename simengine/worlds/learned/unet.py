"""A small convolutional network from maps to maps of the same size."""

import torch
from torch import nn


class _ResidualBlock(nn.Module):
    """Two convolutions, the second one beside a short cut. Nothing is normalised: how bright a picture is matters."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, padding=1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.first(x))
        return x + nn.functional.silu(self.second(x))


class UNet(nn.Module):
    """Halvings, doublings and links between equal sizes.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        width: Channels at full size; doubled at each halving, up to four times.
        depth: Halvings; sides are divisible by 2^depth.
        overall: Whether mean and maximum over the whole picture are added at the bottom.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, depth: int, overall: bool = False) -> None:
        super().__init__()
        self.depth = depth
        widths = [width * min(2**k, 4) for k in range(depth + 1)]
        self.down: nn.ModuleList = nn.ModuleList(
            [_ResidualBlock(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True)]
        )
        self.bottom: nn.Linear | None = nn.Linear(2 * widths[-1], widths[-1]) if overall else None
        self.up: nn.ModuleList = nn.ModuleList(
            [_ResidualBlock(widths[k] + widths[k + 1], widths[k]) for k in range(depth)]
        )
        self.head: nn.Conv2d = nn.Conv2d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (b, outputs, h, w) of maps (b, inputs, h, w)."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.avg_pool2d(x, 2))
            kept.append(x)
        if self.bottom is not None:
            x = x + self.bottom(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))[:, :, None, None]
        for level in reversed(range(self.depth)):
            x = self.up[level](torch.cat([nn.functional.interpolate(x, scale_factor=2.0), kept[level]], dim=1))
        maps: torch.Tensor = self.head(x)
        return maps
