"""Files in and out: one module per format, a registry by suffix, run directories and checkpoints.

Everything here takes arrays, tensors and dicts, never models.
"""

from simengine.io.registry import read, register_format, write

__all__ = ["read", "register_format", "write"]
