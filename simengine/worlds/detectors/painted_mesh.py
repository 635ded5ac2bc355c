"""A user's mesh with materials, some of which are the paint: read by trimesh in a process of its own, with limits."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import torch

from simengine.dtn.bodies.builder import smooth_normals
from simengine.io.geometry.mesh_file import read_limited
from simengine.ops.light.ray_scene import RaySurface
from simengine.scene.base import SceneError

SUFFIXES = (".obj", ".glb", ".gltf")
MAX_FACES = 300_000
COAT = 0.04  # reflectance of a paint's clear coat, and of what is no metal

# Triangles, texture coordinates, material of each, and the materials' names, linear colours, roughnesses, metalnesses.
# What a glTF material leaves out is 1, as its specification has it, and its colours are linear; OBJ has a roughness
# where Pr stands, and its colours are those of a screen. Of a material's pictures the mean counts.
_PAINTED = """
levels = np.arange(256) / 255
light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def mean(picture, values):
    if picture is None:
        return np.ones(3)
    count = np.asarray(picture.convert("RGB").histogram(), dtype=np.float64).reshape(3, 256)
    return count @ values / count[0].sum()


parts = trimesh.load(source, force="scene", process=False).dump(concatenate=False)
names, colours, looks, triangles, uvs, material = [], [], [], [], [], []
for part in parts:
    if not len(getattr(part, "faces", ())):
        continue
    look = getattr(part.visual, "material", None)
    name = str(getattr(look, "name", None) or "unnamed")
    if name not in names:
        names.append(name)
        if hasattr(look, "metallicFactor"):
            given = look.baseColorFactor
            colour = np.ones(3) if given is None else trimesh.visual.color.to_rgba(given)[:3] / 255
            colours.append(colour * mean(look.baseColorTexture, light))
            both = mean(look.metallicRoughnessTexture, levels)[1:]
            given = [look.roughnessFactor, look.metallicFactor]
            looks.append([(1.0 if v is None else float(v)) * m for v, m in zip(given, both)])
        else:
            colour = getattr(look, "main_color", None)
            colour = light[[128, 128, 128] if colour is None else [int(c) for c in colour[:3]]]
            colours.append(colour * mean(getattr(look, "image", None), light))
            said = getattr(look, "kwargs", {}).get("pr")
            looks.append([float(said[0]) if said else 0.4, 0.0])
    uv = getattr(part.visual, "uv", None)
    uv = np.zeros((len(part.vertices), 2)) if uv is None else np.asarray(uv, dtype=np.float64)[:, :2]
    triangles.append(np.asarray(part.vertices, dtype=np.float64)[part.faces])
    uvs.append(uv[part.faces])
    material += [names.index(name)] * len(part.faces)
if not triangles:
    raise ValueError("it holds no triangles")
if len(material) > most:
    raise ValueError(f"it has {len(material)} triangles; at most {most} are read")
triangles, uvs = np.concatenate(triangles), np.concatenate(uvs)
if not (np.isfinite(triangles).all() and np.isfinite(uvs).all()):
    raise ValueError("a coordinate is not finite")
arrays.update(triangles=triangles, uv=uvs, material=np.asarray(material))
arrays.update(colours=np.asarray(colours), looks=np.asarray(looks))
answer["names"] = names
"""


def read_painted_mesh(path: Path, *, paint: str, length: float, up: Literal["y", "z"]) -> RaySurface:
    """Read a mesh, scale it, and put it onto the ground z = 0 with its middle at x = y = 0.

    Args:
        path: OBJ (with its MTL beside it) or glTF.
        paint: Names of the materials that are painted, commas between them; a star stands for any letters. The others
            keep their colour, roughness and metalness (of textures the mean), and count as parts of the object.
        length: Largest horizontal extent after scaling [m].
        up: Axis of the file that points up.

    Raises:
        SceneError: The file is missing, too large, of another format, damaged, or has no such material.
    """
    try:
        data, answer = read_limited(path, _PAINTED, suffixes=SUFFIXES, most=MAX_FACES)
    except ValueError as error:
        raise SceneError(str(error)) from None
    names: list[str] = answer["names"]
    painted = _painted(names, paint, path)
    triangles = torch.from_numpy(data["triangles"])
    if up == "y":  # x, y up, z to the viewer -> x, y, z up
        triangles = torch.stack([triangles[..., 0], -triangles[..., 2], triangles[..., 1]], -1)
    low, high = triangles.reshape(-1, 3).min(0).values, triangles.reshape(-1, 3).max(0).values
    extent = float((high - low)[:2].max())
    if extent <= 0:
        raise SceneError(f"{path}: the mesh has no horizontal extent; check object.up")
    middle = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    triangles = ((triangles - middle) * (length / extent)).float()
    colours = torch.from_numpy(data["colours"]).double()
    roughness, metal = torch.from_numpy(data["looks"]).clamp(0, 1).unbind(1)
    metal = torch.where(painted, 0.0, metal)
    return RaySurface(
        vertices=triangles.reshape(-1, 3),
        faces=torch.arange(3 * len(triangles)).reshape(-1, 3),
        material=torch.from_numpy(data["material"]),
        albedo=(colours * (1 - metal)[:, None]).float(),
        roughness=roughness.clamp(min=0.04).float(),
        reflectance=(COAT + (colours.mean(1).clamp(max=0.95) - COAT) * metal).float(),  # of a metal its mean colour
        painted=painted,
        part=torch.ones(len(names), dtype=torch.bool),
        corner_uv=torch.from_numpy(data["uv"]).float(),
        corner_normals=smooth_normals(triangles, crease=0.6),
    )


def _painted(names: Sequence[str], paint: str, path: Path) -> torch.Tensor:
    """Which materials are painted, bool (m,); a name that holds a comma or a star stands for itself."""
    wanted = [paint] if paint in names else [part.strip() for part in paint.split(",")]
    for part in wanted:
        if not any(name == part or fnmatchcase(name, part) for name in names):
            raise SceneError(f"{path}: no material is named {part!r}; its materials: {', '.join(sorted(names))}")
    return torch.tensor([any(name == part or fnmatchcase(name, part) for part in wanted) for name in names])
