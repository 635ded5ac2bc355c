"""One step of MLS-MPM in plain torch: the same signature as `simengine.ops.matter.mpm.step`, any dtype, no cleverness.

Equations: Hu et al. 2018, Sec. 4; walls as in Ma et al. 2023.
"""

import itertools

import torch

from simengine.ops.matter.contact_reference import boundary_stages, boundary_velocity
from simengine.ops.matter.mpm_grid import Grid


def stencil(x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Node indices (n, 27), weights (n, 27) and x_i - x_p (n, 27, 3) of quadratic B-splines."""
    s = x / grid.dx
    base = torch.floor(s - 0.5).detach()
    d = s - base
    w = torch.stack((0.5 * (1.5 - d) ** 2, 0.75 - (d - 1) ** 2, 0.5 * (d - 0.5) ** 2))  # (3, n, 3)
    offsets = torch.tensor(list(itertools.product(range(3), repeat=3)), device=x.device)
    weight = w[offsets[:, 0], :, 0] * w[offsets[:, 1], :, 1] * w[offsets[:, 2], :, 2]
    size = torch.tensor(grid.size, device=x.device)
    ijk = (base.long()[:, None] + offsets) % size
    node = (ijk[..., 0] * size[1] + ijk[..., 1]) * size[2] + ijk[..., 2]
    return node, weight.T, (offsets.to(x) - d[:, None]) * grid.dx


def step(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `simengine.ops.matter.mpm.step`, without checks."""
    node, w, r = stencil(x, grid)
    u, _, ijk, row = _on_nodes(x, v, C, tau, mass, volume, table, grid, number)
    inertia = 4 / grid.dx**2
    v_i = boundary_velocity(u, ijk, grid, row)[node]
    v_new = (w[..., None] * v_i).sum(1)
    C_new = inertia * torch.einsum("nk,nki,nkj->nij", w, v_i, r)
    return x + grid.dt * v_new, v_new, C_new, F + grid.dt * C_new @ F


def impulses(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> torch.Tensor:
    """What each face and each rigid body gives to matter in a step [kg m/s], shape (6 + bodies, 3).

    Arguments as of `step`. Their sum, with that of gravity, is the change of the particles' momentum to rounding, since
    the transfers keep it.
    """
    u, M, ijk, row = _on_nodes(x, v, C, tau, mass, volume, table, grid, number)
    some = (M > 0).nonzero()[:, 0]
    stages = boundary_stages(u[some], ijk[some], grid, row)
    changes = [after - before for before, after in itertools.pairwise(stages)]
    return torch.stack([(M[some, None] * change).sum(0) for change in changes])


def _on_nodes(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    tau: torch.Tensor,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Velocity of the nodes before contact (nodes, 3), mass (nodes,), numbers (nodes, 3), and the row of `table`."""
    node, w, r = stencil(x, grid)
    nodes = grid.size[0] * grid.size[1] * grid.size[2]
    inertia = 4 / grid.dx**2
    A = -grid.dt * volume[:, None, None] * inertia * tau + mass[:, None, None] * C
    momentum = w[..., None] * (mass[:, None, None] * v[:, None] + torch.einsum("nij,nkj->nki", A, r))
    P = x.new_zeros(nodes, 3).index_add(0, node.reshape(-1), momentum.reshape(-1, 3))
    M = x.new_zeros(nodes).index_add(0, node.reshape(-1), (w * mass[:, None]).reshape(-1))
    full = (M > 0)[:, None]
    u = torch.where(full, P / torch.where(full, M[:, None] + grid.epsilon, 1.0), 0.0)
    row = table[min(number, len(table) - 1)]
    u = u + (torch.tensor(grid.gravity, dtype=x.dtype, device=x.device) + row[0, 6:9]) * grid.dt
    ijk = torch.stack(torch.meshgrid(*(torch.arange(n, device=x.device) for n in grid.size), indexing="ij"), -1)
    return u, M, ijk.reshape(-1, 3), row
