"""Reading a user's mesh: by trimesh, in a process of its own with limits on time, memory and size."""

import json
import subprocess
import tempfile
import textwrap
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.child import run_python

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf", ".off")
MAX_BYTES = 64 << 20
MAX_RATIO = 20  # of an archive's content to its size
MAX_FACES = 2_000_000
SECONDS = 60
MEMORY = 4 << 30

_KIND = {"trimesh": "mesh", "ezc3d": ".c3d file"}  # what a library reads

# Runs in the child; the body reads `source` with the library into `arrays`, and puts further answers into `answer`
_CHILD = """
import json, sys
source, target, memory, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
except ImportError:  # Windows, where only the limits on time and size hold
    pass
try:
    import numpy as np
    arrays, answer = {{}}, {{}}
{imports}
    if source.lower().endswith(".obj"):
        for number, line in enumerate(open(source, encoding="utf-8", errors="replace"), 1):
            words = line.split()
            if words[:1] == ["f"] and any(word.split("/")[0] in ("0", "-0") for word in words[1:]):
                raise ValueError(f"line {{number}}: a face names vertex 0, but OBJ counts from 1")
{body}
    np.savez(target, **arrays)
    print(json.dumps({{"ok": True, **answer}}))
except BaseException as error:
    print(json.dumps({{"ok": False, "reason": f"{{type(error).__name__}}: {{error}}"[:300]}}))
"""

_TRIANGLES = """
# unprocessed first: processing drops vertices that are not finite, and the faces on them, without a word
mesh = trimesh.load(source, force="mesh", process=False, skip_materials=True)
if not len(getattr(mesh, "faces", ())):
    raise ValueError("it holds no triangles")
if len(mesh.faces) > most:
    raise ValueError(f"it has {len(mesh.faces)} triangles; at most {most} are read")
vertices = np.asarray(mesh.vertices, dtype=np.float64)
if not np.isfinite(vertices).all():
    raise ValueError("a vertex is not finite")
mesh.process()
vertices = np.asarray(mesh.vertices, dtype=np.float64)
arrays.update(vertices=vertices, faces=np.asarray(mesh.faces, dtype=np.int64))
"""


def read_mesh(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (v, 3) and triangles (f, 3) of a mesh file (OBJ, PLY, STL, glTF, OFF).

    Raises:
        ValueError: The file is missing, too large, of another format, or damaged.
    """
    arrays, _ = read_limited(path, _TRIANGLES, suffixes=SUFFIXES, most=MAX_FACES)
    return arrays["vertices"], arrays["faces"]


def read_limited(
    path: Path, body: str, *, suffixes: tuple[str, ...], most: int, library: str = "trimesh"
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Run a reader on a user's file in a process of its own.

    Args:
        path: The file.
        body: Python that reads `source` with the library and numpy (`np`), fills the dicts `arrays` and `answer`, and
            raises what is wrong; `most` is at hand.
        suffixes: Formats allowed.
        most: Largest number of triangles, or of what else there are many.
        library: What reads it.

    Returns:
        The arrays and the answers.

    Raises:
        ValueError: The file is missing, too large, of another format, or damaged.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: not a mesh format that is read here; use one of {', '.join(suffixes)}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path}: {size} bytes; at most {MAX_BYTES} are read; make it smaller")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
        if content > MAX_RATIO * size:
            raise ValueError(
                f"{path}: an archive that grows {content / size:.0f} times; at most {MAX_RATIO} is allowed"
            )
    return _read_in_child(path.resolve(), path.stat().st_mtime_ns, body, most, library)


@lru_cache(maxsize=8)
def _read_in_child(
    path: Path, changed: int, body: str, most: int, library: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The file, read once until it changes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "mesh.npz"
        code = _CHILD.format(imports=f"    import {library}", body=textwrap.indent(body, "    "))
        try:
            done = run_python(code, str(path), str(target), str(MEMORY), str(most), seconds=SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{path}: reading took longer than {SECONDS} s; make it smaller") from None
        lines = done.stdout.strip().splitlines()
        answer: dict[str, Any] = {"ok": False, "reason": f"the reader died ({done.returncode})"}
        if lines:
            answer = json.loads(lines[-1])
        if not answer["ok"]:
            raise ValueError(
                f"{path}: not a readable {_KIND.get(library, library)}: {' '.join(answer['reason'].split())}"
            )
        with np.load(target) as data:
            return {name: data[name] for name in data.files}, answer
