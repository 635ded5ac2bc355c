"""Surfaces of simple solids as triangle meshes, to be bound to the particles that fill them."""

import math
from collections.abc import Sequence

import torch

from simengine.render.bodies import sphere_mesh


def box_surface(size: torch.Tensor, *, edge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The faces of a box about the origin, cut into triangles.

    Args:
        size: Lengths along x, y, z [m], shape (3,).
        edge: Longest leg of a triangle [m].

    Returns:
        Vertices [m] (v, 3), float64, and triangles (f, 3), int64, counter-clockwise from outside.
    """
    size = torch.as_tensor(size, dtype=torch.float64)
    n = [max(1, math.ceil(float(length) / edge - 1e-9)) for length in size]
    vertices, faces, start = [], [], 0
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        i, j = torch.meshgrid(torch.arange(n[b] + 1), torch.arange(n[c] + 1), indexing="ij")
        for side in (0, 1):
            node = torch.empty(i.numel(), 3, dtype=torch.int64)
            node[:, axis], node[:, b], node[:, c] = side * n[axis], i.reshape(-1), j.reshape(-1)
            number = start + torch.arange(i.numel()).reshape(i.shape)
            p, q, r, s = (a.reshape(-1) for a in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
            pair = torch.cat([torch.stack([p, q, r], 1), torch.stack([p, r, s], 1)])
            faces.append(pair if side else pair[:, [0, 2, 1]])
            vertices.append(node)
            start += i.numel()
    nodes, number = torch.unique(torch.cat(vertices), dim=0, return_inverse=True)  # shared along the edges
    return (nodes / torch.tensor(n) - 0.5) * size, number[torch.cat(faces)]


def ball_surface(radius: float, *, edge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere about the origin.

    A polyhedron with its corners on a sphere is smaller than it. This one has the sphere's area, so that its
    silhouettes are right on the mean over all directions: by Cauchy's theorem that of a convex body is a quarter of
    its surface.

    Args:
        radius: [m].
        edge: Longest side of a triangle, about [m].

    Returns:
        Vertices [m] (v, 3), float64, and triangles (f, 3), int64, counter-clockwise from outside.
    """
    subdivisions = max(0, math.ceil(math.log2(1.06 * radius / edge)))
    vertices, faces = sphere_mesh(subdivisions, radius=radius, dtype=torch.float64)
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2
    return vertices * (4 * math.pi * radius**2 / area).sqrt(), faces


def revolved_surface(
    profile: Sequence[tuple[float, float]], *, edge: float, ring: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The surface of a profile turned about the y axis: a cylinder, a cone, a torus.

    Args:
        profile: Corners (distance from the axis, y) [m] from the bottom up, seen with the axis on the left: a cylinder
            is [(0, -h), (r, -h), (r, h), (0, h)]. It begins and ends on the axis, or is closed.
        edge: Longest leg of a triangle, about [m].
        ring: Whether the profile is closed: its last corner joins its first, and it stays off the axis.

    Returns:
        Vertices [m] (v, 3), float64, and triangles (f, 3), int64, counter-clockwise from outside.

    Raises:
        ValueError: The profile does not bound a solid.
    """
    corners = torch.tensor(profile, dtype=torch.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError(f"profile: expected at least 3 corners (distance, y), got shape {tuple(corners.shape)}")
    inner = corners[:, 0] if ring else corners[1:-1, 0]
    if not bool((inner > 0).all()) or (not ring and bool(corners[[0, -1], 0].any())):
        raise ValueError("profile: expected to begin and end on the axis and to stay off it in between, or a ring")
    after = corners.roll(-1, 0) if ring else corners[1:]
    points = []
    for start, end in zip(corners, after, strict=ring):
        n = max(1, math.ceil(float((end - start).norm()) / edge - 1e-9))
        points.append(start + torch.arange(n, dtype=torch.float64)[:, None] / n * (end - start))
    line = torch.cat(points if ring else [*points, corners[-1:]])
    around = max(12, math.ceil(2 * math.pi * float(line[:, 0].max()) / edge))
    angle = torch.arange(around, dtype=torch.float64) * (2 * math.pi / around)
    # a polygon of the circle's perimeter has its mean width
    r = line[:, 0] * (math.pi / around) / math.sin(math.pi / around)
    y = line[:, 1:].expand(-1, around)
    vertices = torch.stack([r[:, None] * angle.cos(), y, -r[:, None] * angle.sin()], dim=-1)  # (rows, around, 3)
    rows = len(line)
    number = torch.arange(rows * around).reshape(rows, around)
    if not ring:  # the poles are one vertex each
        number[0], number[-1] = number[0, 0], number[-1, 0]
    low, high = (number, number.roll(-1, 0)) if ring else (number[:-1], number[1:])
    p, q, s, t = low, low.roll(-1, 1), high.roll(-1, 1), high
    faces = torch.cat([torch.stack(three, dim=-1).reshape(-1, 3) for three in ((p, q, s), (p, s, t))])
    whole = (faces != faces.roll(1, 1)).all(1)
    used, faces = torch.unique(faces[whole], return_inverse=True)
    return vertices.reshape(-1, 3)[used], faces
