"""Contact between bodies at nodes of the grid in plain torch; formulas in `simengine.kernels.matter.pair_contact`."""

import torch

from simengine.kernels.matter import pair_contact
from simengine.ops.matter.mpm.grid import Grid


def _ends(xi: torch.Tensor) -> torch.Tensor:
    """Where a half space ends whose middle lies xi cells before the node."""
    q = xi.clamp(pair_contact.NEAREST, pair_contact.FARTHEST).sqrt()
    a, b, c, d = pair_contact.SURFACE
    return a + q * (b + q * (c + q * d))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(-1, keepdim=True)


def change(
    w: torch.Tensor, a: torch.Tensor, b: torch.Tensor, mode: int, numbers: torch.Tensor, push: torch.Tensor
) -> torch.Tensor:
    """What contact adds to the velocity of b relative to a.

    Args:
        w: It [m/s], shape (nodes, 3).
        a: Moments and volume of a there, in cells, shape (nodes, 4).
        b: Of b.
        mode: How they touch.
        numbers: Coulomb coefficient [1] and margin [cells] at least.
        push: 3 k dx^2 dt / m of each node [m/s], shape (nodes, 1).
    """
    if mode == pair_contact.STICKY:
        return -w
    Va, Vb = a[:, 3:], b[:, 3:]
    ra, rb = a[:, :3] / Va, b[:, :3] / Vb
    d = ra - rb
    n = d / _dot(d, d).sqrt()
    xa, xb = _dot(ra, n), -_dot(rb, n)
    overlap = _ends(xa) + _ends(xb) + numbers[1]
    p = torch.where((xa > 0) & (xb > 0), push * Va * Vb * overlap.clamp(min=0.0), 0.0)
    sliding = w - n * _dot(w, n)
    square = _dot(sliding, sliding)
    size = torch.where(square > 0, square, 1.0).sqrt()
    share = torch.where(numbers[0] * p < size, numbers[0] * p / size, 1.0)
    return torch.where(p > 0, n * p - sliding * share, 0.0)


def settle(u: torch.Tensor, M: torch.Tensor, moments: torch.Tensor, grid: Grid, table: torch.Tensor) -> torch.Tensor:
    """Velocities of the bodies at the nodes with what contact between them does.

    Args:
        u: Velocities before it [m/s], shape (bodies, nodes, 3).
        M: Masses [kg], shape (bodies, nodes).
        moments: Moments [m^4] and volumes [m^3], shape (bodies, nodes, 4).
        grid: Which touch, and how.
        table: The row of the step, shape (rows, 23).
    """
    fields = list(u)
    numbers = table[1 + len(grid.kinds) :].reshape(3, -1).T
    scale = grid.dx ** -torch.tensor([4.0, 4.0, 4.0, 3.0], dtype=M.dtype, device=M.device)
    for (a, b, mode), own in zip(grid.pairs, numbers, strict=False):
        at = ((M[a] > 0) & (M[b] > 0)).nonzero()[:, 0]
        if mode == pair_contact.NONE or not len(at):
            continue
        c, d = moments[a][at] * scale, moments[b][at] * scale
        push = 3 * own[2] * grid.dx**2 * grid.dt * (1 / M[a][at, None] + 1 / M[b][at, None])
        step = change(fields[b][at] - fields[a][at], c, d, mode, own, push)
        total = (M[a] + M[b])[at, None]
        fields[a] = fields[a].index_add(0, at, -step * M[b][at, None] / total)
        fields[b] = fields[b].index_add(0, at, step * M[a][at, None] / total)
    return torch.stack(fields)
