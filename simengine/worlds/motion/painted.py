"""Triangles of a glTF file as a mesh to be pictured, with its materials."""

from typing import Any

import torch

from simengine.io.geometry.gltf import GltfTriangles
from simengine.render.looks.metal_rough import FaceMaterials, MetalRoughTextures
from simengine.render.meshes import TexturedMesh


def painted_mesh(triangles: GltfTriangles, *, dtype: torch.dtype = torch.float64) -> TexturedMesh:
    """The triangles of a glTF file with its materials.

    Args:
        triangles: Of `read_gltf`.
        dtype: Of its numbers.
    """

    def tensor(value: Any) -> torch.Tensor:
        return torch.as_tensor(value, dtype=dtype)

    names = ("base_colour", "metallic", "roughness")
    materials = tuple(
        MetalRoughTextures(
            **{name: tensor(getattr(one, name)) for name in names},
            normal=None if one.normal is None else tensor(one.normal),
            clamped=one.clamped,
        )
        for one in triangles.materials
    )
    mean = torch.stack([one.base_colour.mean((0, 1)) for one in materials])
    faces, of_face = torch.as_tensor(triangles.faces), torch.as_tensor(triangles.material)
    texture = torch.zeros(len(triangles.vertices), 3, dtype=dtype)  # for those who know no materials
    texture[faces.reshape(-1)] = mean[of_face.repeat_interleave(3)]
    look = FaceMaterials(
        materials=materials,
        of_face=of_face,
        corner_uv=tensor(triangles.corner_uv),
        normal_of_corner=torch.as_tensor(triangles.normal_of_corner),
    )
    return TexturedMesh(vertices=tensor(triangles.vertices), faces=faces, texture=texture, materials=look)
