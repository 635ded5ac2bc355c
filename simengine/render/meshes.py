"""Textured triangle meshes with antialiased silhouettes, differentiable in vertices, texture, lights and camera."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from simengine.ops.light.mesh_raster import draw_outlines, draw_triangles
from simengine.ops.light.mesh_raster_reference import barycentric, pixel_centres
from simengine.render.brdf import DisneyMaterial, PhongMaterial, shade
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image
from simengine.render.lights import Light
from simengine.render.looks.metal_rough import FaceMaterials, MetalRoughTextures, sample_texture
from simengine.render.surfels import intrinsic_matrix

# Points and normals -> what arrives there of each light, and of the ambient one
Sheltered = Callable[[torch.Tensor, torch.Tensor], tuple[Sequence[torch.Tensor], torch.Tensor]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TexturedMesh:
    """A triangle mesh; both sides are seen.

    Attributes:
        vertices: Positions [m], shape (v, 3).
        faces: Vertices of the triangles, shape (f, 3), integers. Triangles that touch should share vertices; where they
            do not, the mesh has an outline.
        texture: Linear RGB, or any 1 to 13 channels: an image (th, tw, c) where `corner_uv` is given, else one row per
            vertex (v, c).
        corner_uv: Texture coordinates of the corners, u along the columns, v along the rows, period 1, shape (f, 3, 2).
        smooth: Whether normals are interpolated between means at the vertices; else those of the triangles.
        materials: What the triangles are made of, in place of all of these; `texture` is for those who know no more.

    Raises:
        ValueError: A shape or an index is out of range, or a coordinate is not finite.
    """

    vertices: torch.Tensor
    faces: torch.Tensor
    texture: torch.Tensor
    corner_uv: torch.Tensor | None = None
    smooth: bool = True
    materials: FaceMaterials | None = None

    def __post_init__(self) -> None:
        v, f = len(self.vertices), len(self.faces)
        if self.vertices.shape != (v, 3):
            raise ValueError(f"vertices: expected shape (v, 3), got {tuple(self.vertices.shape)}")
        if self.faces.shape != (f, 3) or self.faces.is_floating_point():
            raise ValueError(f"faces: expected integers of shape (f, 3), got {tuple(self.faces.shape)}")
        if f and not (int(self.faces.min()) >= 0 and int(self.faces.max()) < v):
            raise ValueError(
                f"faces: expected indices in [0, {v}), got {int(self.faces.min())}..{int(self.faces.max())}"
            )
        if not bool(torch.isfinite(self.vertices).all()):
            row = int((~torch.isfinite(self.vertices)).any(dim=1).nonzero()[0])
            raise ValueError(f"vertices: not finite at vertex {row}")
        if self.corner_uv is None and (self.texture.ndim != 2 or len(self.texture) != v):
            raise ValueError(f"texture: expected shape ({v}, c) without corner_uv, got {tuple(self.texture.shape)}")
        if self.corner_uv is not None and (self.texture.ndim != 3 or 0 in self.texture.shape):
            raise ValueError(f"texture: expected shape (th, tw, c) with corner_uv, got {tuple(self.texture.shape)}")
        if self.corner_uv is not None and self.corner_uv.shape != (f, 3, 2):
            raise ValueError(f"corner_uv: expected shape {(f, 3, 2)}, got {tuple(self.corner_uv.shape)}")
        if self.materials is not None and len(self.materials.of_face) != f:
            raise ValueError(f"materials: expected one for each of {f} triangles, got {len(self.materials.of_face)}")

    @cached_property
    def edges(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each edge once: its two vertices and the opposite one of its first triangle (e, 3), its triangles (e, 2).

        The second triangle is -1 at a border, and where more than two meet.
        """
        faces = self.faces.long()
        sides = torch.cat([faces[:, [0, 1, 2]], faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]])
        owner = torch.arange(len(faces), device=faces.device).repeat(3)
        pairs = sides[:, :2].sort(dim=1).values
        order = torch.argsort(pairs[:, 0] * len(self.vertices) + pairs[:, 1], stable=True)
        _, count = torch.unique_consecutive(pairs[order], dim=0, return_counts=True)
        first = count.cumsum(0) - count
        second = torch.where(count == 2, owner[order[(first + 1).clamp_max(len(order) - 1)]], -1)
        return sides[order[first]], torch.stack([owner[order[first]], second], dim=1)

    def with_vertices(self, vertices: torch.Tensor) -> "TexturedMesh":
        """The same triangles elsewhere; keeps `edges`, a third of the time of a picture."""
        mesh = dataclasses.replace(self, vertices=vertices)
        mesh.__dict__["edges"] = self.edges
        return mesh

    def vertex_normals(self) -> torch.Tensor:
        """Unit means of the normals of the triangles at each vertex, weighted by area, shape (v, 3)."""
        a, b, c = self.vertices[self.faces.long()].unbind(1)
        normal = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(self.vertices).index_add(
            0, self.faces.long().reshape(-1), normal.repeat_interleave(3, 0)
        )
        return torch.nn.functional.normalize(total, dim=-1)


def joined(meshes: Sequence[TexturedMesh]) -> TexturedMesh:
    """One mesh of several that are coloured at their vertices, or made of materials; in float64.

    Args:
        meshes: At least one; with materials among them, or smooth ones beside others, those without materials get one
            for each colour.
    """
    first = torch.tensor([0, *(len(mesh.vertices) for mesh in meshes[:-1])]).cumsum(0)
    materials: FaceMaterials | None = None
    if any(mesh.materials is not None for mesh in meshes) or len({mesh.smooth for mesh in meshes}) > 1:
        for mesh in meshes:
            own = mesh.materials or _plain_materials(mesh)
            materials = own if materials is None else materials.joined(own)
    return TexturedMesh(
        vertices=torch.cat([mesh.vertices.double() for mesh in meshes]),
        faces=torch.cat([mesh.faces.long() + int(k) for mesh, k in zip(meshes, first, strict=True)]),
        texture=torch.cat([mesh.texture.double() for mesh in meshes]),
        smooth=all(mesh.smooth for mesh in meshes),
        materials=materials,
    )


def _plain_materials(mesh: TexturedMesh) -> FaceMaterials:
    """A material for each colour of the first vertices of triangles."""
    faces = mesh.faces.long()
    colours, of_face = torch.unique(mesh.texture[faces[:, 0]].double(), dim=0, return_inverse=True)
    return FaceMaterials(
        materials=tuple(MetalRoughTextures.plain(colour) for colour in colours),
        of_face=of_face,
        corner_uv=torch.zeros(len(faces), 3, 2, dtype=torch.float64),
        normal_of_corner=faces if mesh.smooth else torch.arange(3 * len(faces)).reshape(-1, 3),
    )


def render_mesh(
    mesh: TexturedMesh,
    camera: PinholeCamera,
    *,
    lights: Sequence[Light] = (),
    metallic: float | torch.Tensor = 0.0,
    roughness: float | torch.Tensor = 0.5,
    phong: bool = False,
    ambient: float | torch.Tensor = 0.0,
    background: torch.Tensor | float = 0.0,
    samples: int = 1,
    sheltered: Sheltered | None = None,
) -> Image:
    """Picture a mesh by one camera, or by each camera of a batch; the camera may be inside.

    Differentiable in vertices, texture, lights, material, background, pose and intrinsics; outlines are blended over
    the neighbouring pixels by the shares on their two sides, so that hiding and showing something has a gradient too.

    Args:
        mesh: What is seen.
        camera: One camera, or a batch (b,).
        lights: In world coordinates; without any, and without `ambient`, the texture itself is shown.
        metallic: Of the material, see `DisneyMaterial`.
        roughness: Of the material.
        phong: Whether the texture is the albedo of a `PhongMaterial` instead.
        ambient: Times the texture, added once.
        background: Colour behind: a number, (c,) or an image (h, w, c).
        samples: Per side of a pixel; the picture is their mean.
        sheltered: Of points and unit normals (m, 3) each, the part of each light and of the ambient one that arrives,
            (m, 1) each; None for all. `Shelter` is one.

    Returns:
        The image; colour and alpha are antialiased, depth and normal those of the pixel centres. A mesh with materials
        of its own takes nothing from `metallic`, `roughness` and `phong`; its normals are those of its bumps.

    Raises:
        ValueError: A value is wrong or not finite, or the camera has more than one batch dimension.

    Source: the blending of Laine et al. 2020, Modular primitives for high-performance differentiable rendering, section
    3.5, with outlines that are drawn, so that they are found where triangles are smaller than pixels too.
    """
    options: dict[str, Any] = {
        "lights": lights,
        "metallic": metallic,
        "roughness": roughness,
        "phong": phong,
        "ambient": ambient,
        "sheltered": sheltered,
    }
    if len(camera.batch_shape) > 1:
        raise ValueError(f"camera: expected one camera or one batch dimension, got {tuple(camera.batch_shape)}")
    if samples < 1:
        raise ValueError(f"samples: expected at least 1 per side of a pixel, got {samples}")
    if camera.batch_shape:
        if not len(camera.world_to_camera):
            raise ValueError("camera: the batch is empty")
        singles = [camera[b] for b in range(len(camera.world_to_camera))]
        return Image.stack(
            [render_mesh(mesh, one, background=background, samples=samples, **options) for one in singles]
        )
    fine = camera.resized(camera.width * samples, camera.height * samples) if samples > 1 else camera
    homogeneous = camera_points(mesh.vertices, fine)
    corners = homogeneous[mesh.faces.long()]
    face, _ = draw_triangles(corners, width=fine.width, height=fine.height)
    seen = face >= 0
    own = face[seen]
    centres = pixel_centres(fine.width, fine.height, corners)[seen]
    weights = barycentric(corners[own], centres)[..., None]  # (m, 3, 1)
    vertices = mesh.faces.long()[own]
    points = (weights * mesh.vertices[vertices]).sum(1)
    depth = (weights[..., 0] * corners[own][..., 2]).sum(-1, keepdim=True)
    if mesh.materials is not None:
        own_material, normals, bumps = mesh.materials.at(mesh.vertices[mesh.faces.long()], own, weights[..., 0])
        colour = own_material.base_colour
    elif mesh.smooth:
        normals = (weights * mesh.vertex_normals()[vertices]).sum(1)
    else:
        a, b, c = mesh.vertices[vertices].unbind(1)
        normals = torch.linalg.cross(b - a, c - a)
    normals = torch.nn.functional.normalize(normals, dim=-1)
    away = ((points - camera.position) * normals).sum(-1, keepdim=True) > 0
    even = torch.where(away, -normals, normals)
    normals = even if mesh.materials is None else torch.where(away, -bumps, bumps)
    if mesh.materials is None:
        colour = _colour(mesh, own, weights)
    if lights or not isinstance(ambient, float | int) or ambient != 0:
        like = [torch.as_tensor(value, dtype=colour.dtype, device=colour.device) for value in (metallic, roughness)]
        material: DisneyMaterial | PhongMaterial = PhongMaterial(albedo=colour)
        if mesh.materials is not None:
            material = own_material
        elif not phong:
            material = DisneyMaterial(base_colour=colour, metallic=like[0], roughness=like[1])
        arrives, around = (None, 1.0) if sheltered is None else sheltered(points, even)
        colour = shade(points, normals, camera.position, material, lights, ambient=ambient * around, visibility=arrives)

    def picture(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(*seen.shape, values.shape[-1]).index_put((seen,), values)

    blended = picture(torch.cat([colour, torch.ones_like(depth)], dim=-1))
    depth, normals = picture(depth), picture(normals @ camera.rotation.mT)
    blended = antialias(blended, mesh, homogeneous, face, depth[..., 0])
    if samples > 1:
        blended, depth, normals, count = (
            _mean_blocks(value, samples) for value in (blended, depth, normals, seen[..., None].to(depth))
        )
        depth = depth / count.clamp_min(1e-6)
        length = normals.norm(dim=-1, keepdim=True)
        normals = torch.where(length > 1e-12, normals / length.clamp_min(1e-12), torch.zeros_like(normals))
    alpha = blended[..., -1:]
    background = torch.as_tensor(background, dtype=blended.dtype, device=blended.device)
    return Image(rgb=blended[..., :-1] + (1 - alpha) * background, alpha=alpha, depth=depth, normal=normals)


def _colour(mesh: TexturedMesh, face: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of the texture at points with weights (m, 3, 1) of the corners of triangles (m,), shape (m, c)."""
    if mesh.corner_uv is None:
        return (weights * mesh.texture[mesh.faces.long()[face]]).sum(1)
    return sample_texture(mesh.texture, (weights * mesh.corner_uv[face]).sum(1))


def camera_points(points: torch.Tensor, camera: PinholeCamera) -> torch.Tensor:
    """Homogeneous pixel coordinates (x z, y z, z) of world points, shape (n, 3)."""
    return camera.to_camera(points) @ intrinsic_matrix(camera).mT


def antialias(
    image: torch.Tensor, mesh: TexturedMesh, homogeneous: torch.Tensor, face: torch.Tensor, depth: torch.Tensor
) -> torch.Tensor:
    """Blend the pixels on both sides of each outline: each takes the share that lies beyond it from the other.

    Args:
        image: What the pixel centres see, background 0, shape (h, w, c).
        mesh: What is seen.
        homogeneous: Of `camera_points` of the vertices, shape (v, 3).
        face: Of `draw_triangles`, shape (h, w).
        depth: Of the pixel centres [m], shape (h, w).
    """
    corners, triangles = mesh.edges
    facing = torch.sign(torch.linalg.det(homogeneous.detach()[mesh.faces.long()].double())).to(homogeneous.dtype)
    side = facing[triangles[:, 0]]
    outline = (triangles[:, 1] < 0) | (facing[triangles[:, 1].clamp_min(0)] != side)
    outline &= side != 0
    ends, side = homogeneous[corners[outline][:, :2]], side[outline]
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels)
    total, mixed = pixels.new_zeros(len(pixels)), torch.zeros_like(pixels)
    certainty = torch.zeros_like(total)
    for axis, link in enumerate(draw_outlines(ends, side, face, depth)):
        row, column = (link >= 0).nonzero(as_tuple=True)
        edge = link[row, column]
        own = ends[edge]
        if axis:  # rows and columns exchanged, which turns the sign of the determinant
            own = own[..., [1, 0, 2]]
        first, other = (column, row) if axis else (row, column)  # along the link, across it
        u = own[..., 0] - (other + 0.5)[:, None] * own[..., 2]
        v = own[..., 1] - (first + 0.5)[:, None] * own[..., 2]
        scale = u[:, 1] * own[:, 0, 2] - u[:, 0] * own[:, 1, 2]
        way = (v[:, 0] * u[:, 1] - v[:, 1] * u[:, 0]) / scale  # of the outline from the first centre of the link
        slope = ((v[:, 0] * own[:, 1, 2] - v[:, 1] * own[:, 0, 2]) / scale).abs()
        first_is_inner = scale.detach() * side[edge] * (1 - 2 * axis) < 0
        start = row * width + column
        end = start + (1 if axis else width)
        inner, outer = torch.where(first_is_inner, start, end), torch.where(first_is_inner, end, start)
        s = torch.where(first_is_inner, way, 1 - way)
        weight = 1 / (1 + slope.square())  # those of a line's two links add up to 1
        number, sum_of_weights = torch.zeros_like(total), torch.zeros_like(total)
        for target, source, distance in ((outer, inner, s - 1), (inner, outer, -s)):
            share = weight * half_plane_share(distance, slope)
            total = total.index_add(0, target, share)
            mixed = mixed.index_add(0, target, share[:, None] * pixels[source])
            number = number.index_add(0, target, torch.ones_like(weight))
            sum_of_weights = sum_of_weights.index_add(0, target, weight)
        certainty = certainty + sum_of_weights / number.clamp_min(1)
    # a pixel with one of the two links counts it in full; around a body narrower than a pixel the shares may pass 1
    certainty = torch.where(certainty > 0, certainty.clamp_max(1), torch.ones_like(certainty))
    total, mixed = total / certainty, mixed / certainty[:, None]
    blended = mixed / total.clamp_min(1)[:, None] + (1 - total.clamp_max(1))[:, None] * pixels
    return blended.reshape(height, width, channels)


def half_plane_share(distance: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Share of a pixel that lies on one side of a straight line.

    Args:
        distance: Of the centre from the line along one axis [pixel], positive inside, (k,).
        slope: Change of that distance per pixel along the other axis, at least 0, (k,).
    """
    steep = slope > 1
    t = torch.where(steep, distance / torch.where(steep, slope, 1.0), distance)  # along the other axis
    m = torch.where(steep, 1 / torch.where(steep, slope, 1.0), slope).clamp_min(1e-6)
    away = t.abs()
    corner = ((1 + m) / 2 - away).clamp_min(0)  # what is cut off is a trapezium, or a triangle of this height
    cut = torch.where(away < (1 - m) / 2, 0.5 - away, corner.square() / (2 * m))
    return torch.where(t < 0, cut, 1 - cut)


def _mean_blocks(image: torch.Tensor, samples: int) -> torch.Tensor:
    h, w, c = image.shape
    return image.reshape(h // samples, samples, w // samples, samples, c).mean(dim=(1, 3))
