"""A model as a folder that stands alone: `model.toml`, `weights.safetensors`, `tested.json` and its scene."""

import dataclasses
import hashlib
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simengine.io.arrays import finite, plain, read_json, write_json
from simengine.shown import cut
from simengine.text import read_text

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

FOLDER = "model"
MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that was trained.

    Attributes:
        folder: Where it lies.
        type: As `[model] type` of the scene that made it.
        reads: What it takes, in words.
        gives: What it makes of that, in words.
        options: What builds the empty model.
        trained_on: The range it was trained on, by name.
        tested: What it reached on what no training saw.
        sha256: Of the weights.
    """

    folder: Path
    type: str
    reads: str
    gives: str
    options: Mapping[str, Any]
    trained_on: Mapping[str, Any]
    tested: Mapping[str, Any]
    sha256: str

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / "weights.safetensors"

    @property
    def scene(self) -> Path:
        """The scene that it was trained by, with all defaults."""
        return self.folder / "scene.toml"

    def tensors(self) -> "dict[str, torch.Tensor]":
        """The weights."""
        from safetensors.torch import load

        return load(self.weights.read_bytes())


def write_model(
    out: "RunDirectory",
    type: str,
    weights: "Mapping[str, torch.Tensor] | Callable[[Path], Any]",
    *,
    reads: str,
    gives: str,
    options: Mapping[str, Any] | None = None,
    trained_on: Mapping[str, Any] | None = None,
    tested: Mapping[str, Any] | None = None,
) -> Path:
    """Write the folder `model` of a run.

    Args:
        out: The run; its scene goes along, with the files that it names.
        type: As `[model] type`.
        weights: Tensors by name, or what writes them as safetensors to a path.
        reads: What it takes, in words.
        gives: What it makes of that.
        options: What builds the empty model.
        trained_on: The range it was trained on.
        tested: What it reached on what no training saw.
    """
    import tomli_w
    from safetensors.torch import save

    from simengine import __version__

    folder = out.path / FOLDER
    folder.mkdir(exist_ok=True)
    for name in ("model.toml", "weights.safetensors", "tested.json", "scene.toml"):
        out.claim(f"{FOLDER}/{name}")
    file = folder / "weights.safetensors"
    if callable(weights):
        weights(file)
    else:
        file.write_bytes(save({name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}))
    for path in (out.path / "scene.toml", *sorted((out.path / "inputs").rglob("*"))):
        if path.is_file():
            copy = out.claim(f"{FOLDER}/{path.relative_to(out.path).as_posix()}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    write_json(folder / "tested.json", finite(plain(dict(tested or {}))))
    told = {
        **{"type": type, "reads": reads, "gives": gives, "version": __version__},
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "options": plain(dict(options or {})),
        "trained_on": plain(dict(trained_on or {})),
    }
    (folder / "model.toml").write_text(tomli_w.dumps(told), encoding="utf-8")
    return folder


def find_model(path: Path) -> Path | None:
    """The model folder that a path is, or that a run directory holds; None where there is none."""
    for folder in (path, path / FOLDER):
        if (folder / "model.toml").is_file():
            return folder
    return None


def read_model(path: Path) -> Model:
    """The model in a folder, or in a run directory.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    folder = find_model(path)
    if folder is None:
        raise ValueError(f"{path}: holds no model (model.toml); `simengine train` writes one")
    try:
        told = tomllib.loads(read_text(folder / "model.toml"))
        made = Model(
            folder=folder,
            tested=read_json(folder / "tested.json"),
            **{name: told[name] for name in ("type", "reads", "gives", "options", "trained_on", "sha256")},
        )
        if made.weights.stat().st_size > MAX_BYTES:
            raise ValueError(f"{made.weights.name} has more than {MAX_BYTES} bytes")
        if hashlib.sha256(made.weights.read_bytes()).hexdigest() != made.sha256:
            raise ValueError(f"{made.weights.name} is not what model.toml names: the SHA-256 differs")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: no readable model ({cut(str(error))}); train it again") from error
    return made
