"""The page that scrubs what was observed beside what was fitted: its numbers, its files, and a browser's picture."""

import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from simengine.cli.view import films_of, make_server, pages_of
from simengine.io import write
from simengine.view.compare_page import ComparedFilm, compare_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def film(channels: int = 3) -> ComparedFilm:
    random = np.random.default_rng(0)
    observed = random.uniform(0, 1, (4, 6, 8, channels))
    observed[0, 0, 0] = np.nan  # not compared
    fitted = observed.copy()
    fitted[2, 3, 4] += 0.5
    fitted[0, 0, 0] = 0.3
    return ComparedFilm(observed, fitted, [0.0, 0.1, 0.2, 0.4])


@pytest.mark.parametrize("channels", [1, 3])
def test_page_hands_over_observed_fitted_and_their_difference(channels: int) -> None:
    page = compare_page("a <fit>", {"front": film(channels), "side": film(channels)}, links={"report": "report.html"})
    text = page.page.decode()
    assert "a &lt;fit&gt;" in text and '<option value="1">side</option>' in text and "@" not in text
    facts = json.loads(text[text.index("const films = ") + 14 : text.index(", by = id")])
    assert facts[0]["count"] == 4 and facts[0]["size"] == [6, 8] and facts[0]["times"] == [0.0, 0.1, 0.2, 0.4]
    assert facts[0]["scale"] == pytest.approx(0.5)
    seen = {
        name: np.frombuffer(page.parts[f"/films/0/{name}"], np.uint8).reshape(4, 6, 8, 3)
        for name in ("observed", "fitted", "over")
    }
    changed = (seen["observed"] != seen["fitted"]).any(-1)
    assert changed.sum() == 2 and changed[2, 3, 4]  # and the one that is not compared
    assert (seen["over"][2, 3, 4] == 255).all()  # the largest gap is white
    assert set(np.unique(np.delete(seen["over"].reshape(-1, 3), 2 * 48 + 3 * 8 + 4, axis=0))) == {128}  # none is grey
    # linear light becomes what a screen shows: the brightest is white, and .2140 of it is 128 of 255
    value = film(channels).observed[1, 2, 3] / np.nanmax(film(channels).observed)
    expected = 255 * np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    assert np.abs(seen["observed"][1, 2, 3] - expected).max() <= 0.51


def test_wrong_films_are_told() -> None:
    with pytest.raises(ValueError, match=r"expected one shape \(f, h, w, 1 or 3\)"):
        ComparedFilm(np.zeros((2, 3, 4, 2)), np.zeros((2, 3, 4, 2)))
    with pytest.raises(ValueError, match="times: expected 2, one for each picture, got 1"):
        ComparedFilm(np.zeros((2, 3, 4, 1)), np.zeros((2, 3, 4, 1)), [0.0])
    with pytest.raises(ValueError, match="films: expected at least one"):
        compare_page("", {}, links={})


def run_of(folder: Path) -> Path:
    """What a fit of pictures leaves, as far as a browser is shown it."""
    own = film()
    arrays = {"measured": own.observed, "predicted": own.fitted, "time": np.array([0.0, 0.1, 0.2, 0.4])}
    (folder / "predictions").mkdir(parents=True)
    write(folder / "predictions" / "front.npz", arrays)
    slopes = {"measured": np.zeros((2, 5, 5, 4)), "predicted": np.ones((2, 5, 5, 4))}
    write(folder / "predictions" / "slopes.npz", slopes)
    write(folder / "predictions" / "rays.npz", {"measured": np.zeros((9, 5)), "predicted": np.zeros((9, 5))})
    (folder / "report.html").write_text("<p>a report", encoding="utf-8")
    return folder


def test_a_fit_of_pictures_is_scrubbed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    films = films_of(run)
    assert list(films) == ["front", "slopes"]  # what is no film is not shown as one
    assert films["slopes"].observed.shape == (2, 5, 5, 1) and films["slopes"].times is None
    assert float(films["slopes"].fitted.max()) == 2.0  # how large four numbers of 1 are
    pages = pages_of(run)
    assert pages["/"] == pages["/films.html"] and b"report.html" in pages["/"][1]
    assert pages["/report.html"][1] == b"<p>a report"
    assert len(pages["/films/0/observed"][1]) == 4 * 6 * 8 * 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt-get install chromium")
def test_browser_shows_both_and_the_difference(tmp_path: Path) -> None:
    pages = pages_of(run_of(tmp_path / "run"))
    kind, page = pages["/"]
    # as a user would: to the third picture, with the difference
    script = b'<script>slider.max = 3; slider.value = 2; by("difference").checked = true; show();</script>'
    pages["/"] = (kind, page + script)
    server = make_server(pages, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=10000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [str(CHROMIUM), *flags, f"http://127.0.0.1:{server.server_port}/"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True, text=True)
    server.shutdown()
    server.server_close()
    assert 'data-ready="0/2/3"' in done.stdout  # observation, picture, how many are drawn
    assert '<canvas id="over" role="img" aria-label="what is left over" width="8" height="6">' in done.stdout
