"""Gaussian splats as .ply, as the programs of 3-D and 2-D Gaussian splatting write them (Kerbl 2023, Huang 2024).

A vertex for each: x y z, nx ny nz (unused, often zero), f_dc_0..2 and f_rest_*, spherical harmonics of the colour,
those of degree 1 and more channel by channel; opacity before its logistic function; scale_* as logarithms; rot_0..3,
a quaternion w x y z of any length.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TYPES = {
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("int", "int32"), "i4"),
}
DEGREES = {0: 0, 9: 1, 24: 2, 45: 3}  # number of f_rest_* -> degree
LONGEST = 65536  # bytes of a header
Arrays = dict[str, NDArray[np.float32]]


def is_splats(path: Path) -> bool:
    """Whether a .ply announces colours of splats; other .ply files are meshes."""
    with path.open("rb") as file:
        head = file.read(LONGEST).partition(b"end_header\n")[0]
    return head.startswith(b"ply\n") and b" f_dc_0\n" in head


def read_splats(path: Path) -> Arrays:
    """Read splats, bit by bit as they stand in the file.

    Args:
        path: A .ply file, binary and little-endian.

    Returns:
        `positions` (n, 3), `harmonics` (n, (degree + 1)^2, 3), `opacities` (n,) before the logistic function, `scales`
        (n, 2 or 3) as logarithms, `rotations` (n, 4), and `normals` (n, 3) where the file has them; float32.

    Raises:
        ValueError: The file is no such .ply; in one line.
    """
    try:
        if path.exists() and not path.is_file():  # a folder, or a pipe that nobody writes to
            raise ValueError(f"{path.name}: not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read ({error.strerror})") from None
    head, mark, _ = data[:LONGEST].partition(b"end_header\n")
    if not data.startswith(b"ply\n") or not mark:
        raise ValueError(f"{path.name}: no .ply with a header that ends in `end_header`")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()[1:]]
    lines = [line for line in lines if line and line[0] not in ("comment", "obj_info")]
    told = lines[0][1:2] if lines and lines[0][0] == "format" else []
    if told != ["binary_little_endian"]:
        raise ValueError(f"{path.name}: splats are read as binary_little_endian, got {told or 'no format'}")
    elements = [line for line in lines if line[0] == "element"]
    if not elements or elements[0][1] != "vertex":
        raise ValueError(f"{path.name}: the first element has to be `vertex`")
    after = lines[lines.index(elements[0]) + 1 :]
    count = next((k for k, line in enumerate(after) if line[0] == "element"), len(after))
    own = after[:count]
    strange = [" ".join(line) for line in own if len(line) != 3 or line[1] not in TYPES]
    if strange:
        raise ValueError(f"{path.name}: `{strange[0]}` is no number of a splat")
    layout = np.dtype([(line[2], "<" + TYPES[line[1]]) for line in own])
    if len(elements[0]) != 3 or not elements[0][2].isdecimal():
        raise ValueError(f"{path.name}: `{' '.join(elements[0])[:80]}` is no number of splats")
    n = int(elements[0][2])
    if len(data) - len(head) - len(mark) < n * layout.itemsize:
        raise ValueError(f"{path.name}: {n} splats of {layout.itemsize} bytes are announced and not there")
    table = np.frombuffer(data, layout, n, len(head) + len(mark))
    return _arrays(table, path.name)


def _arrays(table: NDArray[np.void], name: str) -> Arrays:
    names = table.dtype.names or ()
    rest = _numbered(names, "f_rest_")
    scales = _numbered(names, "scale_")
    wanted = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "rot_0", "rot_1", "rot_2", "rot_3"]
    missing = [key for key in wanted if key not in names]
    if missing:
        raise ValueError(f"{name}: a splat has {missing[0]}, and this file's vertices have {', '.join(names)[:80]}")
    if len(scales) not in (2, 3):
        raise ValueError(f"{name}: expected 2 or 3 columns scale_*, got {len(scales)}")
    if len(rest) not in DEGREES:
        raise ValueError(f"{name}: expected 0, 9, 24 or 45 columns f_rest_*, got {len(rest)}")

    def stacked(keys: list[str]) -> NDArray[np.float32]:
        return np.stack([table[key].astype(np.float32, copy=False) for key in keys], axis=1)

    constant = stacked(["f_dc_0", "f_dc_1", "f_dc_2"])[:, None]
    harmonics = constant
    if rest:
        by_channel = stacked(rest).reshape(len(table), 3, len(rest) // 3)
        harmonics = np.concatenate((constant, by_channel.transpose(0, 2, 1)), axis=1)
    found = {
        "positions": stacked(["x", "y", "z"]),
        "harmonics": np.ascontiguousarray(harmonics),
        "opacities": table["opacity"].astype(np.float32),
        "scales": stacked(scales),
        "rotations": stacked(["rot_0", "rot_1", "rot_2", "rot_3"]),
    }
    if {"nx", "ny", "nz"} <= set(names):
        found["normals"] = stacked(["nx", "ny", "nz"])
    return found


def _numbered(names: tuple[str, ...], stem: str) -> list[str]:
    own = [key for key in names if re.fullmatch(rf"{stem}\d+", key)]
    return sorted(own, key=lambda key: int(key.removeprefix(stem)))


def write_splats(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write splats in the order of columns of the original program; what `read_splats` gives is written bit by bit.

    Args:
        path: The .ply file.
        arrays: What `read_splats` returns, with its shapes.

    Raises:
        ValueError: An array has another shape than `read_splats` says.
    """
    n = len(arrays["positions"])
    harmonics = arrays["harmonics"]
    if harmonics.ndim != 3 or 3 * (harmonics.shape[1] - 1) not in DEGREES or harmonics.shape[2] != 3:
        raise ValueError(f"harmonics: expected ({n}, 1, 4, 9 or 16, 3), got {harmonics.shape}")
    rest = harmonics[:, 1:].transpose(0, 2, 1).reshape(n, -1)
    normals = [(["nx", "ny", "nz"], arrays["normals"])] if "normals" in arrays else []
    blocks: list[tuple[list[str], NDArray[np.float32]]] = [
        (["x", "y", "z"], arrays["positions"]),
        *normals,
        ([f"f_dc_{k}" for k in range(3)], harmonics[:, 0]),
        ([f"f_rest_{k}" for k in range(rest.shape[1])], rest),
        (["opacity"], arrays["opacities"][:, None]),
        ([f"scale_{k}" for k in range(arrays["scales"].shape[1])], arrays["scales"]),
        ([f"rot_{k}" for k in range(4)], arrays["rotations"]),
    ]
    for names, values in blocks:
        if values.shape != (n, len(names)):
            raise ValueError(f"{names[0]}: expected ({n}, {len(names)}), got {values.shape}")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    header += [f"property float {name}" for names, _ in blocks for name in names] + ["end_header", ""]
    table = np.concatenate([values.astype("<f4", copy=False) for _, values in blocks], axis=1)
    path.write_bytes("\n".join(header).encode() + np.ascontiguousarray(table).tobytes())
