"""Points that move, as one binary glTF 2.0 file: the first state, and a morph target for each of those after it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.glb import ARRAY_BUFFER, FLOAT, packed

_POINTS = 0  # a primitive's mode, in glTF's numbers


def write_moving_points(file: Path, x: NDArray[Any], times: NDArray[Any]) -> None:
    """Write points and their motion, linear between the states, as viewers play it.

    Args:
        file: `.glb`.
        x: Places (states, n, 3) [m].
        times: Of the states, growing (states,) [s].
    """
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    chunks: list[bytes] = []

    def put(values: NDArray[Any], kind: str, *, vertices: bool = False, limits: bool = False) -> int:
        plain = np.ascontiguousarray(values, dtype="<f4")
        views.append({"buffer": 0, "byteOffset": sum(map(len, chunks)), "byteLength": plain.nbytes})
        if vertices:
            views[-1]["target"] = ARRAY_BUFFER
        accessor = {"bufferView": len(views) - 1, "componentType": FLOAT, "count": len(plain), "type": kind}
        if limits:
            rows = plain.reshape(len(plain), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        accessors.append(accessor)
        chunks.append(plain.tobytes())
        return len(accessors) - 1

    moved = [put(own - x[0], "VEC3", vertices=True, limits=True) for own in x[1:]]
    primitive: dict[str, Any] = {
        "mode": _POINTS,
        "attributes": {"POSITION": put(x[0], "VEC3", vertices=True, limits=True)},
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "simengine"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
    }
    if moved:
        primitive["targets"] = [{"POSITION": index} for index in moved]
        document["meshes"][0]["weights"] = [0.0] * len(moved)
        weights = np.eye(len(x))[:, 1:]  # of the targets (states, targets): each its own at its time
        sampler = {
            "input": put(np.asarray(times), "SCALAR", limits=True),
            "output": put(weights.ravel(), "SCALAR"),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        document["animations"] = [{"samplers": [sampler], "channels": [channel]}]
    document |= {"bufferViews": views, "accessors": accessors}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed(document, b"".join(chunks)))
