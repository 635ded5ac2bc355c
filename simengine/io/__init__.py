"""Files in and out: one module per format, a registry by suffix, run directories and checkpoints.

Everything here takes arrays, tensors and dicts, never models.
"""

from simengine.io.geometry.splats import read_splats, write_splats
from simengine.io.registry import read, register_format, write

__all__ = ["read", "read_splats", "register_format", "write", "write_splats"]
