"""A run directory: what --overwrite may remove, who may use it, with which versions it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simengine.io import video
from simengine.io.run_directory import MARKER, RunDirectory

SCENE = {"kind": "toy"}


def make(path: Path, scene: dict[str, object] = SCENE, **options: object) -> RunDirectory:
    return RunDirectory.create(path, scene, **{"overwrite": False, "resume": False, **options})


def files(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_a_project_with_a_scene_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`simengine new scene.toml` in a repository, then `run scene.toml --out . --overwrite`."""
    (tmp_path / ".git").mkdir()
    for name in ("scene.toml", "data.csv", ".git/HEAD"):
        (tmp_path / name).write_text("mine")
    monkeypatch.chdir(tmp_path)
    for path in (Path(), tmp_path, Path("../") / tmp_path.name):
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="not empty and not a run directory"):
                make(path, overwrite=overwrite)
    assert files(tmp_path) == {"scene.toml", "data.csv", ".git/HEAD"}


def test_only_what_a_run_wrote_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = make(path)
    run.write("states/0000.json", {"a": 1})
    run.write("summary.json", {"a": 1})
    run.log("start")
    for name in ("report.html", "checkpoint/checkpoint.json", "checkpoint/checkpoint-000003.safetensors"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("ours")
    for name in ("notes.txt", "states/mine.txt", "checkpoint/old.txt", "mine/deep/x.txt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    make(path, {"kind": "other"}, overwrite=True)
    kept = {"notes.txt", "states/mine.txt", "checkpoint/old.txt", "mine/deep/x.txt"}
    assert files(path) == {*kept, MARKER, "scene.toml", "versions.json"}


def test_runs_of_one_report_write_into_folders_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = make(path)
    assert run.within("") is run
    written = [run.within(name).write("fitted.json", {"of": name}) for name in ("a", "b")]
    assert [json.loads(file.read_text())["of"] for file in written] == ["a", "b"]
    assert {"a/fitted.json", "b/fitted.json"} <= files(path)
    del run
    make(path, {"kind": "other"}, overwrite=True)
    assert not (path / "a").exists() and not (path / "b").exists()


def test_a_marker_that_names_other_places_removes_nothing_there(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    make(path)
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    (path / "link").symlink_to(elsewhere)
    (path / MARKER).write_text(f"../elsewhere/mine.txt\n{elsewhere}/mine.txt\nlink/mine.txt\n\n.\n..\n")
    make(path, overwrite=True)
    assert (elsewhere / "mine.txt").read_text() == "mine" and (path / "link").exists()


def test_the_working_folder_its_parents_and_that_of_the_scene_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "run")
    (run.path / "deep").mkdir()
    for here in (run.path, run.path / "deep"):
        monkeypatch.chdir(here)
        with pytest.raises(ValueError, match="--overwrite never touches"):
            make(run.path, overwrite=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--overwrite never touches"):
        make(run.path, overwrite=True, protected=[Path("run")])
    make(run.path, overwrite=True)


_OTHER = """
import sys
from pathlib import Path
from simengine.io.run_directory import RunDirectory
try:
    run = RunDirectory.create(sys.argv[1], {"kind": "toy"}, overwrite=False, resume=True)
    print("entered", flush=True)
    sys.stdin.readline()
except ValueError as error:
    print(error)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", _OTHER, str(path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdin is not None and first.stdout is not None
    try:
        assert first.stdout.readline() == "entered\n"
        with pytest.raises(ValueError, match="in use by another process"):
            make(path, resume=True)
    finally:
        first.kill()  # as hard as it goes: the system gives the lock back
        first.wait()
        first.stdin.close()
        first.stdout.close()
    held = make(path, resume=True)
    again = make(path, resume=True)  # within one process
    answer = subprocess.run(command, input="", capture_output=True, text=True).stdout
    assert "in use by another process" in answer and held.path == again.path
    del held, again
    assert subprocess.run(command, input="", capture_output=True, text=True).stdout == "entered\n"


def test_other_versions_are_told_at_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path / "run")
    make(run.path, resume=True)
    assert not capsys.readouterr().err
    versions = json.loads((run.path / "versions.json").read_text())
    (run.path / "versions.json").write_text(json.dumps({**versions, "torch": "1.0"}))
    make(run.path, resume=True)
    assert f"torch 1.0 -> {versions['torch']}" in capsys.readouterr().err
    assert run.events("versions")


def test_a_spoilt_line_of_the_log_is_passed_over(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.log("iteration", iteration=1)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'5\nnull\n[]\n"x"\n{}\n\xff\xfe\n{"event": \n')
    run.log("iteration", iteration=2)
    assert [entry["iteration"] for entry in run.events("iteration")] == [1, 2]


def test_a_missing_codec_costs_the_film_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path / "run")
    monkeypatch.setattr(video, "CODEC", "libx000")
    monkeypatch.setitem(sys.modules, "PIL", None)
    for name, data in (("a.mp4", np.zeros((2, 8, 8, 3))), ("a.png", np.zeros((8, 8, 3)))):
        assert not run.write(name, data).exists()
        assert f"{name}: not written" in capsys.readouterr().err
    assert [entry["file"] for entry in run.events("not written")] == ["a.mp4", "a.png"]
    run.write("results.json", {"x": 1})
    with pytest.raises(ValueError, match="not finite"):  # wrong data are no missing codec
        run.write("b.mp4", np.full((2, 8, 8, 3), np.nan))
