"""Spoilt files of every kind, and spoilt scenes of every kind of world: read, or one line that says what is wrong.

Cells turned into words, infinities and other scripts; rows and keys removed, doubled and shuffled; arrays of other
shapes and types; pictures of other modes; bytes flipped, cut and inserted; huge, negative and missing counts in binary
headers; folders, loops of links and UTF-16 in place of files. `SAMPLES` of each are drawn here, fewer where each costs
a process; some hundreds of each were, once, when this was written.
"""

import copy
import json
import os
import random
import re
import struct
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from simengine.io.annotations import read_coco, read_yolo
from simengine.io.exr import read_exr, write_exr
from simengine.io.geometry import mesh_file
from simengine.io.geometry.mesh_file import read_mesh
from simengine.io.geometry.splats import read_splats, write_splats
from simengine.io.pictures import read_rgb, read_series
from simengine.io.tables import read_table
from simengine.materials.weights import load_material
from simengine.observe.camera_files import read_shots
from simengine.observe.columns import take
from simengine.observe.motion_files import read_motion
from simengine.scene import load_scene, named_scenes
from simengine.worlds.flames.gas import GasSpec

SAMPLES = 25
CHILD = {".c3d": 6, ".obj": 3, ".glb": 3, ".stl": 3}  # samples of what is read in a process of its own
RAW = (
    r"object has no|not subscriptable|unhashable|NoneType|must be real number|could not convert|invalid literal|ufunc|"
    r"unsupported operand|out of range for|Expected |tensor\(|expected string or|broadcast|size of tensor|"
    r"is not iterable"
)
TABLE = "time [s],x [m],y [m],name\n" + "".join(f"{0.1 * k:g},{k},{-k * k},ball\n" for k in range(6))
TRC = (
    "PathFileType\t4\t(X/Y/Z)\tt.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\n20\t20\t2\t1\tm\n"
    "Frame#\tTime\tball\t\t\n\t\tX1\tY1\tZ1\n1\t0\t0.1\t0.2\t0.3\n2\t0.05\t0.2\t0.2\t0.3\n"
)
KRT = {"a.png": {"K": [[20.0, 0, 6], [0, 20, 5], [0, 0, 1]], "R": np.eye(3).tolist(), "t": [0, 0, 2], "width": 12}}
FRAMES = {
    "w": 12,
    "h": 10,
    "fl_x": 20.0,
    "k1": 0.1,
    "frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}],
}
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 16, 10], "area": 160, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "car"}],
}
ARRAYS = {"x": np.linspace(0, 1, 12).reshape(4, 1, 3), "time": np.arange(4.0)}


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["a [m]"], file["b"] = np.arange(5.0), np.arange(5)


def _c3d(path: Path) -> None:
    import ezc3d

    made = ezc3d.c3d()
    made["parameters"]["POINT"]["RATE"]["value"] = [20.0]
    made["parameters"]["POINT"]["LABELS"]["value"] = ["ball"]
    made["parameters"]["POINT"]["UNITS"]["value"] = ["m"]
    made["data"]["points"] = np.ones((4, 1, 5))
    made.write(str(path))


def _png(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)).save(path)


def _exr(path: Path) -> None:
    write_exr(path, {name: np.random.default_rng(0).random((20, 13)) for name in "RGBA"})


def _splats(path: Path) -> None:
    shapes = {"positions": (7, 3), "harmonics": (7, 4, 3), "opacities": (7,), "scales": (7, 3), "rotations": (7, 4)}
    write_splats(path, {name: np.ones(shape, np.float32) for name, shape in shapes.items()})


def _mesh(path: Path) -> None:
    import trimesh

    trimesh.creation.icosphere(subdivisions=1).export(path)


def _asset(name: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes((files("simengine.assets") / name).read_bytes()) and None


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def _columns(path: Path) -> None:
    raw = read_table(path)
    for header in raw.columns:
        if header != "name":
            take(raw, header, key="columns")


def _cameras(path: Path) -> None:
    read_shots(path.parent if path.name in ("cameras.txt", "images.txt") else path)


def _sparse(path: Path) -> None:
    (path.parent / "cameras.txt").write_text("# c\n1 OPENCV 12 10 20 20 6 5 0.1 0 0 0\n")
    (path.parent / "images.txt").write_text("# i\n1 0 1 0 0 -0.5 0.5 2.2 1 a.png\n\n2 0 1 0 0 0 0.5 2 1 b.png\n\n")


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {  # file, what writes it, what reads it
    "csv": ("t.csv", _text(TABLE), _columns),
    "csv with semicolons": ("t.csv", _text(TABLE.replace(",", ";").replace(".", ",")), _columns),
    "npz": ("t.npz", lambda p: np.savez(p, a=np.arange(5.0), b=np.arange(5)), _columns),
    "HDF5": ("t.h5", _hdf5, _columns),
    "motion, csv": ("t.csv", _text(TABLE), lambda p: read_motion(p, columns={"x": "x [m]", "y": "y [m]"})),
    "motion, npz": ("t.npz", lambda p: np.savez(p, **ARRAYS), lambda p: read_motion(p, columns={}, names=("0",))),
    "motion, c3d": ("t.c3d", _c3d, lambda p: read_motion(p, columns={}, names=("ball",))),
    "motion, trc": ("t.trc", _text(TRC), lambda p: read_motion(p, columns={}, names=("ball",))),
    "cameras, K R t": ("t.json", _text(json.dumps(KRT)), _cameras),
    "cameras, nerfstudio": ("transforms.json", _text(json.dumps(FRAMES)), _cameras),
    "cameras, COLMAP": ("cameras.txt", _sparse, _cameras),
    "poses, COLMAP": ("images.txt", _sparse, _cameras),
    "COCO": ("t.json", _text(json.dumps(COCO)), read_coco),
    "YOLO": (
        "a.txt",
        _text("0 0.5 0.5 0.3 0.3 0.9\n1 0.2 0.2 0.1 0.1 0.8\n"),
        lambda p: read_yolo(p.parent, {"a": (24, 32)}),
    ),
    "png": ("t.png", _png, read_rgb),
    "npy": ("t.npy", lambda p: np.save(p, np.ones((4, 5, 3))), read_rgb),
    "film": ("t.mp4", _asset("jelly_film.mp4"), lambda p: read_series(p, every=20)),
    "EXR": ("t.exr", _exr, read_exr),
    "splats": ("t.ply", _splats, read_splats),
    "OBJ": ("t.obj", _mesh, read_mesh),
    "glTF": ("t.glb", _mesh, read_mesh),
    "STL": ("t.stl", _mesh, read_mesh),
    "weights": ("t.safetensors", _asset("jelly_law.safetensors"), load_material),
    "mechanism": ("t.yaml", _asset("methane_1step.yaml"), lambda p: GasSpec(mechanism=p).parameters()),
}
WORDS = [
    "nan",
    "inf",
    "1e400",
    "-1",
    "0",
    "",
    "x",
    "ä",
    "1,5",
    "1e308",
    "1_0",
    "True",
    "1;2",
    "١",
    "\u22121",
    '"',
    "1 2",
]
PARTS = [
    "\x00",
    "\ufeff",
    "[",
    "]",
    "{",
    '"',
    "\n\n\n",
    ",,,,",
    "#",
    "\u2028",
    "&x ",
    "*x ",
    "!!python/object:os.system ",
]
STRANGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    "x",
    "",
    [],
    {},
    [[]],
    [1, 2],
    {"a": 1},
    10**30,
    "1.0",
    [None],
    float("nan"),
]


def spoilt_text(text: str, rng: random.Random) -> str:
    lines, at = text.split("\n"), rng.randrange(len(text) + 1)
    row = rng.randrange(len(lines))
    shuffled = rng.sample(lines, len(lines))
    cells = list(re.finditer(r"[-+.\w]+", text))
    words = text
    for cell in sorted(rng.sample(cells, min(len(cells), rng.choice([1, 1, 2, 5]))), key=lambda c: -c.start()):
        words = words[: cell.start()] + rng.choice(WORDS) + words[cell.end() :]
    return rng.choice(
        [
            *("", text[:at], "\n".join(lines[:1]), text.replace("\n", "\r"), "\n".join(lines[:row] + lines[row + 1 :])),
            *("\n".join(lines[:row] + [lines[row]] * 2 + lines[row:]), "\n".join(shuffled), words, words, words, words),
            text.replace(
                rng.choice([",", "[", "]", ":", "\t", " ", "{", "-", "."]), rng.choice([";", "", "  ", "\x00", ","])
            ),
            text[:at] + rng.choice(PARTS) + text[at:],
            re.sub(r"\d+\.?\d*", lambda m: m[0] + rng.choice(["", "", "e30", "000", "%"]), text),
            re.sub(r"(?<![\w-])(\d)", r"-\1", text),
            re.sub(r"\[[^\]\n]*\]", rng.choice(["[furlong]", "", "[K]", "[]", "(m)"]), text),
        ]
    )


def spoilt_tree(data: Any, rng: random.Random) -> Any:
    data = copy.deepcopy(data)
    target = data
    while keys := list(target) if isinstance(target, dict) else list(range(len(target))):
        key = rng.choice(keys)
        if isinstance(target[key], dict | list) and target[key] and rng.random() < 0.75:
            target = target[key]
            continue
        if rng.random() < 0.25:
            del target[key]
        else:
            target[key] = copy.deepcopy(rng.choice(STRANGE))
        break
    return data


def spoilt_array(a: np.ndarray, rng: random.Random) -> np.ndarray:
    f = a.astype(float)
    hole = f.copy()
    hole.flat[: min(1, hole.size)] = rng.choice([np.inf, -np.inf, np.nan])
    return rng.choice(
        [
            *(np.full_like(f, np.nan), f[: len(f) // 2], f[..., None], f.ravel(), f.astype(str), f * 1e300, -f, hole),
            *(np.zeros((0, *f.shape[1:])), f.astype(complex), np.array(3.0), np.array([{"a": 1}], dtype=object)),
            *(f.astype(bool), f[::-1].copy(), np.repeat(f, 2, 0)),
        ]
    )


def spoil_arrays(path: Path, rng: random.Random) -> None:
    if path.suffix == ".npy":
        np.save(path, spoilt_array(np.load(path), rng), allow_pickle=True)
        return
    if path.suffix == ".npz":
        with np.load(path) as archive:
            arrays = dict(archive)
    else:
        import h5py

        with h5py.File(path) as file:
            arrays = {name: file[name][()] for name in file}
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    if rng.random() < 0.9:
        arrays[name + rng.choice(["", "", "", "x"])] = spoilt_array(array, rng)
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value.dtype.kind not in "OU":
                file[key] = value


def spoil_picture(path: Path, rng: random.Random) -> None:
    image = Image.open(path)
    deep = Image.fromarray(np.full((image.height, image.width), 300, np.uint16))
    changed = rng.choice([image.resize((1, 1)), deep, *(image.convert(mode) for mode in ("L", "RGBA", "P", "1", "LA"))])
    changed.save(path, format=rng.choice(["PNG", "PNG", "TIFF"]))


def spoil_count(path: Path, rng: random.Random) -> None:
    """Another number among the first bytes, where the headers of binary files count."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(min(len(data) - 4, 500))
    data[at : at + 4] = struct.pack("<i", rng.choice([2**31 - 1, -(2**31), -1, 0, 10**9, 2**20, 7]))
    path.write_bytes(bytes(data))


def spoil_header(path: Path, rng: random.Random) -> None:
    """Another header of text before the same bytes."""
    head, mark, body = path.read_bytes().partition(b"end_header")
    path.write_bytes(spoilt_text(head.decode(), rng).encode() + mark + body)


def spoil_bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 20)):
        at, chance = rng.randrange(len(data) + 1), rng.random()
        if chance < 0.3:
            del data[at : at + rng.randint(1, 60)]
        else:
            data[at : at + (chance < 0.8)] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 3)))
    path.write_bytes(bytes(data))


def spoil(path: Path, rng: random.Random) -> None:
    """Make one of the files of a kind wrong; the way is drawn."""
    chance, text = rng.random(), path.suffix in (".csv", ".trc", ".json", ".txt", ".yaml", ".obj")
    if chance < 0.02:
        path.unlink()
    elif chance < 0.04:
        path.unlink()
        path.mkdir()
    elif chance < 0.06:
        path.unlink()
        os.symlink(path.name, path)
    elif chance < 0.09 and text:
        path.write_text(path.read_text(), encoding=rng.choice(["utf-16", "utf-16-le", "latin-1"]), errors="replace")
    elif path.suffix in (".npz", ".npy", ".h5") and chance < 0.8:
        spoil_arrays(path, rng)
    elif path.suffix in (".exr", ".glb", ".stl") and chance < 0.5:
        spoil_count(path, rng)
    elif path.suffix == ".ply" and chance < 0.6:
        spoil_header(path, rng)
    elif path.suffix == ".png" and chance < 0.5:
        spoil_picture(path, rng)
    elif path.suffix == ".json" and chance < 0.6:
        path.write_text(json.dumps(spoilt_tree(json.loads(path.read_text()), rng)))
    elif text and chance < 0.9:
        path.write_text(spoilt_text(path.read_text(), rng), newline="")
    else:
        spoil_bytes(path, rng)


def told(act: Callable[[], Any]) -> str:
    """What is wrong with an outcome; "" where it is well or said in one plain line."""
    try:
        act()
    except (ValueError, FileNotFoundError, IsADirectoryError) as error:
        line = str(error)
        if "\n" in line or not line or len(line) > 700 or re.search(RAW, line):
            return f"{type(error).__name__}: {line[:300]}"
    except Exception as error:  # what a command would die of
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_files_are_read_or_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write, read = KINDS[kind]
    monkeypatch.setattr(mesh_file, "SECONDS", 5)  # of a child, which a spoilt .c3d file keeps busy for ever
    faults = {}
    for number in range(CHILD.get(Path(name).suffix, SAMPLES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / name)
        if number:
            spoil(folder / name, random.Random(f"{kind} {number}"))
        if fault := told(lambda folder=folder: read(folder / name)):  # type: ignore[misc]
            faults[number] = fault
    assert not faults


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k][0] not in ("a.txt", "cameras.txt", "images.txt")])
def test_a_pipe_is_no_file(kind: str, tmp_path: Path) -> None:
    """Nobody writes to it: whoever opens it waits for ever."""
    name, _, read = KINDS[kind]
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"regular file|no such file"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", sorted(named_scenes()))
def test_spoilt_scenes_are_loaded_or_named(name: str, tmp_path: Path) -> None:
    data, file = tomllib.loads(named_scenes()[name].read_text(encoding="utf-8")), tmp_path / "scene.toml"
    faults = {}
    for number in range(SAMPLES // 3):
        rng = random.Random(f"{name} {number}")
        tree = spoilt_tree(spoilt_tree(data, rng), rng)
        file.write_text(tomli_w.dumps(json.loads(json.dumps(tree), object_pairs_hook=_told_only)), encoding="utf-8")
        if fault := told(lambda: load_scene(file)):
            faults[number] = fault
    assert not faults


def _told_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """TOML has no null, and whole numbers of 64 bits."""
    kept = {key: [v for v in value if v is not None] if isinstance(value, list) else value for key, value in pairs}
    return {key: value for key, value in kept.items() if value is not None and value != 10**30}
