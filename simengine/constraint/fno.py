"""Fourier neural operators (Li et al., ICLR 2021) in one, two and three dimensions."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


class SpectralConvolution(nn.Module):
    """Multiplies the lowest Fourier coefficients of a field by learned matrices of channels.

    Args:
        channels: In and out.
        modes: Frequencies kept per axis: |k| < modes on all axes, 0 <= k < modes on the last.
    """

    def __init__(self, channels: int, modes: Sequence[int]) -> None:
        super().__init__()
        self.modes: tuple[int, ...] = tuple(modes)
        corners = 2 ** (len(modes) - 1)  # signs of the frequencies on all axes but the last
        shape = (corners, channels, channels, *modes, 2)
        self.weight: nn.Parameter = nn.Parameter(torch.randn(shape, dtype=torch.float64) / channels)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        """Shape (samples, channels, *grid) to the same.

        Raises:
            ValueError: The grid is too coarse for the modes.
        """
        grid = field.shape[2:]
        for axis, (size, kept) in enumerate(zip(grid, self.modes, strict=True)):
            most = size // 2 + (1 if axis == len(grid) - 1 else 0)
            if kept > most:
                raise ValueError(f"modes: axis {axis} of {size} points holds {most} of them, got {kept}")
        dims = tuple(range(2, field.ndim))
        hat = torch.fft.rfftn(field, dim=dims, norm="forward")
        out = torch.zeros_like(hat)
        signs = itertools.product(*[(True, False)] * (len(grid) - 1))
        for positive, weight in zip(signs, torch.view_as_complex(self.weight), strict=True):
            corner = [slice(None), slice(None)]
            corner += [slice(0, m) if p else slice(-m, None) for p, m in zip(positive, self.modes[:-1], strict=True)]
            corner.append(slice(0, self.modes[-1]))
            out[tuple(corner)] = torch.einsum("bi...,io...->bo...", hat[tuple(corner)], weight)
        return torch.fft.irfftn(out, s=grid, dim=dims, norm="forward")


class FNO(nn.Module):
    """Lifting, spectral convolutions with pointwise shortcuts, projection. Float64.

    Args:
        inputs: Channels of the input field.
        outputs: Channels of the output field.
        modes: Frequencies kept per axis; their number is the dimension, 1 to 3.
        width: Hidden channels.
        depth: Spectral layers.
    """

    def __init__(self, *, inputs: int, outputs: int, modes: Sequence[int], width: int = 32, depth: int = 4) -> None:
        super().__init__()
        if not 1 <= len(modes) <= 3 or min(modes) < 1:
            raise ValueError(f"modes: expected 1 to 3 numbers of at least 1, got {tuple(modes)}")
        self.lift: nn.Linear = nn.Linear(inputs, width, dtype=torch.float64)
        self.spectral: nn.ModuleList = nn.ModuleList(SpectralConvolution(width, modes) for _ in range(depth))
        self.pointwise: nn.ModuleList = nn.ModuleList(
            nn.Linear(width, width, dtype=torch.float64) for _ in range(depth)
        )
        self.project: nn.Sequential = nn.Sequential(
            nn.Linear(width, 2 * width, dtype=torch.float64),
            nn.GELU(),
            nn.Linear(2 * width, outputs, dtype=torch.float64),
        )

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        """Shape (samples, *grid, inputs) to (samples, *grid, outputs), on any grid that holds the modes."""
        hidden = self.lift(field)
        for k, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            mixed = spectral(hidden.movedim(-1, 1)).movedim(1, -1) + pointwise(hidden)
            hidden = nn.functional.gelu(mixed) if k < len(self.spectral) - 1 else mixed
        projected: torch.Tensor = self.project(hidden)
        return projected
