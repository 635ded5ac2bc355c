"""A scene that `new --kind --observations` writes is whole: only the reader's file is missing."""

import tomllib
from pathlib import Path

import pytest

from simengine.cli import main
from simengine.fit.problem import Problem
from simengine.scene import SceneError, load_scene
from simengine.scene.kinds import named_class
from simengine.scene.schema import keys_of
from simengine.scene.template import PAIRS, template


@pytest.mark.parametrize(("kind", "instrument"), PAIRS)
def test_only_the_file_is_missing(kind: str, instrument: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    assert main(["new", str(path), "--kind", kind, "--observations", instrument]) == 0
    scene = load_scene(path)
    assert scene.kind == kind and list(scene.observations) == ["measured"]
    with pytest.raises((SceneError, ValueError, FileNotFoundError)) as said:
        Problem(scene)
    names = ("my_", "photo", "mask", "lamps", "boxes", "no detector", "detector")
    assert any(name in str(said.value) for name in names), said.value


@pytest.mark.parametrize(("kind", "instrument"), PAIRS)
def test_every_key_of_the_instrument_is_there_or_in_a_comment(kind: str, instrument: str) -> None:
    text = template(kind, instrument)
    keys = {line.removeprefix("# ").split(" = ")[0] for line in text.splitlines()}
    missing = [
        key.name for key in keys_of(named_class("type", instrument)) if key.name not in keys and not key.required
    ]
    assert not missing
    assert tomllib.loads(text)["observations"]["measured"]["type"] == instrument


def test_comments_become_keys_by_taking_away_the_mark(tmp_path: Path) -> None:
    text = template("specimen", "curve").replace("# sigma_level = 1 ", "sigma_level = 2 ")
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    assert load_scene(tmp_path / "s.toml").observations["measured"].sigma_level == 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "specimn", "--observations", "curve"], "did you mean 'specimen'"),
        (["--kind", "specimen", "--observations", "video"], "there is --kind specimen --observations curve"),
        (["--kind", "specimen"], "say --kind and --observations"),
        (["--kind", "specimen", "--observations", "curve", "--from", "jelly_drop"], "or --from"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path / "a.toml"), *arguments]) == 2
    assert words in capsys.readouterr().err
