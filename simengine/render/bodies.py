"""Bodies to picture: surfaces as points with normals."""

import math

import torch

# Six cubes that no rotation maps onto themselves: every view is told from every other
DEFAULT_CHAIN = ((0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0), (2, 1, 1), (2, 2, 1))


def sphere(
    num_points: int, *, radius: float = 1.0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points spread evenly over a sphere about the origin along a spiral.

    Returns:
        Points [m] and unit normals, shape (n, 3) each.
    """
    k = torch.arange(num_points, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * k / num_points, math.pi * (1 + math.sqrt(5)) * k
    ring = (1 - z * z).sqrt()
    normals = torch.stack([ring * turn.cos(), ring * turn.sin(), z], dim=-1)
    return (radius * normals).to(dtype), normals.to(dtype)


def sphere_mesh(
    subdivisions: int = 3, *, radius: float = 1.0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere about the origin from an icosahedron whose triangles are cut into four again and again.

    Returns:
        Vertices [m] (10 4^k + 2, 3) and triangles (20 4^k, 3), int64, counter-clockwise from outside.
    """
    golden = (1 + math.sqrt(5)) / 2
    corners = [(s * 1.0, t * golden, 0.0) for s in (-1, 1) for t in (1, -1)]
    vertices = torch.tensor([*corners, *((0.0, *c[:2]) for c in corners), *((c[1], 0.0, c[0]) for c in corners)])
    vertices = vertices.to(torch.float64)
    near = torch.cdist(vertices, vertices) < 2.1  # edges are 2 long
    triples = torch.combinations(torch.arange(12), 3)
    faces = triples[
        near[triples[:, 0], triples[:, 1]] & near[triples[:, 1], triples[:, 2]] & near[triples[:, 0], triples[:, 2]]
    ]
    inward = torch.linalg.det(vertices[faces]) < 0
    faces = torch.where(inward[:, None], faces[:, [0, 2, 1]], faces)
    for _ in range(subdivisions):
        sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
        pairs, number = torch.unique(sides, dim=0, return_inverse=True)
        ab, bc, ca = (number + len(vertices)).reshape(3, -1)
        a, b, c = faces.unbind(1)
        vertices = torch.cat([vertices, vertices[pairs].mean(1)])
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = torch.cat([torch.stack(part, dim=1) for part in parts])
    return (radius * torch.nn.functional.normalize(vertices, dim=-1)).to(dtype), faces


def block_chain(
    num_points: int,
    cells: tuple[tuple[int, int, int], ...] = DEFAULT_CHAIN,
    *,
    size: float = 2.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Points on the outer faces of cubes at integer positions, centred at the origin.

    The points of a face are a two-dimensional Kronecker sequence with a shift of its own.

    Args:
        num_points: About so many; each face has the same number.
        cells: Positions of the cubes.
        size: Length of the longest side of the whole [m].
        seed: Of the shifts.
        dtype: Of the result.

    Returns:
        Points [m] and unit normals, shape (n, 3) each, and the area of a point [m^2].

    Raises:
        ValueError: There are no cells, or a cell stands twice.
    """
    if not cells or len(set(cells)) != len(cells):
        raise ValueError(f"cells: expected different positions, at least one, got {cells}")
    corners = torch.tensor(cells, dtype=torch.float64)
    low, high = corners.amin(0), corners.amax(0) + 1
    edge = size / float((high - low).max())
    faces = []
    for cell in cells:
        for axis in range(3):
            for side in (0, 1):
                beyond = [*cell]
                beyond[axis] += 2 * side - 1
                if tuple(beyond) not in cells:
                    faces.append((cell, axis, side))
    count = max(1, round(num_points / len(faces)))
    generator = torch.Generator().manual_seed(seed)
    steps = torch.tensor([0.7548776662466927, 0.5698402909980532], dtype=torch.float64)  # of the plastic number
    points, normals = [], []
    for cell, axis, side in faces:
        shift = torch.rand(2, generator=generator, dtype=torch.float64)
        flat = (shift + torch.arange(count, dtype=torch.float64)[:, None] * steps) % 1
        local = torch.full((count, 3), float(side), dtype=torch.float64)
        local[:, [a for a in range(3) if a != axis]] = flat
        normal = torch.zeros(3, dtype=torch.float64)
        normal[axis] = 2 * side - 1
        points.append(local + torch.tensor(cell, dtype=torch.float64))
        normals.append(normal.expand(count, 3))
    positions = (torch.cat(points) - (low + high) / 2) * edge
    return positions.to(dtype), torch.cat(normals).to(dtype), edge**2 / count
