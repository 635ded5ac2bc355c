"""Binary glTF 2.0: its container, and points that move."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, ARRAY_BUFFER = 5126, 34962  # a component's type, and what a buffer is for, in glTF's numbers
_POINTS = 0  # a primitive's mode, in glTF's numbers


def packed(document: Mapping[str, Any], binary: bytes) -> bytes:
    """A `.glb` of a document and the one buffer that its views lie in.

    Args:
        document: glTF's, without its `buffers`.
        binary: The buffer.

    Source: Khronos, glTF 2.0 specification, section 4.4.
    """
    text = json.dumps({**document, "buffers": [{"byteLength": len(binary)}]}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def write_moving_points(file: Path, x: NDArray[Any], times: NDArray[Any]) -> None:
    """Write points and their motion: the first state, and a morph target for each after it, linear between them.

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
