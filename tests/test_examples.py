"""Every example runs, checks a number of its own, and draws the picture that the gallery shows."""

import math
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {"sample_a_posterior": "emcee", "bend_a_bracket": "skfem"}  # of the extras `bayes` and `mesh`


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    pyplot.close("all")
    result = runpy.run_path(str(path))["main"]()
    assert isinstance(result, dict) and result and all(math.isfinite(value) for value in result.values())
    drawn = pyplot.gcf().axes
    assert drawn and all(axes.has_data() and (axes.get_title() or axes.images or axes.collections) for axes in drawn)
    pyplot.close("all")


def test_every_picture_of_the_gallery_is_that_of_an_example() -> None:
    """`python docs/site/pictures.py example_NAME` makes it."""
    pictures = {file.stem.removeprefix("example_") for file in (ROOT / "docs" / "pictures").glob("example_*.png")}
    assert pictures == {path.stem for path in EXAMPLES} and len(pictures) >= 24


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_saves_its_picture(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80 and lines[-1] == f'    plt.savefig("{path.stem}.png")'
