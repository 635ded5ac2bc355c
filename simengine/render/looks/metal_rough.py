"""Metal-rough materials with textures and normal maps, one for each triangle of a mesh; differentiable in all of them.

Normals and tangents are made of the triangles as they stand, so that they follow a mesh that bends.
"""

import dataclasses

import torch

from simengine.render.brdf import DisneyMaterial


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MetalRoughTextures:
    """A material of glTF's metal-rough model; each texture has a size of its own, 1 x 1 for one value everywhere.

    Attributes:
        base_colour: Linear RGB, shape (th, tw, 3).
        metallic: 0 for dielectrics, 1 for metals, shape (th, tw, 1).
        roughness: As of `DisneyMaterial`, shape (th, tw, 1).
        normal: Right, up and out of the surface, of any length, shape (th, tw, 3); None for even surfaces.
        clamped: Whether the border goes on beyond a texture; else it repeats.

    Raises:
        ValueError: A shape is wrong.

    Source: Khronos, glTF 2.0 specification, section 3.9.
    """

    base_colour: torch.Tensor
    metallic: torch.Tensor
    roughness: torch.Tensor
    normal: torch.Tensor | None = None
    clamped: bool = False

    def __post_init__(self) -> None:
        for name, channels in (("base_colour", 3), ("metallic", 1), ("roughness", 1), ("normal", 3)):
            value = getattr(self, name)
            if value is not None and (value.ndim != 3 or value.shape[-1] != channels or 0 in value.shape):
                raise ValueError(f"{name}: expected shape (th, tw, {channels}), got {tuple(value.shape)}")

    @classmethod
    def plain(cls, colour: torch.Tensor, *, metallic: float = 0.0, roughness: float = 0.5) -> "MetalRoughTextures":
        """The same everywhere.

        Args:
            colour: Linear RGB, shape (3,).
            metallic: Of the material.
            roughness: Of the material.
        """
        one = colour.new_ones(1, 1, 1)
        return cls(base_colour=colour[None, None], metallic=metallic * one, roughness=roughness * one)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FaceMaterials:
    """Which material each triangle of a mesh has, and how its textures and normals lie on it.

    Attributes:
        materials: What there is.
        of_face: Index into `materials` of each triangle, shape (f,), integers.
        corner_uv: Texture coordinates of the corners, u along the columns, v along the rows, shape (f, 3, 2).
        normal_of_corner: Corners of one number share a normal, the mean over their triangles by area; shape (f, 3),
            integers from 0.

    Raises:
        ValueError: A shape or an index is out of range.
    """

    materials: tuple[MetalRoughTextures, ...]
    of_face: torch.Tensor
    corner_uv: torch.Tensor
    normal_of_corner: torch.Tensor

    def __post_init__(self) -> None:
        f = len(self.of_face)
        for name, shape in (("of_face", (f,)), ("corner_uv", (f, 3, 2)), ("normal_of_corner", (f, 3))):
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(getattr(self, name).shape)}")
        if f and not (int(self.of_face.min()) >= 0 and int(self.of_face.max()) < len(self.materials)):
            raise ValueError(f"of_face: expected indices in [0, {len(self.materials)}), got {int(self.of_face.max())}")
        if f and int(self.normal_of_corner.min()) < 0:
            raise ValueError(f"normal_of_corner: expected numbers from 0, got {int(self.normal_of_corner.min())}")

    def joined(self, other: "FaceMaterials") -> "FaceMaterials":
        """Of the triangles of two meshes, one after the other."""
        shift = 1 + int(self.normal_of_corner.max()) if len(self.of_face) else 0
        return FaceMaterials(
            materials=self.materials + other.materials,
            of_face=torch.cat([self.of_face, other.of_face + len(self.materials)]),
            corner_uv=torch.cat([self.corner_uv, other.corner_uv.to(self.corner_uv)]),
            normal_of_corner=torch.cat([self.normal_of_corner, other.normal_of_corner + shift]),
        )

    def frames(self, triangles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normals and tangents at the corners, shape (f, 3, 3) each, and the sign of the bitangents, (f, 1).

        The tangent points along u. The bitangent, up in the texture, is the sign times normal x tangent.

        Args:
            triangles: Corners [m], shape (f, 3, 3).
        """
        a, b, c = triangles.unbind(1)
        first, second = b - a, c - a
        normal = torch.linalg.cross(first, second)  # as long as twice the area
        (du1, dv1), (du2, dv2) = ((self.corner_uv[:, k] - self.corner_uv[:, 0]).unbind(-1) for k in (1, 2))
        turned = du1 * dv2 - du2 * dv1
        mirrored = (turned > 0).to(triangles)  # v runs down, so that a picture seen from its front turns the other way
        tangent = torch.where(
            (turned == 0)[:, None],
            first,  # a texture without extent, which tells no direction
            (first * dv2[:, None] - second * dv1[:, None]) * torch.sign(turned)[:, None],
        )
        tangent = torch.nn.functional.normalize(tangent, dim=-1) * normal.norm(dim=-1, keepdim=True)
        groups = 1 + int(self.normal_of_corner.max()) if len(self.of_face) else 0
        corners = self.normal_of_corner.long().reshape(-1)
        # two sides of a mirrored texture share a normal and no tangent
        halves = corners + groups * mirrored.long().repeat_interleave(3)
        normals = triangles.new_zeros(groups, 3).index_add(0, corners, normal.repeat_interleave(3, 0))
        tangents = triangles.new_zeros(2 * groups, 3).index_add(0, halves, tangent.repeat_interleave(3, 0))
        return normals[corners].unflatten(0, (-1, 3)), tangents[halves].unflatten(0, (-1, 3)), 1 - 2 * mirrored[:, None]

    def at(
        self, triangles: torch.Tensor, face: torch.Tensor, weights: torch.Tensor
    ) -> tuple[DisneyMaterial, torch.Tensor, torch.Tensor]:
        """Material, unit normal of the even surface, and unit normal of its bumps at points of triangles.

        Args:
            triangles: All of them [m], shape (f, 3, 3).
            face: Of each point, shape (m,).
            weights: Its barycentric coordinates, shape (m, 3).

        Returns:
            Maps of shape (m, ...), and normals (m, 3).
        """
        corner_normals, corner_tangents, sign = self.frames(triangles)
        share = weights[..., None]
        normal = _unit((share * corner_normals[face]).sum(1))
        along = (share * corner_tangents[face]).sum(1)
        along = _unit(along - (along * normal).sum(-1, keepdim=True) * normal)
        up = sign[face] * torch.linalg.cross(normal, along)
        uv = (share * self.corner_uv.to(weights)[face]).sum(1)
        maps = {"base_colour": uv.new_zeros(len(uv), 3)}
        maps |= {name: uv.new_zeros(len(uv), 1) for name in ("metallic", "roughness")}
        bumped = normal
        of_point = self.of_face.long()[face]
        for index in of_point.unique().tolist():
            material, own = self.materials[index], (of_point == index).nonzero(as_tuple=True)
            for name, value in maps.items():
                texels = sample_texture(getattr(material, name).to(uv), uv[own], clamped=material.clamped)
                maps[name] = value.index_put(own, texels)
            if material.normal is not None:
                x, y, z = sample_texture(material.normal.to(uv), uv[own], clamped=material.clamped).split(1, -1)
                bumped = bumped.index_put(own, _unit(x * along[own] + y * up[own] + z * normal[own]))
        return DisneyMaterial(**maps), normal, bumped


def sample_texture(texture: torch.Tensor, uv: torch.Tensor, *, clamped: bool = False) -> torch.Tensor:
    """Bilinear values of an image at places of it, shape (m, c).

    Args:
        texture: The image (th, tw, c).
        uv: u along the columns, v along the rows, shape (m, 2).
        clamped: Whether the border goes on beyond the image; else it has the period 1.
    """
    height, width, _ = texture.shape
    x, y = (uv * uv.new_tensor([width, height]) - 0.5).unbind(-1)
    left, top = x.detach().floor(), y.detach().floor()
    a, b = (x - left)[:, None], (y - top)[:, None]
    i, j = left.long(), top.long()

    def at(di: int, dj: int) -> torch.Tensor:
        if clamped:
            return texture[(j + dj).clamp(0, height - 1), (i + di).clamp(0, width - 1)]
        return texture[(j + dj) % height, (i + di) % width]

    return (1 - b) * ((1 - a) * at(0, 0) + a * at(1, 0)) + b * ((1 - a) * at(0, 1) + a * at(1, 1))


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
