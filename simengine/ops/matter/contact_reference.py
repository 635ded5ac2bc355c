"""Contact of grid nodes with faces and rigid bodies in plain torch; formulas in `simengine.kernels.matter.contact`."""

from typing import TYPE_CHECKING

import torch

from simengine.kernels.matter import contact, signed_distance

if TYPE_CHECKING:
    from simengine.ops.matter.mpm.grid import Grid


def _length(a: torch.Tensor) -> torch.Tensor:
    """Length of vectors (n, 3) -> (n, 1), with a zero derivative at zero."""
    square = (a * a).sum(1, keepdim=True)
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


def _unit(a: torch.Tensor) -> torch.Tensor:
    length = _length(a)
    return a / torch.where(length > 0, length, 1.0)


def _contact(r: torch.Tensor, n: torch.Tensor, mode: int, mu: torch.Tensor) -> torch.Tensor:
    """Relative velocity after contact with outward normal n."""
    if mode == contact.STICKY:
        return torch.zeros_like(r)
    rn = (r * n).sum(1, keepdim=True)
    tangent = r - rn * n
    length = _length(tangent)
    slid = tangent * torch.clamp(1 + mu * rn / torch.where(length > 0, length, 1.0), min=0.0)
    return torch.where(rn < 0, slid, r)


def _spline(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quadratic B-spline of u and its slope."""
    t = u.abs()
    near = t < 0.5
    return torch.where(near, 0.75 - t * t, 0.5 * (1.5 - t) ** 2), torch.where(near, -2 * u, u.sign() * (t - 1.5))


def _field(y: torch.Tensor, size: torch.Tensor, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A distance in B-splines on the box -size..size, and its normal; far away beside it."""
    count = torch.tensor(coefficients.shape, device=y.device)
    h = 2 * size / (count - 1)
    s = (y + size) / h
    inside = ((s >= 0.5) & (s < count - 1.5)).all(1, keepdim=True)
    s = torch.where(inside, s, 1.0)
    base = (s.detach() - 0.5).floor().long()
    phi, slope = torch.zeros_like(y[:, :1]), torch.zeros_like(y)
    for offset in torch.cartesian_prod(*(torch.arange(3, device=y.device),) * 3):
        node = base + offset
        value, change = _spline(s - node)
        f = coefficients[node[:, 0], node[:, 1], node[:, 2]][:, None]
        phi = phi + f * value.prod(1, keepdim=True)
        across = value[:, [1, 2, 0]] * value[:, [2, 0, 1]]
        slope = slope + f * change * across / h
    return torch.where(inside, phi, 1e9), _unit(slope)


def distance_of(
    kind: int, y: torch.Tensor, size: torch.Tensor, coefficients: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distance (n, 1) and normal (n, 3) at points y of a body's frame."""
    if kind == signed_distance.SPHERE:
        return _length(y) - size[0], _unit(y)
    if kind == signed_distance.CAPSULE:
        q = torch.cat((y[:, :2], y[:, 2:] - torch.minimum(torch.maximum(y[:, 2:], -size[1]), size[1])), 1)
        return _length(q) - size[0], _unit(q)
    if kind == signed_distance.BOX:
        a = y.abs() - size
        q = a.clamp(min=0.0)
        deepest, axis = a.max(1, keepdim=True)
        face = torch.zeros_like(y).scatter(1, axis, 1.0)
        outside = _length(q) > 0
        sign = torch.where(y < 0, -1.0, 1.0)
        return torch.where(outside, _length(q), deepest), torch.where(outside, _unit(q), face) * sign
    if kind == signed_distance.FIELD and coefficients is not None:
        return _field(y, size, coefficients.to(y))
    up = y.new_tensor([[0.0, 0.0, 1.0]])
    return y[:, 2:], up.expand(len(y), 3)


def boundary_velocity(u: torch.Tensor, ijk: torch.Tensor, grid: "Grid", table: torch.Tensor) -> torch.Tensor:
    """Velocities of nodes after all contacts; see `boundary_stages`."""
    return boundary_stages(u, ijk, grid, table)[-1]


def boundary_stages(u: torch.Tensor, ijk: torch.Tensor, grid: "Grid", table: torch.Tensor) -> list[torch.Tensor]:
    """Velocities of nodes before contact, after that with each of the six faces, and after that with each body.

    Args:
        u: Velocities before it [m/s], shape (nodes, 3).
        ijk: The nodes, shape (nodes, 3).
        grid: The grid.
        table: The row of the step, shape (1 + bodies, 23).
    """
    stages = [u]
    for k, mode in enumerate(grid.faces):
        axis, side = divmod(k, 2)
        if mode:
            i = ijk[:, axis]
            layer = i > grid.size[axis] - grid.thickness if side else i < grid.thickness
            normal = torch.zeros_like(u)
            normal[:, axis] = -1.0 if side else 1.0
            u = torch.where(layer[:, None], _contact(u, normal, mode, table[0, k]), u)
        stages.append(u)
    x, fields = ijk.to(u) * grid.dx, iter(grid.fields)
    for (kind, mode), row in zip(grid.kinds, table[1 : 1 + len(grid.kinds)], strict=True):
        coefficients = next(fields).coefficients if kind == signed_distance.FIELD else None
        if mode >= contact.HARD:
            stages.append(u)
            continue
        arm, R = x - row[:3], row[3:12].reshape(3, 3)
        phi, normal = distance_of(kind, arm @ R, row[19:22], coefficients)
        a = torch.clamp(0.5 - phi / row[22], 0.0, 1.0)
        r = u - row[12:15] - torch.linalg.cross(row[15:18].expand_as(arm), arm)
        u = u + (_contact(r, normal @ R.T, mode, row[18]) - r) * (a * a * (3 - 2 * a))
        stages.append(u)
    return stages
