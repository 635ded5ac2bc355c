"""One step of MLS-MPM in plain torch: the same signature as `simengine.ops.matter.mpm.step`, any dtype, no cleverness.

Equations: Hu et al. 2018, Sec. 4; walls as in Ma et al. 2023.
"""

import itertools

import torch

from simengine.ops.matter.contact_reference import boundary_stages, boundary_velocity
from simengine.ops.matter.mpm.grid import Grid
from simengine.ops.matter.pair_contact_reference import settle


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
    fields = torch.stack([boundary_velocity(own, ijk, grid, row) for own in u])
    v_i = fields[bodies_of(x, grid)[:, None], node]
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
    total = x.new_zeros(6 + len(grid.kinds), 3)
    for own, mass_i in zip(u, M, strict=True):
        some = (mass_i > 0).nonzero()[:, 0]
        stages = boundary_stages(own[some], ijk[some], grid, row)
        changes = [after - before for before, after in itertools.pairwise(stages)]
        total = total + torch.stack([(mass_i[some, None] * change).sum(0) for change in changes])
    return total


def bodies_of(x: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The body of each particle, (n,)."""
    counts = torch.tensor(grid.bodies or (len(x),), device=x.device)
    return torch.arange(len(counts), device=x.device).repeat_interleave(counts)


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
    """Velocity of the nodes before walls (bodies, nodes, 3), mass, numbers (nodes, 3), and the row of `table`."""
    node, w, r = stencil(x, grid)
    nodes = grid.size[0] * grid.size[1] * grid.size[2]
    inertia = 4 / grid.dx**2
    A = -grid.dt * volume[:, None, None] * inertia * tau + mass[:, None, None] * C
    momentum = w[..., None] * (mass[:, None, None] * v[:, None] + torch.einsum("nij,nkj->nki", A, r))
    bodies = max(1, len(grid.bodies))
    place = (bodies_of(x, grid)[:, None] * nodes + node).reshape(-1)
    P = x.new_zeros(bodies * nodes, 3).index_add(0, place, momentum.reshape(-1, 3)).reshape(bodies, nodes, 3)
    M = x.new_zeros(bodies * nodes).index_add(0, place, (w * mass[:, None]).reshape(-1)).reshape(bodies, nodes)
    full = (M > 0)[..., None]
    u = torch.where(full, P / torch.where(full, M[..., None] + grid.epsilon, 1.0), 0.0)
    row = table[min(number, len(table) - 1)]
    u = u + (torch.tensor(grid.gravity, dtype=x.dtype, device=x.device) + row[0, 6:9]) * grid.dt
    if grid.pairs:
        parts = torch.cat((r, torch.ones_like(r[..., :1])), -1) * (w * volume[:, None])[..., None]
        moments = x.new_zeros(bodies * nodes, 4).index_add(0, place, parts.reshape(-1, 4))
        u = settle(u, M, moments.reshape(bodies, nodes, 4), grid, row)
    ijk = torch.stack(torch.meshgrid(*(torch.arange(n, device=x.device) for n in grid.size), indexing="ij"), -1)
    return u, M, ijk.reshape(-1, 3), row
