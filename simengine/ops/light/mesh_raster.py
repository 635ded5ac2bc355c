"""Which triangle each pixel shows, and which outlines pass between neighbouring pixel centres. Without gradients."""

import torch
import warp as wp

from simengine.kernels.light import mesh_raster as kernel_module
from simengine.ops import bridge
from simengine.ops.light import mesh_raster_reference


def draw_triangles(corners: torch.Tensor, *, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest triangle at each pixel centre; both sides are seen. The same bits on each run and device.

    Args:
        corners: Homogeneous pixel coordinates (x z, y z, z) of the corners, z the depth [m], shape (f, 3, 3).
        width: Pixels in a row.
        height: Rows.

    Returns:
        Index of the triangle, -1 where there is none, shape (h, w), int64, and the depth there [m], 0 where there is
        none.

    Raises:
        ValueError: A shape is wrong or a value not finite.
        TypeError: The dtype is neither float32 nor float64.

    Source: Olano and Greer 1997, Triangle scan conversion using 2D homogeneous coordinates.
    """
    if corners.ndim != 3 or corners.shape[1:] != (3, 3):
        raise ValueError(f"corners: expected shape (f, 3, 3), got {tuple(corners.shape)}")
    _check_size(width, height)
    scalar = bridge.scalar(corners)
    corners = corners.detach().contiguous()
    if not bool(torch.isfinite(corners).all()):
        face = int((~torch.isfinite(corners).reshape(len(corners), -1)).any(dim=1).nonzero()[0])
        raise ValueError(f"corners: not finite at triangle {face}")
    if bridge.backend("warp") == "reference":
        return mesh_raster_reference.draw_triangles(corners, width=width, height=height)
    key = torch.full((height, width), kernel_module.EMPTY, dtype=torch.int64, device=corners.device)
    if len(corners):
        inputs = [width, height, _farthest(corners), bridge.array(corners, wp.types.matrix((3, 3), scalar))]
        kernel = kernel_module.kernels(scalar).draw_triangles
        bridge.launch(kernel, len(corners), inputs, [bridge.array(key)], on=corners)
    nearest = _index(key)
    return nearest, mesh_raster_reference.depth_of(corners, nearest)


def draw_outlines(
    edges: torch.Tensor, side: torch.Tensor, face: torch.Tensor, depth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest outline that passes between two neighbouring pixel centres and is not hidden behind the outer one.

    Args:
        edges: Ends of the outlines as corners of `draw_triangles`, shape (e, 2, 3).
        side: Sign of the determinant of an edge and the third corner of its triangle: where its surface lies, (e,).
        face: Of `draw_triangles`, shape (h, w).
        depth: Of `draw_triangles`, shape (h, w).

    Returns:
        Index of the edge or -1 for the links downwards (h - 1, w) and for those to the right (h, w - 1), int64.

    Raises:
        ValueError: A shape is wrong.
    """
    if edges.ndim != 3 or edges.shape[1:] != (2, 3) or side.shape != edges.shape[:1]:
        raise ValueError(f"edges, side: expected shapes (e, 2, 3), (e,), got {tuple(edges.shape)}, {tuple(side.shape)}")
    if face.ndim != 2 or depth.shape != face.shape:
        raise ValueError(f"face, depth: expected one shape (h, w), got {tuple(face.shape)}, {tuple(depth.shape)}")
    edges, side, depth = (value.detach().contiguous() for value in (edges, side, depth))
    if bridge.backend("warp") == "reference":
        return mesh_raster_reference.draw_outlines(edges, side, face, depth)
    height, width = face.shape
    scalar = bridge.scalar(edges)
    down = torch.full((max(height - 1, 0), width), kernel_module.EMPTY, dtype=torch.int64, device=edges.device)
    across = torch.full((height, max(width - 1, 0)), kernel_module.EMPTY, dtype=torch.int64, device=edges.device)
    if len(edges):
        covered = (face >= 0).contiguous()
        inputs = [
            width,
            height,
            _farthest(edges),
            bridge.array(edges, wp.types.matrix((2, 3), scalar)),
            *(bridge.array(value) for value in (side, covered, depth)),
        ]
        outputs = [bridge.array(down), bridge.array(across)]
        bridge.launch(kernel_module.kernels(scalar).draw_outlines, len(edges), inputs, outputs, on=edges)
    return _index(down), _index(across)


def _farthest(corners: torch.Tensor) -> float:
    return max(float(corners[..., 2].max()), 1e-30)


def _index(key: torch.Tensor) -> torch.Tensor:
    return torch.where(key == kernel_module.EMPTY, -1, key & 0xFFFFFFFF)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"width, height: expected at least 1 pixel each, got {width} x {height}")
