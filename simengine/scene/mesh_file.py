"""Reading a user's mesh: by trimesh, in a process of its own with limits on time, memory and size."""

import json
import subprocess
import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.scene.base import SceneError

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf", ".off")
MAX_BYTES = 64 << 20
MAX_RATIO = 20  # of an archive's content to its size
MAX_FACES = 2_000_000
SECONDS = 60
MEMORY = 4 << 30

# Runs in the child: reads the mesh and writes vertices and faces as .npy, or says why not
_READER = """
import json, resource, sys
source, target, memory, faces = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
try:
    import numpy as np, trimesh
    mesh = trimesh.load(source, force="mesh", process=True, skip_materials=True)
    if not len(getattr(mesh, "faces", ())):
        raise ValueError("it holds no triangles")
    if len(mesh.faces) > faces:
        raise ValueError(f"it has {len(mesh.faces)} triangles; at most {faces} are read")
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if not np.isfinite(vertices).all():
        raise ValueError("a vertex is not finite")
    np.savez(target, vertices=vertices, faces=np.asarray(mesh.faces, dtype=np.int64))
    print(json.dumps({"ok": True, "watertight": bool(mesh.is_watertight)}))
except BaseException as error:
    print(json.dumps({"ok": False, "reason": f"{type(error).__name__}: {error}"[:300]}))
"""


def read_mesh(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (v, 3) and triangles (f, 3) of a mesh file (OBJ, PLY, STL, glTF, OFF).

    Raises:
        SceneError: The file is missing, too large, of another format, or damaged.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SceneError(f"{path}: not a mesh format that is read; use one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise SceneError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SceneError(f"{path}: {size} bytes; at most {MAX_BYTES} are read; simplify the mesh")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
        if content > MAX_RATIO * size:
            raise SceneError(
                f"{path}: an archive that grows {content / size:.0f} times; at most {MAX_RATIO} is allowed"
            )
    return _read_in_child(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_in_child(path: Path, changed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mesh, read once until the file changes."""
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
            return data["vertices"], data["faces"]
