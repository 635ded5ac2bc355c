"""Triangles of glTF 2.0 with their metal-rough materials, read with limits; `gltf_writing` writes them.

Read are node transforms, several meshes and materials, textures of base colour, metal, roughness and normals. Left out
are emission, occlusion, transparency, vertex colours, skins and animations. What would change the shape or the place of
a texture and is not known here is refused by name.
"""

import base64
import dataclasses
import io
import json
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.geometry.mesh_file import MAX_BYTES, MAX_FACES
from simengine.io.image import from_srgb

SUFFIXES = (".glb", ".gltf")
MAX_TEXELS = 1 << 25  # of one texture
_NUMBERS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_PARTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_TRIANGLES = 4  # a primitive's mode
REPEAT, CLAMP = 10497, 33071  # what a texture does beyond its border
_DEEP = 64  # nodes below one another
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GltfMaterial:
    """Textures of one material, each of its own size, 1 x 1 where the file has a number alone.

    Attributes:
        name: In the file.
        base_colour: Linear RGB (th, tw, 3).
        metallic: (th, tw, 1).
        roughness: (th, tw, 1).
        normal: Right, up, out (th, tw, 3), or None.
        clamped: Whether textures end at their border; else they repeat.
    """

    name: str = ""
    base_colour: Floats
    metallic: Floats
    roughness: Floats
    normal: Floats | None = None
    clamped: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class GltfTriangles:
    """All triangles of a file, in its scene's coordinates.

    Attributes:
        vertices: Places, each once (v, 3) [m].
        faces: Triangles (f, 3).
        material: Of each triangle (f,).
        materials: What there is.
        corner_uv: Of the corners, v down (f, 3, 2); zeros where the file has none.
        normal_of_corner: Corners with one number share a normal (f, 3): those of one place and one normal of the file.
    """

    vertices: Floats
    faces: NDArray[np.int64]
    material: NDArray[np.int64]
    materials: tuple[GltfMaterial, ...]
    corner_uv: Floats
    normal_of_corner: NDArray[np.int64]


def read_gltf(path: Path) -> GltfTriangles:
    """Triangles and materials of a `.glb` or `.gltf`.

    Raises:
        ValueError: The file is missing, too large, damaged, or needs what is not read here.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: materials are read from {' and '.join(SUFFIXES)}; export the mesh as one of them")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return _read(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> GltfTriangles:
    """The file, read once until it changes."""
    try:
        return _Document(path).triangles()
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        struct.error,
        json.JSONDecodeError,
    ) as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ValueError(f"{path}: not a readable glTF 2.0 ({told})") from None
    except (ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:200]
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


class _Document:
    def __init__(self, path: Path) -> None:
        self.path = path
        data = _bytes_of(path)
        self.binary = b""
        if data[:4] == b"glTF":
            data, self.binary = _chunks(data)
        self.tree: dict[str, Any] = json.loads(data.decode("utf-8"))
        version = str(self.tree["asset"]["version"])
        if not version.startswith("2"):
            raise ValueError(f"glTF of version {version}; expected 2.0")
        for name in self.tree.get("extensionsRequired", ()):
            if name != "KHR_materials_specular":
                raise ValueError(f"it needs {name}, which is not read; export it without")
        self.buffers: dict[int, bytes] = {}
        self.textures: dict[tuple[int, bool], Floats] = {}

    def buffer(self, index: int) -> bytes:
        if index not in self.buffers:
            entry = self.tree["buffers"][index]
            self.buffers[index] = self.uri(entry["uri"]) if "uri" in entry else self.binary
        return self.buffers[index]

    def uri(self, uri: str) -> bytes:
        """What an address within the file, or beside it, holds."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2], validate=True)
        from urllib.parse import unquote

        beside = Path(unquote(uri))
        if "://" in uri or beside.is_absolute() or ".." in beside.parts:
            raise ValueError(f"{uri[:80]}: expected a file beside the glTF, or below it")
        return _bytes_of(self.path.parent / beside)

    def view(self, index: int) -> tuple[bytes, int]:
        """Bytes of a view, and how far apart its elements begin, 0 for packed."""
        entry = self.tree["bufferViews"][index]
        start, length = int(entry.get("byteOffset", 0)), int(entry["byteLength"])
        whole = self.buffer(int(entry["buffer"]))
        if start < 0 or length < 0 or start + length > len(whole):
            raise ValueError(f"bufferViews.{index} reaches beyond its buffer of {len(whole)} bytes")
        return whole[start : start + length], int(entry.get("byteStride", 0))

    def accessor(self, index: int) -> NDArray[Any]:
        """Numbers of an accessor (n, parts); integers as they are, unless they are shares of full scale."""
        entry = self.tree["accessors"][index]
        if "sparse" in entry or "bufferView" not in entry:
            raise ValueError(f"accessors.{index} is sparse or empty, which is not read")
        kind, parts, count = np.dtype(_NUMBERS[entry["componentType"]]), _PARTS[entry["type"]], int(entry["count"])
        data, stride = self.view(int(entry["bufferView"]))
        own = kind.itemsize * parts
        stride, start = stride or own, int(entry.get("byteOffset", 0))
        if count < 1 or stride < own or start < 0 or start + stride * (count - 1) + own > len(data):
            raise ValueError(f"accessors.{index} reaches beyond its view of {len(data)} bytes")
        rows = np.ndarray((count, parts), kind, buffer=data, offset=start, strides=(stride, kind.itemsize))
        if entry.get("normalized") and kind.kind in "iu":
            return np.asarray(np.maximum(rows.astype(np.float64) / np.iinfo(kind).max, -1.0))
        return rows

    def placed(self) -> Iterator[tuple[int, Floats]]:
        """Each mesh of the scene with the matrix that places it."""
        nodes, scenes = self.tree.get("nodes", ()), self.tree.get("scenes")
        if scenes:
            roots = scenes[int(self.tree.get("scene", 0))].get("nodes", ())
        else:
            below = {int(child) for node in nodes for child in node.get("children", ())}
            roots = [k for k in range(len(nodes)) if k not in below]
        waiting = [(int(root), np.eye(4), 0) for root in roots]
        while waiting:
            index, outer, depth = waiting.pop(0)
            if depth > _DEEP:
                raise ValueError(f"its nodes lie more than {_DEEP} below one another, or in a circle")
            node = nodes[index]
            matrix = outer @ _matrix(node)
            if "mesh" in node:
                yield int(node["mesh"]), matrix
            waiting += [(int(child), matrix, depth + 1) for child in node.get("children", ())]

    def triangles(self) -> GltfTriangles:
        corners, normals, uvs, material, total = [], [], [], [], 0
        for mesh, matrix in self.placed():
            for primitive in self.tree["meshes"][mesh]["primitives"]:
                if int(primitive.get("mode", _TRIANGLES)) != _TRIANGLES:
                    continue
                own = self.primitive(primitive, matrix)
                total += len(own[0])
                if total > MAX_FACES:
                    raise ValueError(f"it has more than {MAX_FACES} triangles")
                corners.append(own[0])
                normals.append(own[1])
                uvs.append(own[2])
                material += [int(primitive.get("material", -1))] * len(own[0])
        if not total:
            raise ValueError("it holds no triangles")
        places, bends, uv = np.concatenate(corners), np.concatenate(normals), np.concatenate(uvs)
        if not (np.isfinite(places).all() and np.isfinite(bends).all() and np.isfinite(uv).all()):
            raise ValueError("a coordinate is not finite")
        vertices, faces = np.unique(places.reshape(-1, 3), axis=0, return_inverse=True)
        # corners of one place share a normal where the file's are the same to a thousandth
        key = np.column_stack([faces.reshape(-1), np.round(bends.reshape(-1, 3) * 1e3)])
        groups = np.unique(key, axis=0, return_inverse=True)[1]
        used, number = np.unique(material, return_inverse=True)
        return GltfTriangles(
            vertices=vertices,
            faces=faces.reshape(-1, 3).astype(np.int64),
            material=number.astype(np.int64),
            materials=tuple(self.material(int(index)) for index in used),
            corner_uv=uv,
            normal_of_corner=groups.reshape(-1, 3).astype(np.int64),
        )

    def primitive(self, entry: Mapping[str, Any], matrix: Floats) -> tuple[Floats, Floats, Floats]:
        """Corners, unit normals (f, 3, 3) and texture coordinates (f, 3, 2) of one primitive, placed."""
        attributes = entry["attributes"]
        x = self.accessor(int(attributes["POSITION"])).astype(np.float64)
        index = np.arange(len(x)) if "indices" not in entry else self.accessor(int(entry["indices"])).ravel()
        index = index.astype(np.int64)
        if len(index) % 3 or (len(index) and (index.min() < 0 or index.max() >= len(x))):
            raise ValueError(f"a primitive's {len(index)} indices are no triangles of its {len(x)} vertices")
        order = index.reshape(-1, 3)
        turn = matrix[:3, :3]
        if np.linalg.det(turn) < 0:  # a mirror turns triangles over
            order = order[:, ::-1]
        x = x @ turn.T + matrix[:3, 3]
        places = x[order]
        flat = np.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
        normals = np.repeat(flat[:, None], 3, axis=1)
        if "NORMAL" in attributes:
            own = self.accessor(int(attributes["NORMAL"])).astype(np.float64)
            normals = (own @ np.linalg.inv(turn))[order]
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        uv = np.zeros((len(order), 3, 2))
        if "TEXCOORD_0" in attributes:
            uv = self.accessor(int(attributes["TEXCOORD_0"])).astype(np.float64)[:, :2][order]
        return places, normals / np.where(length > 0, length, 1.0), uv

    def material(self, index: int) -> GltfMaterial:
        entry = self.tree["materials"][index] if index >= 0 else {}
        rough = entry.get("pbrMetallicRoughness", {})
        colour = np.array(rough.get("baseColorFactor", (1, 1, 1, 1))[:3], dtype=np.float64)
        clamps: list[bool] = []
        base = np.ones((1, 1, 3))
        if "baseColorTexture" in rough:
            base = self.texture(rough["baseColorTexture"], clamps, linear=False)
        mixed = np.ones((1, 1, 3))
        if "metallicRoughnessTexture" in rough:
            mixed = self.texture(rough["metallicRoughnessTexture"], clamps)
        normal = None
        if "normalTexture" in entry:
            scale = float(entry["normalTexture"].get("scale", 1.0))
            normal = (2 * self.texture(entry["normalTexture"], clamps) - 1) * [scale, scale, 1.0]
        return GltfMaterial(
            name=str(entry.get("name", "")),
            base_colour=base * colour,
            metallic=mixed[..., 2:] * float(rough.get("metallicFactor", 1.0)),
            roughness=(mixed[..., 1:2] * float(rough.get("roughnessFactor", 1.0))).clip(0.02, 1.0),
            normal=normal,
            clamped=bool(clamps) and all(clamps),
        )

    def texture(self, entry: Mapping[str, Any], clamps: list[bool], *, linear: bool = True) -> Floats:
        """Texels (th, tw, 3) in [0, 1], of colours in linear light; whether they end at the border goes to `clamps`."""
        if int(entry.get("texCoord", 0)) != 0 or "KHR_texture_transform" in entry.get("extensions", {}):
            raise ValueError("a texture with coordinates of its own (texCoord, KHR_texture_transform) is not read")
        index = int(entry["index"])
        own = self.tree["textures"][index]
        sampler = self.tree["samplers"][int(own["sampler"])] if "sampler" in own else {}
        wraps = {int(sampler.get(name, REPEAT)) for name in ("wrapS", "wrapT")}
        if not wraps <= {REPEAT, CLAMP}:
            raise ValueError("a texture that is mirrored where it repeats is not read; let it repeat or end")
        clamps.append(wraps == {CLAMP})
        key = index, linear
        if key not in self.textures:
            image = self.tree["images"][int(own["source"])]
            data = self.uri(image["uri"]) if "uri" in image else self.view(int(image["bufferView"]))[0]
            texels = _texels(data)
            self.textures[key] = texels if linear else from_srgb(texels)
        return self.textures[key]


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size if path.is_file() else -1
    except OSError:
        size = -1
    if size < 0:
        raise ValueError(f"{path.name}: no such file")
    if size > MAX_BYTES:
        raise ValueError(f"{path.name}: {size} bytes; at most {MAX_BYTES} are read; make it smaller")
    return path.read_bytes()


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """The document and the buffer of a `.glb`."""
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2 or length > len(data):
        raise ValueError(f"a .glb of version {version} and {length} bytes; it has {len(data)}, and 2 is expected")
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > length:
            raise ValueError("a chunk of the .glb reaches beyond its end")
        found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    return found[b"JSON"], found.get(b"BIN\0", b"")


def _matrix(node: Mapping[str, Any]) -> Floats:
    """The transform of a node, (4, 4)."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _texels(data: bytes) -> Floats:
    """RGB of an encoded picture (th, tw, 3), in [0, 1]."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_TEXELS:
                raise ValueError(f"a texture of {opened.width} x {opened.height}; at most {MAX_TEXELS} texels are read")
            return np.asarray(opened.convert("RGB"), dtype=np.float64) / 255
    except ValueError:
        raise
    except Exception as error:  # the library raises what its decoders do
        raise ValueError(f"a texture is not a readable picture ({' '.join(str(error).split())[:80]})") from None
