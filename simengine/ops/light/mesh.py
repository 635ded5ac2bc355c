"""Geometry of triangle meshes."""

import torch
import warp as wp

from simengine.kernels.light import mesh as _mesh
from simengine.ops.bridge import array, launch


def inside_mesh(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Which points lie inside a mesh, by the generalised winding number (Jacobson et al. 2013).

    Args:
        points: Points [m], shape (n, 3).
        vertices: Vertices [m], shape (v, 3).
        faces: Vertex indices of the triangles, counter-clockwise from outside, shape (f, 3), integer.

    Returns:
        Shape (n,), bool.

    Raises:
        ValueError: A shape does not fit, or a face names no vertex.
    """
    result = torch.zeros(len(points), dtype=torch.uint8)
    _query(_mesh.inside, points, vertices, faces, result)
    return result.bool()


def signed_distance(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Distance to the surface of a mesh, negative inside by the generalised winding number.

    Args:
        points: Points [m], shape (n, 3).
        vertices: Vertices [m], shape (v, 3).
        faces: Vertex indices of the triangles, counter-clockwise from outside, shape (f, 3), integer.

    Returns:
        Distances [m], shape (n,), float32.

    Raises:
        ValueError: A shape does not fit, or a face names no vertex.
    """
    result = torch.zeros(len(points))
    _query(_mesh.signed_distance, points, vertices, faces, result)
    return result


def _query(
    kernel: wp.Kernel, points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, result: torch.Tensor
) -> None:
    """Ask a mesh about each point; fills `result`."""
    for name, value in (("points", points), ("vertices", vertices), ("faces", faces)):
        if value.dim() != 2 or value.shape[1] != 3:
            raise ValueError(f"{name}: expected shape (n, 3), got {tuple(value.shape)}")
    if len(faces) == 0:
        raise ValueError("faces: expected at least one triangle")
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise ValueError(f"faces: expected indices from 0 to {len(vertices) - 1}")
    if len(points) == 0:
        return
    mesh = wp.Mesh(
        points=wp.array(vertices.float().cpu().numpy(), dtype=wp.vec3, device="cpu"),
        indices=wp.array(faces.int().flatten().cpu().numpy(), dtype=int, device="cpu"),
        support_winding_number=True,
    )
    positions = points.float().cpu().contiguous()
    reach = float((positions.amax(0) - positions.amin(0)).norm() + (vertices.amax(0) - vertices.amin(0)).norm()) + 1.0
    reach += float((positions.mean(0) - vertices.float().cpu().mean(0)).norm())
    launch(kernel, len(points), [reach, 0.5, mesh.id, array(positions, wp.vec3)], [array(result)], on=positions)
