"""Hard contact of particles with rigid bodies in plain torch; formulas in `simengine.kernels.matter.hard_contact`."""

import torch

from simengine.kernels.matter import contact, signed_distance
from simengine.kernels.matter.hard_contact import GRIP
from simengine.ops.matter.contact_reference import distance_of
from simengine.ops.matter.mpm.grid import Grid


def pushes(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    stiffness: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Force of each body on each particle [N] and where it acts from the centre [m], both (bodies, n, 3)."""
    rows, fields = table[min(number, len(table) - 1)], iter(grid.fields)
    s = volume[:, None] ** (1 / 3)
    r, forces, arms = s / 2, [torch.zeros_like(x)[None][:0]], [torch.zeros_like(x)[None][:0]]
    for (kind, mode), row in zip(grid.kinds, rows[1 : 1 + len(grid.kinds)], strict=True):
        coefficients = next(fields).coefficients if kind == signed_distance.FIELD else None
        if mode < contact.HARD:
            forces.append(torch.zeros_like(x)[None])
            arms.append(torch.zeros_like(x)[None])
            continue
        rho, R = x - row[:3], row[3:12].reshape(3, 3)
        phi, g = distance_of(kind, rho @ R, row[19:22], coefficients)
        n = g @ R.T
        m = torch.einsum("pji,pj->pi", F, n)
        reach = m.norm(dim=1, keepdim=True)
        depth, area = r * reach - phi, s * s / reach
        pull = torch.einsum("pij,pj->pi", tau, n)
        N = stiffness[:, None] * torch.minimum(depth, s) - area * (n * pull).sum(1, keepdim=True)
        sticks = (1 + 2 * depth / r).clamp(0.0, 1.0) * float(mode == contact.HARD_STICKY)
        touches = (depth > -s) & ((N > 0) | (sticks > 0))
        a = -torch.einsum("pij,pj->pi", F, m) * r / reach
        w = v + torch.einsum("pij,pj->pi", C, a) - row[12:15]
        w = w - torch.linalg.cross(row[15:18].expand_as(a), rho + a)
        z = pull * area + w * (GRIP * mass[:, None] / grid.dt)
        T = n * (n * z).sum(1, keepdim=True) - z
        if mode == contact.HARD_STICKY:
            T = T * sticks
        else:
            square = (T * T).sum(1, keepdim=True)
            length = torch.where(square > 0, square, 1.0).sqrt()
            whole = (row[18] > 0).to(x.dtype)
            T = T * torch.where((square > 0) & (length >= row[18] * N), row[18] * N / length, whole)
        forces.append(torch.where(touches, n * (N.clamp(min=0.0) + sticks * N.clamp(max=0.0)) + T, 0.0)[None])
        arms.append(torch.where(touches, a, 0.0)[None])
    return torch.cat(forces), torch.cat(arms)


def hard_contact(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    stiffness: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `simengine.ops.matter.hard_contact.hard_contact`."""
    f, a = pushes(x, v, C, F, tau, mass=mass, volume=volume, stiffness=stiffness, table=table, grid=grid, number=number)
    return applied(v, tau, f, a, mass=mass, volume=volume, dt=grid.dt)


def applied(
    v: torch.Tensor,
    tau: torch.Tensor,
    force: torch.Tensor,
    arm: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    dt: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocity and stress with what `pushes` returned."""
    moment = torch.einsum("bpi,bpj->pij", force, arm)
    return v + force.sum(0) * (dt / mass[:, None]), tau - moment / volume[:, None, None]
