"""A run directory: the resolved scene, versions, a log as JSON lines, and whatever the run writes beside them."""

import copy
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from simengine.io.arrays import plain, read_json, write_json
from simengine.io.lock import Lock, lock
from simengine.io.registry import MissingWriterError, write

MARKER = ".simengine-run"  # makes a folder a run directory; names what was written there, a line each; is locked
_PACKAGES = ("torch", "warp-lang", "taichi", "numpy", "scipy")
_PICTURES = (".png", ".gif", ".mp4")
# What runs write without `RunDirectory.write`
_KNOWN = (
    *("scene.toml", "scene.py", "versions.json", "log.jsonl", "report.html", "weights.safetensors"),
    *(f"{name}/checkpoint*" for name in ("checkpoint", "models", "detector", "network", "found", "found/*")),
)


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
        self.path: Path = Path(path)
        self._lock: Lock | None = None
        self._prefix = ""  # of the names of files: a folder within the run

    @classmethod
    def create(
        cls,
        path: str | Path,
        scene: Mapping[str, Any],
        *,
        overwrite: bool,
        resume: bool,
        inputs: Mapping[str, Path | bytes] | None = None,
        protected: Iterable[Path] = (),
    ) -> "RunDirectory":
        """Make or re-enter the folder of a run; other processes are kept out of it as long as the object lives.

        Args:
            path: The folder.
            scene: The resolved scene as plain data, written as `scene.toml`.
            overwrite: Remove what an earlier run wrote there, and nothing else.
            resume: Re-enter a folder that holds a run of exactly this scene.
            inputs: Files to copy there, or their content, by their name within the folder.
            protected: Folders that are never overwritten, as that of the scene; the working folder and its parents
                are not either.

        Raises:
            ValueError: The folder holds something else, or another process uses it; the message says what to do.
        """
        import tomli_w

        run = cls(path)
        text = tomli_w.dumps(plain(scene))
        marker, recorded = run.path / MARKER, run.path / "scene.toml"
        if run.path.exists() and not run.path.is_dir():
            raise ValueError(f"{run.path}: is a file; choose another --out")
        if run.path.is_dir() and any(run.path.iterdir()) and not marker.is_file():
            raise ValueError(f"{run.path}: not empty and not a run directory (no {MARKER}); choose another --out")
        run.path.mkdir(parents=True, exist_ok=True)
        run._lock = lock(marker)
        if recorded.is_file():
            if overwrite:
                run._refuse_protected(protected)
                run._clear()
            elif not (resume and recorded.read_text(encoding="utf-8") == text):
                what = "a different scene" if resume else "a finished run"
                raise ValueError(f"{run.path}: holds {what}; choose another --out, or --overwrite it")
        versions = _versions()
        if recorded.is_file():
            run._tell_versions(versions)
            return run
        for name, file in (inputs or {}).items():
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, bytes):
                (run.path / name).write_bytes(file)
            else:
                shutil.copyfile(file, run.path / name)
            run.claim(name)
        write_json(run.path / "versions.json", versions)
        recorded.write_text(text, encoding="utf-8")  # last: it makes the folder a run's
        return run

    def within(self, folder: str) -> "RunDirectory":
        """The same run, its files in a folder of it; the run itself for an empty name."""
        if not folder:
            return self
        inner = copy.copy(self)
        inner._prefix = f"{self._prefix}{folder}/"
        (self.path / inner._prefix).mkdir(parents=True, exist_ok=True)
        return inner

    def claim(self, name: str) -> Path:
        """The path of a file of the run; `--overwrite` will remove it."""
        marker, name = self.path / MARKER, self._prefix + name
        if marker.is_file() and name not in marker.read_text(encoding="utf-8").splitlines():
            with marker.open("a", encoding="utf-8") as file:
                file.write(name + "\n")
        return self.path / name

    def write(self, name: str, data: Any, **options: Any) -> Path:
        """Write a file of the run; the format follows from the suffix of `name`.

        A picture or a film for which a codec or a library is missing is left out with a remark on standard error: it
        costs the picture, never the results.
        """
        path = self.claim(name)
        try:
            return write(path, data, **options)
        except (ImportError, MissingWriterError) as error:
            if path.suffix not in _PICTURES:
                raise
            path.unlink(missing_ok=True)  # that of an earlier attempt would be taken for this one's
            print(f"warning: {path}: not written: {error}", file=sys.stderr)
            self.log("not written", file=name, reason=str(error))
            return path

    def log(self, event: str, **fields: Any) -> None:
        """Append a line to `log.jsonl`."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **plain(fields)})
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self, event: str) -> list[dict[str, Any]]:
        """The logged entries of one kind, oldest first; a line that a crash cut short or spoilt is passed over."""
        file = self.path / "log.jsonl"
        entries = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
            try:
                entry = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(entry, dict) and entry.get("event") == event:
                entries.append(entry)
        return entries

    def _refuse_protected(self, protected: Iterable[Path]) -> None:
        here, folder = Path.cwd().resolve(), self.path.resolve()
        if folder in (here, *here.parents, *(path.resolve() for path in protected)):
            raise ValueError(
                f"{self.path}: --overwrite never touches the working folder, its parents or the folder of the scene; "
                f"choose another --out"
            )

    def _clear(self) -> None:
        """Remove the files that runs wrote, and folders that are empty then; whatever else lies there stays."""
        root = self.path.resolve()
        names = [*_KNOWN, *(self.path / MARKER).read_text(encoding="utf-8", errors="replace").splitlines()]
        folders = set()
        for name in names:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute() or name == MARKER:
                continue
            wanted = self.path.glob(name) if name in _KNOWN else [self.path / name]
            for file in wanted:
                if file.parent.resolve().is_relative_to(root) and (file.is_symlink() or file.is_file()):
                    file.unlink()
                    folders |= {
                        folder for folder in file.parents if folder != self.path and self.path in folder.parents
                    }
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        with (self.path / MARKER).open("w", encoding="utf-8"):
            pass  # emptied in place: the lock is on this very file

    def _tell_versions(self, now: Mapping[str, str | None]) -> None:
        """Remark on standard error that the run began with other versions, with which it may end otherwise."""
        try:
            then = read_json(self.path / "versions.json")
        except ValueError:
            then = {}
        changed = [f"{name} {then.get(name)} -> {now[name]}" for name in now if then.get(name) != now[name]]
        if changed:
            print(f"warning: {self.path}: begun with other versions: {', '.join(changed)}", file=sys.stderr)
            self.log("versions", changed=changed)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("simengine", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # taichi, where there is none for this Python
            found[name] = None
    return found
