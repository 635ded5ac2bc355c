"""A run directory: the resolved scene, versions, a log as JSON lines, and whatever the run writes beside them."""

import json
import platform
import shutil
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from simengine.io.arrays import plain, write_json
from simengine.io.registry import write

_PACKAGES = ("torch", "warp-lang", "taichi", "numpy", "scipy")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # one that this Python does without
        return None


class RunDirectory:
    """A folder that holds all of one run, enough to repeat it.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, scene: Mapping[str, Any], *, overwrite: bool, resume: bool) -> "RunDirectory":
        """Make or re-enter the folder of a run.

        Args:
            path: The folder.
            scene: The resolved scene as plain data, written as `scene.toml`.
            overwrite: Remove what an earlier run left there.
            resume: Re-enter a folder that holds a run of exactly this scene.

        Raises:
            ValueError: The folder holds something else; the message says what to do.
        """
        import tomli_w

        run = cls(path)
        text = tomli_w.dumps(plain(scene))
        recorded = run.path / "scene.toml"
        if run.path.exists() and not run.path.is_dir():
            raise ValueError(f"{run.path}: is a file; choose another --out")
        if run.path.is_dir() and any(run.path.iterdir()):
            if not recorded.is_file():
                raise ValueError(f"{run.path}: not empty and not a run directory; choose another --out")
            if overwrite:
                shutil.rmtree(run.path)
            elif not (resume and recorded.read_text(encoding="utf-8") == text):
                what = "a different scene" if resume else "a finished run"
                raise ValueError(f"{run.path}: holds {what}; choose another --out, or --overwrite it")
        if not recorded.is_file():
            run.path.mkdir(parents=True, exist_ok=True)
            recorded.write_text(text, encoding="utf-8")
            versions = {name: _version(name) for name in ("simengine", *_PACKAGES)}
            write_json(run.path / "versions.json", {"python": platform.python_version(), **versions})
        return run

    def write(self, name: str, data: Any, **options: Any) -> Path:
        """Write a file of the run; the format follows from the suffix of `name`."""
        return write(self.path / name, data, **options)

    def log(self, event: str, **fields: Any) -> None:
        """Append a line to `log.jsonl`."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **plain(fields)})
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self, event: str) -> list[dict[str, Any]]:
        """The logged entries of one kind, oldest first; a last line cut short by a crash is passed over."""
        file = self.path / "log.jsonl"
        entries = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["event"] == event:
                entries.append(entry)
        return entries
