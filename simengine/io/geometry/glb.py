"""Binary glTF 2.0: its container, and bodies that move."""

import dataclasses
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, ARRAY_BUFFER = 5126, 34962  # a component's type, and what a buffer is for, in glTF's numbers
_INDEX, _INDEX_BUFFER = 5125, 34963
_POINTS, _TRIANGLES = 0, 4  # a primitive's mode


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingBody:
    """A body and its motion; linear between the states.

    Attributes:
        x: Vertices in each state (states, v, 3), or of a body that keeps its shape (1, v, 3), in its frame [m].
        faces: Triangles (f, 3), counter-clockwise from outside; None for points.
        colour: Linear RGB; None for what the reader takes.
        name: Of its node.
        shift: Of its frame in each state (states, 3) [m]; None where it stays.
        turn: Of its frame in each state, quaternions xyzw (states, 4); None where it stays.
    """

    x: NDArray[Any]
    faces: NDArray[Any] | None = None
    colour: Sequence[float] | None = None
    name: str = ""
    shift: NDArray[Any] | None = None
    turn: NDArray[Any] | None = None


def write_moving(file: Path, bodies: Sequence[MovingBody], times: NDArray[Any]) -> None:
    """Write bodies and their motion: a node each, with a morph target for each state after the first, or as it stands.

    Triangles have no normals: a reader shades each as the flat one that it is, wherever it has moved.

    Args:
        file: `.glb`.
        bodies: At least one.
        times: Of the states, growing (states,) [s].

    Source: Khronos, glTF 2.0 specification, sections 3.7 and 3.11.
    """
    made = _Moving(times)
    for body in bodies:
        made.add(body)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed(made.document(), b"".join(made.chunks)))


class _Moving:
    """The tables of a document while bodies come in."""

    def __init__(self, times: NDArray[Any]) -> None:
        self.chunks: list[bytes] = []
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        self.meshes: list[dict[str, Any]] = []
        self.materials: list[dict[str, Any]] = []
        self.samplers: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.states = len(times)
        self.times = self.put(np.asarray(times), "SCALAR", limits=True) if self.states > 1 else None

    def put(self, values: NDArray[Any], kind: str, *, target: int | None = None, limits: bool = False) -> int:
        """The number of the accessor of a table: floats, or indices of vertices."""
        index = target == _INDEX_BUFFER
        plain = np.ascontiguousarray(values, dtype="<u4" if index else "<f4")
        self.views.append({"buffer": 0, "byteOffset": sum(map(len, self.chunks)), "byteLength": plain.nbytes})
        if target is not None:
            self.views[-1]["target"] = target
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1}
        accessor |= {"componentType": _INDEX if index else FLOAT}
        accessor |= {"count": len(plain), "type": kind}
        if limits:
            rows = plain.reshape(len(plain), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append(accessor)
        self.chunks.append(plain.tobytes())
        return len(self.accessors) - 1

    def vertices(self, places: NDArray[Any]) -> dict[str, int]:
        """Attributes of vertices at places (v, 3), or of what a morph target adds to them."""
        return {"POSITION": self.put(places, "VEC3", target=ARRAY_BUFFER, limits=True)}

    def add(self, body: MovingBody) -> None:
        """A node with its mesh, its colour and its motion."""
        x = body.x
        primitive: dict[str, Any] = {"mode": _POINTS, "attributes": self.vertices(x[0])}
        mesh: dict[str, Any] = {"primitives": [primitive]}
        node: dict[str, Any] = {"mesh": len(self.meshes)}
        if body.name:
            node["name"] = mesh["name"] = body.name
        if body.faces is not None:
            indices = self.put(np.asarray(body.faces).ravel(), "SCALAR", target=_INDEX_BUFFER)
            primitive |= {"mode": _TRIANGLES, "indices": indices}
        if body.colour is not None:
            primitive["material"] = len(self.materials)
            rough = {"baseColorFactor": [*map(float, body.colour), 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}
            self.materials.append({"pbrMetallicRoughness": rough})
        if len(x) > 1:
            primitive["targets"] = [self.vertices(own - x[0]) for own in x[1:]]
            mesh["weights"] = [0.0] * (len(x) - 1)
            self.move("weights", np.eye(len(x))[:, 1:].ravel(), "SCALAR")  # of the targets: each its own at its time
        for path, table, kind in (("translation", body.shift, "VEC3"), ("rotation", body.turn, "VEC4")):
            if table is not None:
                node[path] = np.asarray(table[0], dtype=np.float32).tolist()
                self.move(path, table, kind)
        self.meshes.append(mesh)
        self.nodes.append(node)

    def move(self, path: str, table: NDArray[Any], kind: str) -> None:
        """A channel of the node that is being added."""
        if self.times is None:
            return
        self.channels.append({"sampler": len(self.samplers), "target": {"node": len(self.nodes), "path": path}})
        output = self.put(table, kind)
        self.samplers.append({"input": self.times, "output": output, "interpolation": "LINEAR"})

    def document(self) -> dict[str, Any]:
        """All tables, those that are empty left out."""
        tables = {
            "meshes": self.meshes,
            "materials": self.materials,
            "bufferViews": self.views,
            "accessors": self.accessors,
            "animations": [{"samplers": self.samplers, "channels": self.channels}] if self.channels else [],
        }
        return {
            "asset": {"version": "2.0", "generator": "simengine"},
            "scene": 0,
            "scenes": [{"nodes": list(range(len(self.nodes)))}],
            "nodes": self.nodes,
            **{name: table for name, table in tables.items() if table},
        }
