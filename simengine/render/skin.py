"""The surface of a body carried by its particles: pictures without bias, differentiable in the particles.

Particles are points within a body, not its surface: pictured as balls or discs they stick out beyond it, or leave gaps.
A skin is the body's own surface in its first shape, each vertex bound to the particles around it by weights that
reproduce linear fields, and quadratic ones as far as the particles tell them: where the particles have not moved the
vertices are those of the surface to rounding, where they move affinely the surface moves with them exactly, and where
they bend it is off in the third order of their spacing. The weights are constant: vertices are linear in positions.
"""

import dataclasses

import torch

from simengine.render.camera import PinholeCamera
from simengine.render.image import Image
from simengine.render.meshes import TexturedMesh, render_mesh

NEIGHBOURS = 48  # particles that carry a vertex
CHUNK = 20_000  # vertices bound at a time
FLAT = 1e-7  # least eigenvalue of the linear moments, scaled to 1 on the diagonal, of neighbours that span space
RIDGE = 1e-3  # on quadratic coefficients, on the same scale: they count where there are three layers of particles


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Skin:
    """A triangle mesh whose vertices are combinations of particles; made by `bind_skin`.

    Attributes:
        faces: Vertices of the triangles, counter-clockwise from outside, shape (f, 3), int64.
        particles: Which particles carry each vertex, shape (v, k), int64.
        weights: With what weights, each row sums to 1, shape (v, k).
    """

    faces: torch.Tensor
    particles: torch.Tensor
    weights: torch.Tensor

    def carried(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the particles at the vertices: positions [m] or any others, (..., n, c) -> (..., v, c)."""
        near = values[..., self.particles, :]  # (..., v, k, c)
        return (self.weights.to(values)[..., None] * near).sum(-2)

    def mesh(self, positions: torch.Tensor, texture: torch.Tensor) -> TexturedMesh:
        """The surface where the particles are.

        Args:
            positions: Of the particles [m], shape (n, 3).
            texture: Linear RGB, or any channels, of the vertices (v, c) or one for all (c,).
        """
        vertices = self.carried(positions)
        texture = torch.as_tensor(texture).to(vertices)
        return TexturedMesh(
            vertices=vertices, faces=self.faces, texture=texture.expand(len(vertices), texture.shape[-1])
        )


def bind_skin(vertices: torch.Tensor, faces: torch.Tensor, positions: torch.Tensor) -> Skin:
    """Bind the surface of a body in its first shape to the particles that fill it.

    Args:
        vertices: Of the surface [m], shape (v, 3).
        faces: Its triangles, shape (f, 3).
        positions: Of the particles in the same shape [m], shape (n, 3).

    Raises:
        ValueError: A shape is wrong, a value not finite, or the particles around a vertex lie in a plane, so that they
            say nothing of the surface beside it.

    Source: moving least squares, Lancaster and Salkauskas 1981, with the weights evaluated once in the first shape.
    """
    for name, value in (("vertices", vertices), ("positions", positions)):
        if value.ndim != 2 or value.shape[1] != 3:
            raise ValueError(f"{name}: expected shape (n, 3), got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}: not finite at row {int((~torch.isfinite(value)).any(dim=1).nonzero()[0])}")
    count = min(NEIGHBOURS, len(positions))
    if count < 4:
        raise ValueError(f"positions: a skin needs at least 4 particles, got {count}")
    from scipy.spatial import cKDTree

    x, points = positions.detach().cpu().double(), vertices.detach().cpu().double()
    distance, index = (torch.as_tensor(a) for a in cKDTree(x.numpy()).query(points.numpy(), k=count))
    index = index.long()
    weights = [
        _weights(x[i] - p[:, None], d, first)
        for first, p, i, d in zip(
            range(0, len(points), CHUNK), points.split(CHUNK), index.split(CHUNK), distance.split(CHUNK), strict=True
        )
    ]
    device = positions.device
    return Skin(faces=faces.long().to(device), particles=index.to(device), weights=torch.cat(weights).to(device))


def _weights(offset: torch.Tensor, distance: torch.Tensor, first: int) -> torch.Tensor:
    """Weights (v, k) of particles at offsets (v, k, 3) from their vertices, of which `first` is the number."""
    reach = 1.001 * distance[:, -1:]
    kernel = torch.exp(-((2.5 * distance / reach) ** 2)) * (1 - (distance / reach) ** 2)
    d = offset / reach[..., None]
    i, j = torch.triu_indices(3, 3)
    p = torch.cat([torch.ones_like(d[..., :1]), d, d[..., i] * d[..., j]], dim=-1)  # (v, k, 10)
    moments = torch.einsum("vk,vki,vkj->vij", kernel, p, p)
    scale = moments.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    moments = moments * scale[:, :, None] * scale[:, None, :]
    low = torch.linalg.eigvalsh(moments[:, :4, :4])[:, 0]
    if bool((low < FLAT).any()):
        row = first + int(low.argmin())
        raise ValueError(f"positions: the particles around vertex {row} lie in a plane; give at least two layers")
    # a penalty on the quadratic part alone leaves linear fields exact
    moments = moments + torch.diag(torch.tensor([0.0] * 4 + [RIDGE] * 6, dtype=p.dtype))
    value = torch.zeros_like(scale)
    value[:, 0] = scale[:, 0]
    solved = torch.linalg.solve(moments, value) * scale
    return kernel * torch.einsum("vki,vi->vk", p, solved)


class SkinRenderer:
    """Pictures a body as its surface, carried by its particles; for bodies that keep their connection.

    Differentiable in positions, colours and the camera.

    Args:
        camera: A single camera.
        skin: Of `bind_skin`.
        background: Linear RGB behind the body.
        samples: Per side of a pixel.
    """

    def __init__(
        self,
        camera: PinholeCamera,
        skin: Skin,
        *,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        samples: int = 1,
    ) -> None:
        if camera.batch_shape:
            raise ValueError("camera: SkinRenderer takes a single camera, got a batch; index it")
        self.camera = camera
        self.skin = skin
        self.background = background
        self.samples = samples

    def __call__(self, positions: torch.Tensor, *, colours: torch.Tensor) -> torch.Tensor:
        """Linear RGB of particles at positions (n, 3) or (frames, n, 3) with colours (3,) or (n, 3), (..., h, w, 3)."""
        if positions.ndim == 3:
            return torch.stack([self(frame, colours=colours) for frame in positions])
        return self.image(positions, colours).rgb

    def image(self, positions: torch.Tensor, colours: torch.Tensor) -> Image:
        """Colour, alpha (the silhouette), depth and normal of one frame; arguments as of a call."""
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise ValueError(f"positions: expected shape (n, 3), got {tuple(positions.shape)}")
        texture = self.skin.carried(colours) if colours.ndim == 2 else colours
        return render_mesh(
            self.skin.mesh(positions, texture),
            self.camera.to(positions.dtype),
            background=positions.new_tensor(self.background),
            samples=self.samples,
        )
