"""The command line as a user meets it: exit codes, one line per mistake, JSON."""

import csv
import json
import math
import tomllib
from pathlib import Path

import pytest
import torch

from simengine.cli import main
from simengine.cli.common import emit
from simengine.cli.new import without_truth
from simengine.io.arrays import write_json
from simengine.scene import named_scenes


def test_every_shipped_scene_says_in_whole_sentences_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told) > 40
    for name, text in told.items():
        assert text[-1] in ".?!" and 20 < len(text) < 400, f"{name}: {text}"


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


def test_numbers_of_a_benchmark_are_added_to_its_history(tmp_path: Path) -> None:
    """Numbers alone, a line each; a second run adds to the first."""
    from simengine.cli.bench import add

    file = tmp_path / "history.csv"
    add(file, "mpm --full", [{"name": "jelly, forward", "ours": 1.5, "note": "warm", "steps": 3, "converged": True}])
    add(file, "mpm --full", [{"name": "sand", "ours": 2.25}])
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert [(row["row"], row["column"], row["value"]) for row in rows] == [
        ("jelly, forward", "ours", "1.5"),
        ("jelly, forward", "steps", "3"),
        ("sand", "ours", "2.25"),
    ]
    assert {row["benchmark"] for row in rows} == {"mpm --full"} and rows[0]["day"] == rows[2]["day"]


def test_a_page_keeps_its_words_and_gets_the_new_table() -> None:
    from simengine.cli.bench import renewed

    first = renewed("# Page\n", "mpm", [{"name": "a|b", "ours": 1.23456, "ratio": 2.0}])
    assert first.startswith("# Page\n\n<!-- bench mpm -->") and "| a\\|b | 1.235 | 2 |" in first
    second = renewed(first + "\nWords after.\n", "mpm", [{"name": "c", "ours": 3.0}, {"name": "d", "theirs": 4.0}])
    assert "a\\|b" not in second and "| d |  | 4 |" in second and second.endswith("\nWords after.\n")
    assert second.count("<!-- bench mpm -->") == 1


def test_a_new_scene_has_no_answers(tmp_path: Path) -> None:
    """`new --from identify_jelly` leaves out [reference] and nothing else."""
    assert main(["new", str(tmp_path / "mine.toml"), "--from", "identify_jelly"]) == 0
    ours = tomllib.loads((tmp_path / "mine.toml").read_text())
    shipped = tomllib.loads(named_scenes()["identify_jelly"].read_text())
    assert shipped.pop("reference") and ours == shipped
    text = '[a]\nx = 1\n[fit.truth]\n"y" = 2\n[truth.b]\nz = 1\n[[c]]\nd = 3\n'
    assert tomllib.loads(without_truth(text)) == {"a": {"x": 1}, "c": [{"d": 3}]}


def test_json_of_what_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Strict JSON: null, and what stood there by its dotted key; on the screen and in files."""
    result = {"a": math.inf, "b": [1.0, {"c": math.nan}], "d": torch.tensor([-math.inf, 2.0]), "e": 1}
    emit(result, as_json=True, title="")
    wanted = {
        "a": None,
        "b": [1.0, {"c": None}],
        "d": [None, 2.0],
        "e": 1,
        "not_finite": {"a": "infinite", "b.1.c": "not a number", "d.0": "-infinite"},
    }

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == wanted
    write_json(tmp_path / "x.json", result)
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse) == wanted
