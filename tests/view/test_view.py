"""Figures hold what was drawn; a report is one file that needs nothing else."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from simengine.io import write
from simengine.view.boxes import draw_boxes
from simengine.view.figures import curves, fields, label
from simengine.view.overlay import field_colours
from simengine.view.report import Movie, Picture, ReportTable, write_report


def test_figures_draw_their_data() -> None:
    x = np.linspace(0, 1, 20)
    picture = curves(
        {"T [K]": {"ours": (x, x**2), "data": (x, x)}, "loss": {"l": (x, x + 1)}}, xlabel="x", log=["loss"]
    )
    empty = curves({"T [K]": {"ours": (x[:0], x[:0])}, "loss": {"l": (x + 1, x + 1)}}, xlabel="x", log=["loss"])
    assert picture.dtype == np.uint8 and picture.ndim == 3 and (picture < 128).sum() > (empty < 128).sum()
    field = fields({"e": x[None] * x[:, None] - 0.5}, extent=(0, 1, 0, 1), xlabel="x", ylabel="t", symmetric=["e"])
    assert field.std() > 10
    assert (label(np.full((40, 90, 3), 255, np.uint8), "hello") < 128).any()


def test_small_pictures_of_a_report_are_shown_large_and_kept_small(tmp_path: Path) -> None:
    """96 pixels are shown by 4; of eight abreast none finds 320, so the page's width is used; large ones stay."""
    wide = [Picture(np.zeros((4, w, 3)), abreast=n) for w, n in ((96, 1), (320, 8), (700, 2))]
    write_report(tmp_path / "r.html", "t", {"s": wide})
    page = (tmp_path / "r.html").read_text()
    assert [part.partition('"')[0] for part in page.split(' width="')[1:]] == ["384", "960"]
    stored = [part.partition('"')[0] for part in page.split("base64,")[1:]]
    widths = [Image.open(io.BytesIO(base64.b64decode(data))).width for data in stored]
    assert widths == [96, 320, 700]


def test_report_is_self_contained(tmp_path: Path) -> None:
    movie = write(tmp_path / "a.gif", np.random.default_rng(0).random((3, 8, 8, 3)))
    picture = Picture(np.zeros((4, 4, 3)), "black <&>")
    blocks = ["text", ReportTable(["name", "ok"], [["<E>", True]]), picture, Movie(movie)]
    write_report(tmp_path / "r.html", "A <report>", {"Section": blocks})
    page = (tmp_path / "r.html").read_text()
    assert 'width="320"' in page
    assert "data:image/png;base64" in page and "data:image/gif;base64" in page
    assert "A &lt;report&gt;" in page and "&lt;E&gt;" in page and "<E>" not in page
    assert "http" not in page and 'src="/' not in page


def test_names_are_shown_where_there_are_several_curves() -> None:
    x = np.linspace(0, 1, 20)

    def drawn(*names: str) -> np.ndarray:
        return curves({"T [K]": {name: (x, x + k) for k, name in enumerate(names)}}, xlabel="x")

    assert np.array_equal(drawn("ours"), drawn("another"))
    assert not np.array_equal(drawn("ours", "data"), drawn("another", "data"))


def test_boxes_are_drawn_where_they_are_in_a_picture_that_is_enlarged() -> None:
    """64 columns become 640: a box from (10, 20) to (30, 40) has its dark edge at (100, 200) to (300, 400)."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    picture = draw_boxes(grey, [((10, 20, 30, 40), "hit", "")])
    rows, columns = np.nonzero((picture != 128).any(-1))
    assert picture.shape == (640, 640, 3)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (100, 300, 200, 400)
    assert picture[200, 150].tolist() == [0, 0, 0] and picture[202, 150].tolist() == [60, 220, 90]
    flat = draw_boxes(grey, [((10, 20, 30, 20), "missed", ""), ((10, 20, 10, 40), "missed", "")])  # no area
    assert (flat[..., 0] == 255).any()


def test_colours_of_a_field_are_linear_light() -> None:
    """IEC 61966-2-1: what is encoded again is the colour of the map."""
    values = np.linspace(0, 1, 50)
    linear, encoded = (field_colours(values, (0.0, 1.0), srgb=srgb) for srgb in (False, True))
    again = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(again - encoded).max() < 1e-4
