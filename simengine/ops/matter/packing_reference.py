"""The packing of grains on the grid in plain torch; the formulas are in `simengine.kernels.matter.packing`."""

import torch

from simengine.kernels.matter.packing import SURFACE
from simengine.ops.matter.mpm.grid import Grid
from simengine.ops.matter.mpm.transfer_reference import bodies_of, stencil


def log_packing(x: torch.Tensor, *, mass: torch.Tensor, volume: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Logarithm of the packing around each particle over that at rest [1], shape (n,).

    Args:
        x: Positions [m], shape (n, 3).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        grid: The grid; each of its bodies counts by itself.
    """
    node, w, r = stencil(x, grid)
    nodes = grid.size[0] * grid.size[1] * grid.size[2]
    node = node + bodies_of(x, grid)[:, None] * nodes
    count = max(1, len(grid.bodies)) * nodes
    m = x.new_zeros(count).index_add(0, node.flatten(), (w * mass[:, None]).flatten())[node]
    M = (w * m).sum(1)
    G = torch.einsum("nk,nk,nki->ni", w, m, r) * (4 / grid.dx)
    missed = torch.log1p(SURFACE * (G / M[:, None]).square()).sum(1)
    return torch.log(M * volume / (mass * grid.dx**3)) + missed


def pack(q: torch.Tensor, log_c: torch.Tensor, critical: torch.Tensor) -> torch.Tensor:
    """The history bounded by the packing, shape (n,).

    Args:
        q: Logarithm of the volume gained [1], shape (n,).
        log_c: Logarithm of the packing [1], shape (n,).
        critical: Packing over that at rest below which grains press on nothing [1], shape (n,); 0 for no bound.
    """
    bounded = torch.minimum(torch.maximum(q, torch.log(critical.clamp_min(1e-30)) - log_c), (-log_c).clamp_min(0))
    return torch.where(critical > 0, bounded, q)
