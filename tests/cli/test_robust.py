"""Streams that close, disks that fill, scripts with mistakes, files of other editors, values of megabytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simengine.cli import main
from simengine.io.tables import read_table
from simengine.ops import kernel_cache
from simengine.scene import load_world
from simengine.scene.base import SceneError
from simengine.shown import MESSAGE, cut, shown

TOML = 'kind = "mpm"\n[[bodies]]\nshape = {type = "box", center = [0.5, 0.5, 0.5], size = [0.2, 0.2, 0.2]}\n'
TOML += 'material = {type = "jelly", E = 1e5, nu = 0.3, density = 1e3}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_no_wrong_input() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "simengine", "--version"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    text = done.stderr.decode()
    assert text.count("\n") == 1 and "No space left on device; free some space" in text


def test_nobody_reads_on() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "simengine", "--version"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141 and not done.stderr


def test_closed_standard_error_keeps_results_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    command = f'exec "{sys.executable}" -m simengine new "{file}" 2>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout  # the message goes nowhere, and not among the results


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nscene = 1 / 0\n", "s.py:2: ZeroDivisionError: division by zero"),
        ("def scene():\n    return f()\n\ndef f():\n    raise KeyError('x')\n", "s.py:5: KeyError: 'x'"),
        ("a = 1\nb = (\n", "s.py:2: SyntaxError"),
        ("import nowhere_to_be_found\n", "s.py:1: ModuleNotFoundError"),
        ("import sys\n\nsys.exit(3)\n", "s.py:3: SystemExit: 3"),
        ("raise ValueError('x' * 100000)\n", "s.py:1: ValueError: xxx"),
    ],
)
def test_a_mistake_in_a_script_has_a_place(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.py").write_text(text)
    assert main(["check", str(tmp_path / "s.py")]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1 and len(line) < 600


def test_files_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + TOML.replace("\n", "\r\n").encode())
    assert load_world(tmp_path / "s.toml").kind == "mpm"
    (tmp_path / "w.toml").write_bytes(TOML.encode("utf-16"))
    with pytest.raises(SceneError, match=r"w\.toml: UTF-16; save it as UTF-8"):
        load_world(tmp_path / "w.toml")
    (tmp_path / "l.toml").write_bytes(b"# \n# caf\xe9\n" + TOML.encode())
    with pytest.raises(SceneError, match=r"l\.toml:2: not UTF-8 \(byte 0xe9\)"):
        load_world(tmp_path / "l.toml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(ValueError, match="not a regular file"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "key",
    [
        f"gravity = {[1.0] * 300000}",
        f'gravity = "{"x" * 3000000}"',
        f"grid = {[[[1] * 50] * 50] * 50}",
        f'kind = "{"x" * 3000000}"',
        f"{'k' * 100000} = 1",
        f'walls = {{kind = "{"x" * 3000000}"}}',
        f"seed = {'9' * 5000}",
        f"seed = 0x{'f' * 5000}\ngravity = 0x{'f' * 5000}",
    ],
)
def test_no_message_of_megabytes(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.toml").write_text(f"{key}\n{TOML if not key.startswith('kind') else ''}")
    with pytest.raises(SceneError) as error:
        load_world(tmp_path / "s.toml")
    assert str(tmp_path / "s.toml") in str(error.value) and len(str(error.value)) < 500 + len(str(tmp_path))
    assert main(["check", str(tmp_path / "s.toml")]) == 2
    assert len(capsys.readouterr().err) <= 420


def test_shown() -> None:
    assert shown("a") == "'a'" and shown([1, 2.5, {"a": None}]) == "[1, 2.5, {'a': None}]"
    nested: object = "x"
    for _ in range(10):
        nested = [nested] * 9  # 9^10 entries, as ten aliases of YAML make them
    for value in (nested, "x" * 10**6, 10**10000, dict.fromkeys(range(1000), "y" * 1000), "a\nb"):
        assert len(shown(value)) <= 80 and "\n" not in shown(value)
    assert cut("x" * MESSAGE) == "x" * MESSAGE
    short = cut("head" + "x" * 10000 + "tail")
    assert len(short) == MESSAGE and short.startswith("head") and short.endswith("tail")


def test_compiled_kernels_go_elsewhere_from_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    code = "import simengine.ops.bridge, warp; print(warp.config.kernel_cache_dir)"
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "WARP_CACHE_PATH")}
    environment |= {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)) and Path(done.stdout.strip()).is_dir()
    assert "cannot be written; they are kept in" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are POSIX")
def test_a_cache_that_others_may_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    usual = tmp_path / f"simengine-cache-{os.getuid()}"
    assert kernel_cache.temporary_cache("a").parent == usual
    usual.chmod(0o777)
    assert kernel_cache.temporary_cache("a").parent != usual


def test_a_mechanism_that_explodes_is_refused(tmp_path: Path) -> None:
    from simengine.flame.gas.mechanism import MechanismError
    from simengine.flame.gas.mechanism_yaml import load_mechanism

    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    bomb = "\n".join([*lines, "phases: [{name: gas, thermo: *a9}]", "species: []"])
    circle = "phases: &p [*p]\nspecies: []"
    for text, message in ((bomb, "aliases .* more than"), (circle, "aliases"), ("[" * 5000, "b.yaml")):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(MechanismError, match=message) as error:
            load_mechanism(tmp_path / "b.yaml")
        assert "b.yaml" in str(error.value) and len(str(error.value)) < 600


def _stopped(monkeypatch: pytest.MonkeyPatch, folder: Path, stop: str, at: tuple[int, ...]) -> int:
    """Run a motion of 8 steps, saved every 2, that is sent a signal before some of them."""
    from simengine.worlds.motion.world import MPMWorld

    def before(self: MPMWorld, model: object, state: object, step: int) -> None:
        for _ in range(at.count(step)):
            os.kill(os.getpid(), getattr(signal, stop))

    monkeypatch.setattr(MPMWorld, "before", before)
    (folder / "fall.toml").write_text(TOML + "[grid]\nnum_steps = 8\n[output]\nsave_every = 2\nvideo = false\n")
    return main(["run", str(folder / "fall.toml"), "--device", "cpu", "--json", "--out", str(folder / f"{stop}{at}")])


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("stop", [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)])
def test_a_stopped_run_keeps_what_it_has(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert _stopped(monkeypatch, tmp_path, stop, ()) == 0
    assert _stopped(monkeypatch, tmp_path, stop, (4,)) == 1
    assert "interrupted after step 6 of 8; what was found until then is in" in capsys.readouterr().err
    whole, part = (np.load(tmp_path / f"{stop}{at}" / "states.npz") for at in ((), (4,)))
    assert len(part["x"]) == 4 and (part["x"] == whole["x"][:4]).all() and (part["time"] == whole["time"][:4]).all()
    summary = json.loads((tmp_path / f"{stop}(4,)" / "summary.json").read_text())
    assert summary["steps"] == 6 and summary["interrupted"] == "after step 6 of 8"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _stopped(monkeypatch, tmp_path, "SIGTERM", (4, 4)) == 1
    text = capsys.readouterr().err
    assert "interrupted; " in text and "holds what was written until then" in text and "Traceback" not in text
    assert not (tmp_path / "SIGTERM(4, 4)" / "states.npz").exists()


def test_what_is_solved_in_one_piece_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simengine.flame.solver.solve import SpectralSolver

    def solve(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not taken")

    monkeypatch.setattr(SpectralSolver, "solve", solve)
    assert main(["run", "free_flame_simple", "--out", str(tmp_path / "out")]) == 1
    assert "interrupted; " in capsys.readouterr().err and (tmp_path / "out" / "scene.toml").is_file()
