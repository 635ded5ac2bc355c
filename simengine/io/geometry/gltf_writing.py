"""Triangles of glTF 2.0 with their metal-rough materials, written as one `.glb`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.geometry.glb import ARRAY_BUFFER, FLOAT, packed
from simengine.io.geometry.gltf import CLAMP, REPEAT, Floats, GltfMaterial, GltfTriangles
from simengine.io.image import to_srgb8


def write_gltf(file: Path, mesh: GltfTriangles) -> None:
    """Write triangles with their materials as one `.glb`, textures within it as PNG of 8 bits.

    Args:
        file: `.glb`.
        mesh: What is written; each material is a primitive.
    """
    chunks: list[bytes] = []
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []

    def put(data: bytes, **more: int) -> int:
        views.append({"buffer": 0, "byteOffset": sum(map(len, chunks)), "byteLength": len(data), **more})
        chunks.append(data + b"\0" * (-len(data) % 4))
        return len(views) - 1

    def numbers(values: NDArray[Any], kind: str) -> int:
        plain = np.ascontiguousarray(values, dtype="<f4")
        entry: dict[str, Any] = {"bufferView": put(plain.tobytes(), target=ARRAY_BUFFER), "componentType": FLOAT}
        entry |= {"count": len(plain), "type": kind}
        if kind == "VEC3":
            entry |= {"min": plain.min(0).tolist(), "max": plain.max(0).tolist()}
        accessors.append(entry)
        return len(accessors) - 1

    def picture(texels: NDArray[np.uint8]) -> dict[str, int]:
        from PIL import Image

        encoded = io.BytesIO()
        Image.fromarray(texels).save(encoded, format="PNG")
        images.append({"bufferView": put(encoded.getvalue()), "mimeType": "image/png"})
        return {"index": len(images) - 1}

    normals = _corner_normals(mesh)
    primitives: list[dict[str, Any]] = []
    materials: list[dict[str, Any]] = []
    for index, material in enumerate(mesh.materials):
        own = mesh.material == index
        if not own.any():
            continue
        places = mesh.vertices[mesh.faces[own]].reshape(-1, 3)
        attributes = {"POSITION": numbers(places, "VEC3"), "NORMAL": numbers(normals[own].reshape(-1, 3), "VEC3")}
        attributes["TEXCOORD_0"] = numbers(mesh.corner_uv[own].reshape(-1, 2), "VEC2")
        primitives.append({"attributes": attributes, "material": len(materials)})
        materials.append(_material_entry(material, picture))
    wrap = {True: CLAMP, False: REPEAT}[all(material.clamped for material in mesh.materials)]
    document = {
        "asset": {"version": "2.0", "generator": "simengine"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}],
        "materials": materials,
        "bufferViews": views,
        "accessors": accessors,
    }
    if images:
        document |= {"images": images, "samplers": [{"wrapS": wrap, "wrapT": wrap}]}
        document["textures"] = [{"source": k, "sampler": 0} for k in range(len(images))]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed(document, b"".join(chunks)))


def _material_entry(material: GltfMaterial, picture: Any) -> dict[str, Any]:
    """A material in words of glTF; a texture of one texel is a factor."""
    rough: dict[str, Any] = {}
    if material.base_colour.shape[:2] == (1, 1):
        rough["baseColorFactor"] = [*material.base_colour[0, 0].tolist(), 1.0]
    else:
        rough["baseColorTexture"] = picture(to_srgb8(material.base_colour.clip(0, 1)))
    metallic, roughness = material.metallic, material.roughness
    if metallic.shape[:2] == roughness.shape[:2] == (1, 1):
        rough |= {"metallicFactor": float(metallic[0, 0, 0]), "roughnessFactor": float(roughness[0, 0, 0])}
    else:
        size = tuple(max(a, b) for a, b in zip(metallic.shape[:2], roughness.shape[:2], strict=True))
        both = [np.ones((*size, 1)), *(np.broadcast_to(v, (*size, 1)) for v in (roughness, metallic))]
        rough["metallicRoughnessTexture"] = picture(_shares(np.concatenate(both, -1)))
    entry: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": rough}
    if material.normal is not None:
        unit = material.normal / np.linalg.norm(material.normal, axis=-1, keepdims=True).clip(1e-12)
        entry["normalTexture"] = picture(_shares((unit + 1) / 2))
    return entry


def _shares(values: Floats) -> NDArray[np.uint8]:
    return np.asarray((255 * values.clip(0, 1)).round(), dtype=np.uint8)


def _corner_normals(mesh: GltfTriangles) -> Floats:
    """Unit means over the triangles that share a normal, by area (f, 3, 3)."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    flat = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    total = np.zeros((int(mesh.normal_of_corner.max()) + 1, 3))
    np.add.at(total, mesh.normal_of_corner.ravel(), flat)
    total /= np.linalg.norm(total, axis=1, keepdims=True).clip(1e-300)
    return np.asarray(total[mesh.normal_of_corner])
