"""Reports for everybody: words for what is seen, labels, headings in order, contrast in light and dark (WCAG AA)."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from simengine.io import write
from simengine.view.report import _STYLE, Movie, Picture, ReportTable, write_report

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "link", "br", "img", "input", "hr", "source"}


class Page(HTMLParser):
    """The elements of a page, and what is wrong with them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {**dict(attrs), "inside label": "yes" if "label" in self.open else ""}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def faults(self) -> list[str]:
        named = {attrs.get("for") for tag, attrs in self.elements if tag == "label"}
        found = []
        if not any(tag == "html" and attrs.get("lang") for tag, attrs in self.elements):
            found.append("no language")
        if not any(attrs.get("name") == "viewport" for _, attrs in self.elements):
            found.append("no viewport")
        levels = [int(tag[1]) for tag, _ in self.elements if re.fullmatch(r"h[1-6]", tag)]
        if levels[:1] != [1] or any(b - a > 1 for a, b in itertools.pairwise(levels)):
            found.append(f"headings {levels}")
        for tag, attrs in self.elements:
            label = attrs.get("aria-label") or attrs.get("title") or attrs["inside label"] or attrs.get("id") in named
            if tag == "img" and not attrs.get("alt"):
                found.append("a picture without words")
            if tag in ("video", "canvas", "input", "select") and not label:
                found.append(f"{tag} {attrs.get('id', '')} without a label")
            if tag == "th" and attrs.get("scope") is None:
                found.append("a head of a table that does not say of what")
        return found


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * c for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21.0)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)


def test_words_stand_out_in_light_and_dark() -> None:
    sets = [dict(re.findall(r"--(\w+):(#\w+)", rule)) for rule in re.findall(r":root\{[^}]*\}", _STYLE)]
    assert len(sets) == 2
    for colours in sets:
        for ink in ("ink", "good", "bad"):
            assert contrast(colours[ink], colours["paper"]) >= 4.5, (ink, colours)
        assert contrast(colours["ink"], colours["soft"]) >= 4.5


def test_every_block_of_a_report_can_be_heard(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8))
    shown = [Picture(np.zeros((4, 4, 3), np.uint8)), Movie(tmp_path / "a.mp4")]
    write_report(tmp_path / "r.html", "title", {"first": [ReportTable(["a", "b"], [[1, True]]), *shown, "words"]})
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert {"table", "img", "video", "p"} <= {tag for tag, _ in page.elements}
    assert page.faults() == []


def test_what_is_wider_than_a_phone_scrolls_and_is_reached_by_keys(tmp_path: Path) -> None:
    wide, narrow = Picture(np.zeros((4, 900, 3), np.uint8)), Picture(np.zeros((4, 500, 3), np.uint8))
    write_report(tmp_path / "r.html", "title", {"first": [wide, narrow], "empty": []})
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    figures = [options for tag, options in page.elements if tag == "figure"]
    assert [options.get("tabindex") for options in figures] == ["0", None]
    assert [options.get("class") for tag, options in page.elements if tag == "img"] == ["wide", None]
    assert "empty" not in (tmp_path / "r.html").read_text(encoding="utf-8")  # a heading with nothing under it


def test_the_page_of_particles_can_be_heard() -> None:
    page = Page((ROOT / "assets" / "particle_page.html").read_text(encoding="utf-8"))
    assert page.faults() == []


def test_faults_are_seen() -> None:
    bad = Page("<html><h2>x</h2><img src=a><input id=b><table><tr><th>c</th></tr></table></html>").faults()
    assert len(bad) == 6, bad
