"""A user's mesh with materials, one of which is the paint: read by trimesh in a process of its own, with limits."""

from pathlib import Path
from typing import Literal

import torch

from simengine.dtn.bodies.builder import smooth_normals
from simengine.io.geometry.mesh_file import read_limited
from simengine.ops.light.ray_scene import RaySurface
from simengine.scene.base import SceneError

SUFFIXES = (".obj", ".glb", ".gltf")
MAX_FACES = 300_000

# Triangles, texture coordinates, material of each, and the materials' names and colours
_PAINTED = """
parts = trimesh.load(source, force="scene", process=False).dump(concatenate=False)
names, colours, triangles, uvs, material = [], [], [], [], []
for part in parts:
    if not len(getattr(part, "faces", ())):
        continue
    look = getattr(part.visual, "material", None)
    name = str(getattr(look, "name", None) or "unnamed")
    if name not in names:
        names.append(name)
        colour = getattr(look, "main_color", None)
        colours.append([int(c) for c in colour[:3]] if colour is not None else [128, 128, 128])
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
arrays.update(triangles=triangles, uv=uvs, material=np.asarray(material), colours=np.asarray(colours))
answer["names"] = names
"""


def read_painted_mesh(path: Path, *, paint: str, length: float, up: Literal["y", "z"]) -> RaySurface:
    """Read a mesh, scale it, and put it onto the ground z = 0 with its middle at x = y = 0.

    Args:
        path: OBJ (with its MTL beside it) or glTF.
        paint: Name of the material that is painted; the others keep their colour and count as parts of the object.
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
    if paint not in names:
        raise SceneError(f"{path}: no material is named {paint!r}; its materials: {', '.join(sorted(names))}")
    triangles = torch.from_numpy(data["triangles"])
    if up == "y":  # x, y up, z to the viewer -> x, y, z up
        triangles = torch.stack([triangles[..., 0], -triangles[..., 2], triangles[..., 1]], -1)
    low, high = triangles.reshape(-1, 3).min(0).values, triangles.reshape(-1, 3).max(0).values
    extent = float((high - low)[:2].max())
    if extent <= 0:
        raise SceneError(f"{path}: the mesh has no horizontal extent; check object.up")
    middle = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    triangles = ((triangles - middle) * (length / extent)).float()
    colours = torch.from_numpy(data["colours"]).double() / 255
    return RaySurface(
        vertices=triangles.reshape(-1, 3),
        faces=torch.arange(3 * len(triangles)).reshape(-1, 3),
        material=torch.from_numpy(data["material"]),
        albedo=(colours**2.2).float(),
        roughness=torch.full((len(names),), 0.4),
        reflectance=torch.full((len(names),), 0.04),
        painted=torch.tensor([name == paint for name in names]),
        part=torch.ones(len(names), dtype=torch.bool),
        corner_uv=torch.from_numpy(data["uv"]).float(),
        corner_normals=smooth_normals(triangles, crease=0.6),
    )
