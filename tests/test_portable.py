"""What would break on Windows: text without its encoding, modules and calls that POSIX alone has, names of files."""

import gc
import os
import re
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.dtn.views import _room
from simengine.io.geometry.mesh_file import read_mesh
from simengine.scene.grammar import _files

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("simengine", "kernels", "examples", "benchmarks", "docs")
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
POSIX_CALLS = {
    *("getuid", "geteuid", "fork", "setsid", "killpg", "getpgid", "sysconf", "getloadavg", "posix_fallocate", "uname"),
    *("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "alarm", "setitimer", "sched_getaffinity", "mkfifo", "statvfs"),
}
FORBIDDEN = set('<>:"|?*\\')  # in names of files, by Windows
SCENE = """kind = "mpm"
camera = {width = 16, height = 16}
[grid]
num_grids = 16
num_steps = 4
[output]
save_every = 2
[[bodies]]
shape = {type = "box", center = [0.5, 0.5, 0.5], size = [0.2, 0.2, 0.2], counts = [4, 4, 4]}
material = {type = "jelly", E = 1e4, nu = 0.3, density = 1e3}
"""


def arguments(text: str, start: int) -> str:
    """What stands between the parenthesis at `start` and its partner, on one line."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if not depth:
            return " ".join(text[start + 1 : place].split())
    raise AssertionError("a parenthesis without its partner")


def without_encoding(text: str) -> Iterator[str]:
    """`p.read_text()`, `p.write_text(x)`, `p.open("w")`, `open(p)`: Windows would take its own code page."""
    for match in re.finditer(r"\.read_text\(|\.write_text\(|(?<![\w.])open\(|\.open\((?=\)|\"[rwxa]t?\")", text):
        told = arguments(text, match.end() - 1)
        binary = "open(" in match[0] and re.search(r"[\"'][rwxa]?b", told)
        if not binary and "encoding" not in told and '"utf-8"' not in told:
            yield f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]}{told})"


def test_text_files_are_utf_8_on_every_system() -> None:
    spoilt = 'p.write_text(x)\nopen(p)\nopen(p, "rb")\np.open()\np.open("w")\np.read_text(encoding="utf-8")\n'
    assert [line[0] for line in without_encoding(spoilt)] == ["1", "2", "4", "5"]
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    assert len(texts) > 500
    bad = [f"{file.relative_to(ROOT)}:{line}" for file, text in texts.items() for line in without_encoding(text)]
    assert not bad, f"give encoding='utf-8': {bad}"


def test_what_posix_alone_has_is_used_behind_a_question() -> None:
    """Modules are imported within a `try`; of os and signal is used what `hasattr` or `getattr` asked for."""
    bad, found = [], 0
    names = "|".join(sorted(POSIX_CALLS))
    for file in (file for folder in FOLDERS[:2] for file in sorted((ROOT / folder).rglob("*.py"))):
        text = file.read_text(encoding="utf-8")
        for match in re.finditer(rf"^( *)import ({'|'.join(POSIX_MODULES)})\b", text, re.MULTILINE):
            found += 1
            before = text[: match.start()].rstrip().rpartition("\n")[2].strip()
            bad += [] if before == "try:" else [f"{file}: {match[0]}"]
        for of, name in re.findall(rf"\b(os|signal)\.({names})\b", text):
            found += 1
            asked = re.search(rf"(?:has|get)attr\({of}, \"{name}\"", text)
            bad += [] if asked else [f"{file}: {of}.{name}"]
    assert found >= 4 and not bad, bad


def test_a_run_without_what_windows_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.toml").write_text(SCENE, encoding="utf-8")
    locked = []
    fake = types.SimpleNamespace(LK_NBLCK=2, locking=lambda descriptor, mode, size: locked.append((mode, size)))
    run = ["run", str(tmp_path / "s.toml"), "--device", "cpu", "--out", str(tmp_path / "r")]
    assert main(run) == 0 and not locked  # what is imported on use is there now: it would take msvcrt for Windows
    for name in POSIX_MODULES - {"posix"}:
        monkeypatch.setitem(sys.modules, name, None)
    for module, name in ((m, n) for m in (os, signal) for n in POSIX_CALLS - {"sysconf", "uname"}):
        monkeypatch.delattr(module, name, raising=False)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    gc.collect()  # the run directory of before gives its lock back
    assert main([*run, "--overwrite"]) == 0 and locked == [(2, 1)]
    names = [file.name for file in (tmp_path / "r").rglob("*")]
    assert len(names) > 4 and not [name for name in names if FORBIDDEN & set(name) or name.endswith((".", " "))]


def test_a_mesh_is_read_without_the_module_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resource.py").write_text("raise ImportError('as on Windows')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # comes before the library of Python itself
    mesh = tmp_path / "a.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n", encoding="utf-8")
    vertices, faces = read_mesh(mesh)
    assert vertices.shape == (4, 3) and faces.shape == (4, 3) and np.isfinite(vertices).all()


def test_pictures_in_a_file_stay_in_memory_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simengine.dtn.views.os", types.SimpleNamespace(name="nt"))  # without truncate
    assert _room((2, 3), in_file=True).eq(0).all()


def test_files_of_a_star_are_named_with_slashes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "data" / name).write_text("x\n", encoding="utf-8")
    assert [file for _, file in _files("own", "data/*.csv", tmp_path, "s.toml")] == ["data/a.csv", "data/b.csv"]
