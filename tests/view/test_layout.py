"""Where things stand in sheets, figures, frames and tables, by sizes and places counted by hand."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image, ImageDraw

from simengine.view.boxes import draw_boxes, sheet
from simengine.view.figures import _spread, corner, curves, fields
from simengine.view.overlay import field_limits, with_axes, with_colour_bar
from simengine.view.particle_page import MOST, particle_page
from simengine.view.report import ReportTable, write_report
from simengine.view.sheets import NAME, comparison, contact_sheet, pyramid, summary_rows


def test_a_pyramid_halves_by_means_and_stops_below_four_pixels() -> None:
    """An odd last row and column are left out; 9 x 5 gives 4 x 2, which is not halved; 4 x 4 gives 2 x 2."""
    image = torch.arange(45.0).reshape(1, 9, 5, 1)
    first, second = pyramid(image, 3)
    assert torch.equal(first, image) and second.shape == (1, 4, 2, 1)
    assert second[0, ..., 0].tolist() == [[3 + 10 * i + 2 * j for j in range(2)] for i in range(4)]
    assert [len(pyramid(torch.zeros(*size, 3), 5)) for size in ((4, 4), (4, 3), (3, 4), (16, 16))] == [2, 1, 1, 4]
    assert len(pyramid(torch.zeros(16, 16, 3), 1)) == 2


def test_a_contact_sheet_goes_row_by_row_and_is_white_where_nothing_is() -> None:
    images = torch.stack([torch.full((2, 3, 1), v) for v in (0.0, 1.0, 0.0)])
    shown = contact_sheet(images, columns=2)
    assert shown.shape == (4, 6, 3)
    assert (shown[:2, :3] == 0).all() and (shown[:2, 3:] == 255).all()
    assert (shown[2:, :3] == 0).all() and (shown[2:, 3:] == 255).all()
    assert contact_sheet(images).shape == (2, 9, 3)  # fewer than eight: as many columns as there are
    assert contact_sheet(torch.zeros(9, 2, 3, 3)).shape == (4, 24, 3)
    rows = comparison({"a": torch.zeros(2, 5, 7, 3), "b": torch.zeros(2, 5, 7, 3)})
    assert rows.shape == (2 * (20 + 5), NAME, 3)
    assert (rows[20:25, :14] == 0).all() and (rows[20:25, 14:] == 255).all() and (rows[:20] < 255).any()
    tiles = sheet([np.full((2, 3, 3), k, np.uint8) for k in range(5)], columns=4)
    assert tiles.shape == (4, 12, 3) and tiles[0, ::3, 0].tolist() == [0, 1, 2, 3]
    assert tiles[2, ::3, 0].tolist() == [4, 255, 255, 255]


def test_scalars_of_a_summary_have_dotted_names() -> None:
    rows = summary_rows({"a": 1, "b": {"c": {"d": 2.5}, "e": [1]}, "f": "word", "g": None, "h": Path("x"), "i": True})
    assert rows == [("a", 1), ("b.c.d", 2.5), ("f", "word"), ("h", Path("x")), ("i", True)]


@pytest.mark.parametrize(("count", "width"), [(1, 704), (2, 924), (3, 1386)])
def test_panels_have_one_size_and_one_panel_is_not_narrow(count: int, width: int) -> None:
    """4.2 inches each at 110 to the inch, one of 6.4; 3.2 high. Fields have 4 inches each."""
    x = np.linspace(0, 1, 5)
    panels = {f"T{k} [K]": {"a": (x, x)} for k in range(count)}
    assert curves(panels, xlabel="x").shape == (352, width, 3)
    maps = {f"e{k}": np.outer(x, x) for k in range(count)}
    assert fields(maps, extent=(0, 1, 0, 1), xlabel="x", ylabel="y").shape == (352, 440 * count, 3)


def test_a_band_and_a_logarithm_are_drawn_where_they_are_asked_for() -> None:
    x = np.linspace(0, 1, 5)
    panels = {"T [K]": {"a": (x, x + 1)}}
    bare = curves(panels, xlabel="x")
    assert not np.array_equal(bare, curves(panels, xlabel="x", bands={"T [K]": (x, x, x + 2)}))
    assert np.array_equal(bare, curves(panels, xlabel="x", bands={"p [Pa]": (x, x, x + 2)}))
    assert not np.array_equal(bare, curves(panels, xlabel="x", log=["T [K]"]))
    assert np.array_equal(bare, curves(panels, xlabel="x", log=["p [Pa]"]))
    assert not np.array_equal(bare, curves(panels, xlabel="x", points=["a"]))


def test_bands_have_names_and_the_colour_of_the_first_line() -> None:
    x = np.linspace(0, 1, 5)
    panels, band = {"T [K]": {"m": (x, x + 1), "a": (x, x + 1)}}, (x, x, x + 2)
    drawn = curves(panels, xlabel="x", bands={"T [K]": band}).astype(int)
    assert np.array_equal(drawn, curves(panels, xlabel="x", bands={"T [K]": {"95 %": band}}))
    two = {"95 %, alone": band, "95 %, together": (x, x - 1, x + 3)}
    assert not np.array_equal(drawn, curves(panels, xlabel="x", bands={"T [K]": two}))
    orange = curves(panels, xlabel="x", points=["m"], bands={"T [K]": band}).astype(int)
    warm = [int((shown[..., 0] - shown[..., 2] > 40).sum()) for shown in (drawn, orange)]
    assert warm[1] > 10 * warm[0] > 0  # C0 is blue with an orange line on it, C1 is orange all over


def _blue(image: np.ndarray) -> np.ndarray:
    """Where an image (h, w, 3) shows samples."""
    shown = image.astype(int)
    return shown[..., 2] - shown[..., 0] > 60


def test_samples_are_drawn_pair_by_pair_where_they_are() -> None:
    """Two clusters, low a with high b: in the panel of the pair the upper left and the lower right have points."""
    side = np.repeat([0.0, 1.0], 200)
    a, b = side + 0.05 * np.sin(np.arange(400)), 5 - side + 0.05 * np.cos(np.arange(400))
    image = corner({"a [m]": a, "b [s]": b})
    assert image.shape == (638, 638, 3)
    blue = _blue(image)
    pair = blue[310:570, 60:335]  # within the frame
    quarters = [int(part.sum()) for half in np.array_split(pair, 2) for part in np.array_split(half, 2, axis=1)]
    assert min(quarters[0], quarters[3]) > 100 and max(quarters[1], quarters[2]) == 0
    assert not blue[60:290, 350:].any()  # what would be shown twice is left out
    red = (image[..., 0].astype(int) - image[..., 2] > 100).sum()
    marked = corner({"a [m]": a, "b [s]": b}, marks={"a [m]": 0.5})
    assert (marked[..., 0].astype(int) - marked[..., 2] > 100).sum() > red + 500  # a line through two panels


def test_a_prior_has_the_scale_of_the_bars_that_it_lies_over() -> None:
    """Samples of a lognormal law over decades, which lie by their logarithm: the law's density is that of the bars."""
    from matplotlib.figure import Figure

    law = scipy.stats.lognorm(2.0)
    x = law.ppf((np.arange(4000) + 0.5) / 4000)
    shown = _spread(Figure().subplots(), x, law.pdf)
    bars, edges, _ = shown["samples"].get_data()
    at, height = shown["prior"].get_data()
    middle = np.sqrt(edges[1:] * edges[:-1])
    assert np.interp(middle, at, height) == pytest.approx(bars, abs=0.02 * bars.max())
    most, _, _ = shown["their middle 95 %"].get_data()
    assert (most * np.log(edges[1:] / edges[:-1])).sum() == pytest.approx(0.95, abs=1e-3)


def test_a_symmetric_field_is_white_at_zero_and_its_first_row_is_below() -> None:
    """RdBu_r: near white at 0, blue below; of values -1 (row 0) and 0, the lower half of the panel is blue."""
    values = np.array([[-1.0] * 4, [0.0] * 4])
    shown = fields({"e": values}, extent=(0, 1, 0, 1), xlabel="x", ylabel="y", symmetric=["e"])
    column = shown[:, 200].astype(int)
    blue, white = (column[:, 2] - column[:, 0] > 60), (column.min(1) > 235)
    assert blue.any() and np.nonzero(blue)[0].mean() > 176 > np.nonzero(white)[0].min()
    narrow = fields({"e": values}, extent=(0, 1, 0, 1), xlabel="x", ylabel="y", limits={"e": (-9.0, 9.0)})
    assert not np.array_equal(narrow, fields({"e": values}, extent=(0, 1, 0, 1), xlabel="x", ylabel="y"))


def test_limits_of_a_field_are_apart_even_where_it_is_constant() -> None:
    assert field_limits([[1.0, 5.0], [-2.0, 0.0]]) == (-2.0, 5.0)
    assert field_limits([3.0]) == (2.5, 3.5) and field_limits([-1e5]) == (-1e5 - 100, -1e5 + 100)
    for wrong in ([], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="no values, or some that are not finite"):
            field_limits(wrong)


def test_frames_get_a_bar_beside_them_and_lines_over_them() -> None:
    frames = np.zeros((2, 100, 50, 3), np.uint8)
    beside = with_colour_bar(frames, (0.0, 1.0), "v [m/s]")
    assert beside.shape == (2, 100, 140, 3)  # .9 inches at 100 to the inch
    assert (beside[:, :, :50] == 0).all() and np.array_equal(beside[0, :, 50:], beside[1, :, 50:])
    strip = beside[0, 8:92, 50 + 20].astype(int)  # within .12 to .32 of its width: yellow above, violet below
    assert strip[2, 0] > 200 and strip[2, 2] < 80 and strip[-3, 0] < 90 and strip[-3, 2] > 70
    drawn = with_axes(frames, [[(10, 20), (40, 20)]], [((25, 70), "x")])
    assert (drawn[:, 20, 10:41] == (90, 90, 100)).all() and (drawn[:, :19] == 0).all()
    rows, columns = np.nonzero(drawn[0, 40:].any(-1))
    assert abs(rows.mean() + 40 - 70) < 4 and abs(columns.mean() - 25) < 4 and (frames == 0).all()


def test_a_text_stands_above_its_box_or_within_where_there_is_no_room() -> None:
    """Its ground begins 3 px right of the corner, 15 px above the upper edge, or 3 below one near the top."""
    grey = np.full((200, 640, 3), 128, np.uint8)
    pen = ImageDraw.Draw(Image.fromarray(grey))
    for top, begin in ((100, 85), (17, 2), (16, 19)):
        plain, named = (draw_boxes(grey, [((50, top, 200, 180), "hit", text)]) for text in ("", "car"))
        rows, columns = np.nonzero((plain != named).any(-1))
        ground = pen.textbbox((53, begin), "car", font_size=13)
        assert abs(rows.max() - ground[3]) <= 1 and abs(columns.max() - ground[2]) <= 1
        assert abs(columns.min() - ground[0]) <= 1
    assert draw_boxes(np.zeros((10, 700, 3), np.uint8), []).shape == (10, 700, 3)
    widths = [draw_boxes(np.zeros((2, columns, 3), np.uint8), []).shape for columns in (200, 256, 257, 60)]
    assert widths == [(6, 600, 3), (4, 512, 3), (4, 514, 3), (22, 660, 3)]
    inner = draw_boxes(grey, [((50, 100, 200, 180), "hit", "")])
    assert np.array_equal(np.nonzero((inner[140] == (60, 220, 90)).all(-1))[0], [51, 52, 198, 199])
    assert np.array_equal(np.nonzero((inner[:, 100] == (60, 220, 90)).all(-1))[0], [101, 102, 178, 179])


def test_cells_of_a_table_have_six_digits_and_say_yes_or_no(tmp_path: Path) -> None:
    write_report(
        tmp_path / "r.html",
        "t",
        {"s": [ReportTable(("a",), [(1 / 3,), (True,), (False,), (12,), ("<b>",), ("x 7.74e-05",)])]},
    )
    cells = [part.partition("</td>")[0] for part in (tmp_path / "r.html").read_text().split("<td>")[1:]]
    assert (
        cells[0] == "0.333333" and "good" in cells[1] and "yes" in cells[1] and "bad" in cells[2] and "no" in cells[2]
    )
    assert cells[3:] == ["12", "&lt;b&gt;", 'x <span class="whole">7.74e-05</span>']  # no line ends within a number


def test_a_page_of_particles_refuses_what_does_not_fit_and_shows_some_of_very_many() -> None:
    x = np.random.default_rng(0).random((2, 3, 3))
    speed = {"v [m/s]": np.ones((2, 3))}
    for times, places, shown, word in (
        ([0.0], x, speed, "times"),
        ([0.0, 1.0], x[0], speed, "times"),
        ([0.0, 1.0], x[..., :2], speed, "times"),
        ([0.0, 1.0], x[:, :0], speed, "times"),
        ([0.0, 1.0], np.where(x > 0.5, np.nan, x), speed, "not finite"),
        ([0.0, 1.0], x, {}, "at least one"),
        ([0.0, 1.0], x, {"v [m/s]": np.ones((2, 2))}, "v \\[m/s\\]: expected shape"),
    ):
        with pytest.raises(ValueError, match=word):
            particle_page("t", times, places, shown, size=1.0, links={})
    many = particle_page("t", [0.0], np.zeros((1, MOST + 1, 3)), {"v": np.zeros((1, MOST + 1))}, size=1.0, links={})
    assert len(many.parts["/positions"]) == 12 * ((MOST + 2) // 2) == 3 * len(many.parts["/fields/0"])
    most = particle_page("t", [0.0], np.zeros((1, MOST, 3)), {"v": np.zeros((1, MOST))}, size=1.0, links={})
    assert len(most.parts["/positions"]) == 12 * MOST
