"""The container of binary glTF 2.0."""

import json
import struct
from collections.abc import Mapping
from typing import Any

FLOAT, ARRAY_BUFFER = 5126, 34962  # a component's type, and what a buffer is for, in glTF's numbers


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
