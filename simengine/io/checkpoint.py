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

from simengine.io.arrays import read_json
from simengine.shown import cut

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
    manifest = {"file": name, "sha256": _digest(data, meta), "meta": dict(meta)}
    _write_through(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the meta data of the checkpoint in `folder`.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialise

    try:
        manifest = read_json(folder / _MANIFEST)
        name, digest, meta = manifest.get("file"), manifest.get("sha256"), manifest.get("meta")
        if not (isinstance(name, str) and isinstance(digest, str) and isinstance(meta, dict)):
            raise ValueError("the manifest lacks file, sha256 or meta")
        data = (folder / Path(name).name).read_bytes()
        if _digest(data, meta) != digest:
            raise ValueError(f"{Path(name).name} or the manifest is damaged: the SHA-256 differs")
        return deserialise(data), meta
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: no readable checkpoint ({cut(str(error))}); start anew with --overwrite"
        ) from error


def _digest(data: bytes, meta: Mapping[str, Any]) -> str:
    """Of the tensors and of what is told beside them: a changed iteration is damage too."""
    return hashlib.sha256(data + json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _write_through(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
