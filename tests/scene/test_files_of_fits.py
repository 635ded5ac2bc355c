"""Nobody finds what he made: every shipped fit reads its observations from files, and no problem knows a truth."""

import fnmatch
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simengine.cli import main
from simengine.scene import named_scenes, strict

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
OBSERVED = {
    name: data
    for name, path in named_scenes().items()
    if "observations" in (data := tomllib.loads(path.read_text(encoding="utf-8")))
}


def assets_in(value: Any) -> Iterator[str]:
    """The names of assets, with their stars, that a part of a scene holds."""
    if isinstance(value, str) and value.startswith("asset:"):
        yield value.removeprefix("asset:")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from assets_in(item)


def test_all_fits_are_looked_at() -> None:
    sought = {
        name
        for name, path in named_scenes().items()
        if "unknowns" in (data := tomllib.loads(path.read_text(encoding="utf-8"))) and "objective" not in data
    }
    assert len(sought) >= 24
    assert sought <= set(OBSERVED)


@pytest.mark.parametrize("name", OBSERVED)
def test_without_its_files_a_fit_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = OBSERVED[name]
    own = [*assets_in(data["observations"]), *assets_in(data.get("instruments", {}))]
    assert own, f"{name} observes no file"
    kept = [path for path in ASSETS.iterdir() if not any(fnmatch.fnmatch(path.name, pattern) for pattern in own)]
    assert len(kept) < len(list(ASSETS.iterdir()))
    (tmp_path / "assets").mkdir()
    for path in kept:
        (tmp_path / "assets" / path.name).symlink_to(path)
    monkeypatch.setattr(strict, "files", lambda package: tmp_path / "assets")
    verb = "train" if "model" in data else "fit"
    assert main([verb, name, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert any(pattern.partition("*")[0].partition(".")[0] in told for pattern in own), told


def test_no_problem_knows_a_truth() -> None:
    """What a twin hid stands in `[reference]`, which reports read, and neither problems, starts nor searches."""
    files = [*(ROOT / "simengine" / "fit" / "problem").glob("*.py")]
    files += [ROOT / "simengine" / "fit" / f"{name}.py" for name in ("inference", "method", "starts", "unknowns")]
    assert len(files) >= 12
    text = {path.name: path.read_text(encoding="utf-8").lower() for path in files}
    assert not [name for name, own in text.items() if "truth" in own]
    read = {name: own.count("scene.reference") for name, own in text.items() if "scene.reference" in own}
    # both only spell its keys as those of the unknowns, for the report
    assert read == {"reading.py": 1, "references.py": 1}
