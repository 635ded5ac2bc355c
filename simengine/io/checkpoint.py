"""Checkpoints: tensors in safetensors beside a JSON manifest with their SHA-256. No pickle anywhere.

A new checkpoint is complete on disk before the manifest is renamed to point at it, so that a process killed at any
moment leaves the one before or the new one, never half of one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_MANIFEST = "checkpoint.json"


def exists(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint."""
    return (folder / _MANIFEST).is_file()


def save(folder: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any], *, tag: int) -> None:
    """Replace the checkpoint in `folder`.

    Args:
        folder: Where it lies; made if missing.
        tensors: Flat dict of tensors.
        meta: JSON data kept in the manifest.
        tag: Distinguishes this checkpoint's file from the one before, as the iteration does.
    """
    from safetensors.torch import save as serialise

    folder.mkdir(parents=True, exist_ok=True)
    data = serialise({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    name = f"checkpoint-{tag:06d}.safetensors"
    _write_through(folder / name, data)
    manifest = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "meta": dict(meta)}
    _write_through(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the meta data of the checkpoint in `folder`.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    from safetensors.torch import load as deserialise

    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        data = (folder / Path(manifest["file"]).name).read_bytes()
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{folder}: no readable checkpoint ({error}); start anew with --overwrite") from error
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise ValueError(f"{folder / manifest['file']}: damaged (its SHA-256 differs); start anew with --overwrite")
    return deserialise(data), manifest["meta"]


def _write_through(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
