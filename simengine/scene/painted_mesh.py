"""A user's mesh with materials, one of which is the paint: read by trimesh in a process of its own, with limits."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simengine.dtn.car import smooth_normals
from simengine.ops.raycast import RaySurface
from simengine.scene.base import SceneError
from simengine.scene.mesh_file import MAX_BYTES, MEMORY, SECONDS

SUFFIXES = (".obj", ".glb", ".gltf")
MAX_FACES = 300_000

# Runs in the child: writes triangles, texture coordinates, material of each, and the materials' names and colours
_READER = """
import json, resource, sys
source, target, memory, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
try:
    import numpy as np, trimesh
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
    np.savez(target, triangles=triangles, uv=uvs, material=np.asarray(material), colours=np.asarray(colours))
    print(json.dumps({"ok": True, "names": names}))
except BaseException as error:
    print(json.dumps({"ok": False, "reason": f"{type(error).__name__}: {error}"[:300]}))
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
    if path.suffix.lower() not in SUFFIXES:
        raise SceneError(f"{path}: materials are read from {', '.join(SUFFIXES)} files")
    if not path.is_file():
        raise SceneError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise SceneError(f"{path}: {path.stat().st_size} bytes; at most {MAX_BYTES} are read; simplify the mesh")
    data, names = _read_in_child(path)
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


def _read_in_child(path: Path) -> tuple[dict[str, Any], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "mesh.npz"
        command = [sys.executable, "-c", _READER, str(path), str(target), str(MEMORY), str(MAX_FACES)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise SceneError(f"{path}: reading took longer than {SECONDS} s; simplify the mesh") from None
        lines = done.stdout.strip().splitlines()
        answer: dict[str, Any] = {"ok": False, "reason": f"the reader died ({done.returncode})"}
        if lines:
            answer = json.loads(lines[-1])
        if not answer["ok"]:
            raise SceneError(f"{path}: not a readable mesh: {' '.join(answer['reason'].split())}")
        with np.load(target) as data:
            return {name: data[name] for name in data.files}, answer["names"]
