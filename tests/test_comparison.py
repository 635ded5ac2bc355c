"""The page of comparisons copies numbers; each stands on the page that its row names, which has the command."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "comparison.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| .*\]\([\w/]+\.md\) \|$", line)
]


def test_rows_are_found() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_numbers_stand_on_the_page_that_is_named(row: list[str]) -> None:
    target = re.search(r"\(([\w/]+\.md)\)", row[-1])
    assert target is not None
    text = (PAGE.parent / target[1]).read_text(encoding="utf-8")
    for cell in row[1:3]:
        number = cell.strip("*")
        assert re.fullmatch(r"[\d.]+", number), f"{row[0]}: {cell} is no number"
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", text), (
            f"{row[0]}: {number} is not in {target[1]}"
        )


@pytest.mark.parametrize(
    "row", [row for row in ROWS if any("**" in cell for cell in row[1:3])], ids=lambda r: r[0][:40]
)
def test_bold_is_the_better(row: list[str]) -> None:
    ours, other = (float(cell.strip("*")) for cell in row[1:3])
    larger = "M particle" in row[0] or "known minimum" in row[0]
    assert ("**" in row[1]) == ((ours > other) if larger else (ours < other))
