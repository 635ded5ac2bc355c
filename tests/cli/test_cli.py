"""The command line as a user meets it: exit codes, one line per mistake, JSON."""

import json
from pathlib import Path

import pytest

from simengine.cli import main


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("run", "fit", "render", "view", "check", "bench", "doctor", "new"):
        assert f"│ {verb} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "Did you mean"),
        (["run"], "requires an argument"),
        (["run", "no_such_scene"], "no such scene"),
        (["run", "x.toml"], "no such file"),
        (["fit", "x.json"], "no such scene"),
        (["new", "a.txt"], "ends in .toml"),
        (["new", "a.toml", "--from", "jely_drop"], "did you mean 'jelly_drop'"),
        (["render", "nowhere"], "not a run directory"),
        (["view", "nowhere"], "no report.html"),
        (["bench", "nothing"], "no such benchmark"),
        (["check", "jelly_drop", "--set", "x"], "expected key=value"),
        (["run", "jelly_drop", "--device", "cuda:77"], "not available here"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not list(tmp_path.iterdir())


def test_doctor_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert "torch" in json.loads(capsys.readouterr().out)


def test_a_page_keeps_its_words_and_gets_the_new_table() -> None:
    from simengine.cli.bench import renewed

    first = renewed("# Page\n", "mpm", [{"name": "a|b", "ours": 1.23456, "ratio": 2.0}])
    assert first.startswith("# Page\n\n<!-- bench mpm -->") and "| a\\|b | 1.235 | 2 |" in first
    second = renewed(first + "\nWords after.\n", "mpm", [{"name": "c", "ours": 3.0}, {"name": "d", "theirs": 4.0}])
    assert "a\\|b" not in second and "| d |  | 4 |" in second and second.endswith("\nWords after.\n")
    assert second.count("<!-- bench mpm -->") == 1
