"""The object in a found texture for other programs: OBJ with its .mtl, and glTF as one binary file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simengine.io.geometry.glb import ARRAY_BUFFER, FLOAT, packed
from simengine.render.tone import encode_srgb

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.ops.light.ray_scene import RaySurface

OBJ, MTL, GLB = "object.obj", "object.mtl", "object.glb"
Array = npt.NDArray[np.float32]


def write_painted(surface: "RaySurface", texture: Path, out: "RunDirectory") -> None:
    """Write `object.obj`, `object.mtl` and `object.glb`: y up, in metres, the painted materials in the texture.

    Roughness stands in both; other materials have their colour. First row of the texture: v = 1, as OBJ has it; glTF
    counts v from the top.

    Args:
        surface: The object; needs texture coordinates.
        texture: A PNG within the run directory, in sRGB.
        out: The run directory.

    Raises:
        ValueError: The surface has no texture coordinates.

    Source: Khronos, glTF 2.0 specification, sections 3.6, 3.9 and 4.4 (GLB).
    """
    if surface.corner_uv is None:
        raise ValueError("surface: expected texture coordinates, got none")
    corners = _y_up(surface.vertices[surface.faces])
    normals = _y_up(surface.corner_normals) if surface.corner_normals is not None else _flat(corners)
    uv = surface.corner_uv.numpy().astype(np.float32)
    names = [f"paint_{k}" if painted else f"material_{k}" for k, painted in enumerate(surface.painted.tolist())]
    material = surface.material.numpy()
    used = [k for k in range(len(names)) if (material == k).any()]
    lines = [f"mtllib {MTL}", "o object"]
    for key, values in (("v", corners), ("vt", uv), ("vn", normals)):
        lines += [f"{key} {' '.join(f'{x:.7g}' for x in row)}" for row in values.reshape(-1, values.shape[-1])]
    looks = []
    for k in used:
        lines.append(f"usemtl {names[k]}")
        lines += [
            "f " + " ".join(f"{n}/{n}/{n}" for n in range(3 * t + 1, 3 * t + 4)) for t in np.flatnonzero(material == k)
        ]
        painted = bool(surface.painted[k])
        colour = " ".join(f"{x:.4g}" for x in encode_srgb(surface.albedo[k].clamp(0, 1)).tolist())
        looks += [f"newmtl {names[k]}", f"Kd {'1 1 1' if painted else colour}", f"Pr {float(surface.roughness[k]):.4g}"]
        looks += [f"map_Kd {texture.name}"] if painted else []
    out.claim(OBJ).write_text("\n".join(lines) + "\n", encoding="utf-8")
    out.claim(MTL).write_text("\n".join(looks) + "\n", encoding="utf-8")
    flipped = np.stack([uv[..., 0], 1 - uv[..., 1]], -1)
    parts = {k: [values[material == k] for values in (corners, normals, flipped)] for k in used}
    out.claim(GLB).write_bytes(_glb(surface, names, parts, texture.read_bytes()))


def _y_up(values: Any) -> Array:
    """From z up to y up."""
    x, y, z = (values[..., k].numpy().astype(np.float32) for k in range(3))
    return np.stack([x, z, -y], -1)


def _flat(corners: Array) -> Array:
    """Unit normals of triangles, at each of their corners."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-12)
    return np.repeat(normal[:, None], 3, 1)


def _glb(surface: "RaySurface", names: list[str], parts: dict[int, list[Array]], png: bytes) -> bytes:
    """One mesh of a part for each material; a buffer of its positions, normals, coordinates, and of the texture."""
    data, views, accessors = b"", list[dict[str, Any]](), list[dict[str, Any]]()
    primitives, looks = list[dict[str, Any]](), list[dict[str, Any]]()
    for place, (k, arrays) in enumerate(parts.items()):
        attributes = {}
        for name, values in zip(("POSITION", "NORMAL", "TEXCOORD_0"), arrays, strict=True):
            rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
            views.append({"buffer": 0, "byteOffset": len(data), "byteLength": rows.nbytes, "target": ARRAY_BUFFER})
            accessor: dict[str, Any] = {"bufferView": len(views) - 1, "componentType": FLOAT, "count": len(rows)}
            accessor["type"] = f"VEC{rows.shape[1]}"
            if name == "POSITION":
                accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
            attributes[name] = len(accessors)
            accessors.append(accessor)
            data += rows.tobytes()
        primitives.append({"attributes": attributes, "material": place})
        colour: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": float(surface.roughness[k])}
        if surface.painted[k]:
            colour["baseColorTexture"] = {"index": 0}
        else:
            colour["baseColorFactor"] = [*surface.albedo[k].clamp(0, 1).tolist(), 1.0]
        looks.append({"name": names[k], "pbrMetallicRoughness": colour, "doubleSided": True})
    views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(png)})
    data += png
    document = {
        "asset": {"version": "2.0", "generator": "simengine"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [{"primitives": primitives}],
        "materials": looks,
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 10497, "wrapT": 10497}],  # repeats
        "images": [{"bufferView": len(views) - 1, "mimeType": "image/png"}],
        "accessors": accessors,
        "bufferViews": views,
    }
    return packed(document, data)
