"""Maps of a flat sample as a material of other programs: a rectangle in glTF 2.0, and as OBJ, with textures as PNG."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

NAME, OBJ = "material.gltf", "material.obj"
RECTANGLE = """mtllib material.mtl
o sample
v -{x:.9g} -{y:.9g} 0
v {x:.9g} -{y:.9g} 0
v {x:.9g} {y:.9g} 0
v -{x:.9g} {y:.9g} 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vn 0 0 1
usemtl sample
f 1/1/1 2/2/1 3/3/1 4/4/1
"""
MATERIAL = """newmtl sample
Kd 1 1 1
map_Kd material-base_color.png
Pr 1
map_Pr material-roughness.png
Pm 1
map_Pm material-metallic.png
map_Bump -bm 1 material-normal.png
"""
FLOAT, SHORT = 5126, 5123  # of a component, in glTF's numbers


def write_material(
    maps: "Mapping[str, torch.Tensor]", size: tuple[float, float], out: "RunDirectory"
) -> "dict[str, np.ndarray[Any, np.dtype[np.uint8]]]":
    """Write material.gltf with its vertices, material.obj with its material.mtl, and the textures of both.

    The rectangle lies in its x-y plane, z towards the camera (glTF's y is up); textures follow the metal-rough model of
    glTF 2.0 (section 3.9): base colour in sRGB; the normal in the tangent frame, green up; roughness in green and metal
    in blue. A `.mtl` wants these two apart, by the names of its extension for metal-rough materials; map_Bump is what
    Blender takes for a map of normals.

    Args:
        maps: base_color (rows, columns, 3), metallic and roughness (rows, columns, 1), slopes (rows, columns, 2).
        size: Width and height [m].
        out: The run directory.

    Returns:
        Textures by name, 8 bits (rows, columns, 3).
    """
    from PIL import Image

    from simengine.io.image import to_srgb8

    plain = {name: field.detach().double().cpu().numpy() for name, field in maps.items()}
    normal = np.concatenate((-plain["slopes"], np.ones_like(plain["slopes"][..., :1])), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    none = np.ones_like(plain["metallic"])  # red tells nothing; some programs take it for occlusion
    textures = {
        "base_color": to_srgb8(plain["base_color"].clip(0, 1)),
        "normal": _bytes((normal + 1) / 2),
        "metallic_roughness": _bytes(np.concatenate((none, plain["roughness"], plain["metallic"]), -1)),
        "metallic": _bytes(plain["metallic"].repeat(3, -1)),
        "roughness": _bytes(plain["roughness"].repeat(3, -1)),
    }
    for name, texture in textures.items():
        Image.fromarray(texture).save(out.claim(f"material-{name}.png"))
    vertices, document = _rectangle(*size)
    out.claim("material.bin").write_bytes(vertices)
    out.claim(NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    x, y = size[0] / 2, size[1] / 2
    out.claim(OBJ).write_text(RECTANGLE.format(x=x, y=y), encoding="utf-8")
    out.claim("material.mtl").write_text(MATERIAL, encoding="utf-8")
    return textures


def _bytes(values: Any) -> Any:
    return (255 * values.clip(0, 1)).round().astype(np.uint8)


def _rectangle(width: float, height: float) -> tuple[bytes, dict[str, Any]]:
    """Vertices and indices of a rectangle, and the document that names them and the textures."""
    x, y = width / 2, height / 2
    columns: dict[str, tuple[str, list[tuple[float, ...]]]] = {
        "POSITION": ("VEC3", [(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)]),
        "NORMAL": ("VEC3", [(0, 0, 1)] * 4),
        "TANGENT": ("VEC4", [(1, 0, 0, 1)] * 4),  # green of the normal is up
        "TEXCOORD_0": ("VEC2", [(0, 1), (1, 1), (1, 0), (0, 0)]),  # row 0 of a texture on top
    }
    parts = [np.asarray(values, dtype="<f4").tobytes() for _, values in columns.values()]
    parts.append(np.asarray([0, 1, 2, 0, 2, 3], dtype="<u2").tobytes())
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    accessors: list[dict[str, Any]] = [
        {"bufferView": k, "componentType": FLOAT, "count": 4, "type": form}
        for k, (form, _) in enumerate(columns.values())
    ]
    accessors[0] |= {"min": [-x, -y, 0.0], "max": [x, y, 0.0]}
    accessors.append({"bufferView": len(columns), "componentType": SHORT, "count": 6, "type": "SCALAR"})
    images = [f"material-{name}.png" for name in ("base_color", "normal", "metallic_roughness")]
    metal_rough = {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 2}}
    document = {
        "asset": {"version": "2.0", "generator": "simengine"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "sample"}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {n: k for k, n in enumerate(columns)}, "indices": len(columns), "material": 0}
                ]
            }
        ],
        "materials": [{"name": "sample", "pbrMetallicRoughness": metal_rough, "normalTexture": {"index": 1}}],
        "textures": [{"source": k, "sampler": 0} for k in range(len(images))],
        "samplers": [{"wrapS": 33071, "wrapT": 33071}],  # no texel of the other side at an edge
        "images": [{"uri": uri} for uri in images],
        "buffers": [{"uri": "material.bin", "byteLength": starts[-1]}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(part)}
            for start, part in zip(starts, parts, strict=False)
        ],
        "accessors": accessors,
    }
    return b"".join(parts), document
