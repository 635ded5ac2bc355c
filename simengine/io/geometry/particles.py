"""Particles for other programs: PLY for one frame, VTP for one frame with fields, PVD for a series (ParaView)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from simengine.extras import extra
from simengine.io.arrays import to_numpy


def _split(data: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Positions (n, 3) and the other fields, flattened to (n, k)."""
    if "x" not in data:
        raise ValueError(f"particles: expected positions under 'x', got fields {sorted(data)}")
    positions = to_numpy(data["x"])
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"particles: expected x of shape (n, 3), got {positions.shape}")
    fields = {name: to_numpy(value).reshape(len(positions), -1) for name, value in data.items() if name != "x"}
    return positions, fields


def write_ply(path: Path, data: Mapping[str, Any]) -> None:
    """Write one frame as binary PLY: `x` (n, 3) and further fields (n, ...) as float properties `name_0`..."""
    positions, fields = _split(data)
    columns = {"x": positions[:, 0], "y": positions[:, 1], "z": positions[:, 2]}
    for name, values in fields.items():
        for k in range(values.shape[1]):
            columns[name if values.shape[1] == 1 else f"{name}_{k}"] = values[:, k]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(positions)}"]
    header += [f"property float {name}" for name in columns] + ["end_header", ""]
    table = np.stack(list(columns.values()), axis=1).astype("<f4")
    path.write_bytes("\n".join(header).encode() + table.tobytes())


def write_vtp(path: Path, data: Mapping[str, Any]) -> None:
    """Write one frame as VTK poly data with its fields as point data."""
    pyvista = extra("pyvista", of="view", what=".vtp")
    positions, fields = _split(data)
    cloud = pyvista.PolyData(positions.astype(np.float32))
    for name, values in fields.items():
        cloud.point_data[name] = values
    cloud.save(path)


def write_pvd(path: Path, data: Sequence[tuple[float, str]]) -> None:
    """Write the index of a series: pairs of time [s] and the file name of a frame, relative to the index."""
    frames = "\n".join(f'    <DataSet timestep="{time!r}" file={quoteattr(file)}/>' for time, file in data)
    path.write_text(
        '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1" byte_order="LittleEndian">\n'
        f"  <Collection>\n{frames}\n  </Collection>\n</VTKFile>\n",
        encoding="utf-8",
    )
