"""Rigid bodies of any shape, as the signed distance of a closed mesh."""

import math

import torch

from simengine.kernels.matter import signed_distance as shapes
from simengine.mpm.boundaries import Vector
from simengine.mpm.rigid_bodies import AbstractBody, Surface
from simengine.ops.light.mesh import signed_distance
from simengine.ops.matter.mpm import SignedDistance

MARGIN = 0.25  # of the longest edge, sampled around a mesh


class MeshBody(AbstractBody):
    """A rigid body of any shape, as the signed distance of a closed triangle mesh.

    The distance is sampled once and interpolated by quadratic B-splines, so details finer than two samples are rounded.

    Args:
        vertices: In the body's frame [m], shape (v, 3); the frame's origin belongs inside or near the body.
        faces: Vertex indices of the triangles, counter-clockwise from outside, shape (f, 3), integer.
        center: Position of the frame's origin at time 0 [m], (3,).
        orientation: Quaternion wxyz, (4,).
        surface: How particles touch it.
        velocity: Of the frame's origin [m/s], (3,).
        angular_velocity: [rad/s], (3,).
        resolution: Samples along the longest edge of the body's box.

    Raises:
        ValueError: An argument is out of range, or the triangles enclose nothing.
    """

    shape = shapes.FIELD

    def __init__(
        self,
        vertices: torch.Tensor,
        faces: torch.Tensor,
        *,
        center: Vector,
        orientation: Vector = (1.0, 0.0, 0.0, 0.0),
        surface: Surface = Surface(),
        velocity: Vector = (0.0, 0.0, 0.0),
        angular_velocity: Vector = (0.0, 0.0, 0.0),
        resolution: int = 48,
    ) -> None:
        super().__init__(center, orientation, surface, velocity, angular_velocity)
        if not 8 <= resolution <= 256:
            raise ValueError(f"resolution must lie in 8..256, got {resolution}")
        self.field: SignedDistance = _sampled(vertices.double().cpu(), faces.cpu(), resolution)

    @property
    def thickness(self) -> float:
        """As of every body."""
        return -2 * float(self.field.coefficients.min())

    def size(self) -> tuple[float, float, float]:
        """Half of the edges of the sampled box."""
        return self.field.half_size

    def rows(self, times: torch.Tensor, dx: float, *, step: float = 0.0, since: float = 0.0) -> torch.Tensor:
        """As of every body.

        Raises:
            ValueError: The layer of contact reaches beyond the samples.
        """
        layer = self.width or dx / 2  # hard contact looks as far as a particle is wide
        if layer > MARGIN * 2 * max(self.field.half_size):
            raise ValueError(
                f"width: a layer of {layer:.3g} m is too thick for a body of "
                f"{2 * max(self.field.half_size):.3g} m; use a finer grid or a larger body"
            )
        return super().rows(times, dx, step=step, since=since)


def _sampled(vertices: torch.Tensor, faces: torch.Tensor, resolution: int) -> SignedDistance:
    """The signed distance of a mesh around the origin, on a regular grid of samples."""
    from scipy.ndimage import spline_filter

    reach = vertices.abs().amax(0)
    h = float(2 * reach.max()) / resolution
    half = reach + MARGIN * 2 * reach.max()
    counts = [max(4, 1 + 2 * math.ceil(float(edge) / h)) for edge in half]
    half_size = tuple(h * (n - 1) / 2 for n in counts)
    axes = [torch.linspace(-edge, edge, n, dtype=torch.float64) for edge, n in zip(half_size, counts, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    distance = signed_distance(points, vertices, faces).double()
    if not bool((distance < 0).any()):
        raise ValueError(
            "faces: the triangles enclose no volume; expected a closed mesh, counter-clockwise from outside"
        )
    # the coefficients whose spline takes the sampled values at the nodes (Unser 1999)
    coefficients = spline_filter(distance.reshape(counts).numpy(), order=2, mode="mirror")
    return SignedDistance(torch.from_numpy(coefficients), (half_size[0], half_size[1], half_size[2]))
