"""What a robustness report tells along conditions, by hand on a few pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.dtn.evaluation import DetectionTable
from simengine.dtn.intervals import rate_interval
from simengine.dtn.sampler import CONDITIONS, UNITS
from simengine.io.run_directory import RunDirectory
from simengine.view.report import Picture, ReportTable
from simengine.worlds.detectors.conditions import condition_curve, paint_sheet, worst_cells, write_pictures
from simengine.worlds.detectors.report import cell_rows, gain_table, hardening_gains


def table(found: list[float]) -> DetectionTable:
    """One detection in each of the pictures, of this overlap; scores fall from picture to picture."""
    scores = torch.linspace(0.9, 0.6, len(found))
    return DetectionTable(torch.arange(len(found)), scores, torch.tensor(found), len(found))


def along(**values: list[float]) -> torch.Tensor:
    rows = torch.zeros(len(next(iter(values.values()))), len(CONDITIONS))
    for name, column in values.items():
        rows[:, CONDITIONS.index(name)] = torch.tensor(column)
    return rows


CONDITION = along(distance=[1.0, 1.5, 2.0, 2.5, 3.0, 3.5], pitch=[10.0, 20.0, 10.0, 20.0, 10.0, 20.0])
SEEN, BLIND = table([0.9, 0.8, 0.9, 0.2, 0.0, 0.3]), table([0.9, 0.1, 0.9, 0.0, 0.9, 0.7])
EDGES = {"distance": (1.0, 2.0, 3.0, 4.0), "pitch": (5.0, 15.0, 25.0)}


def test_the_worst_cell_is_told_for_each_paint() -> None:
    """Of one all two beyond 3 m are missed (of five cells of two paints: ten together); of the other two of three."""
    told, note = worst_cells({"a": SEEN, "b": BLIND}, CONDITION, EDGES)
    assert isinstance(told, ReportTable)
    assert list(told.rows) == [
        ("a", "distance 3 to 4", 2, str(rate_interval(2, 2, comparisons=10))),
        ("b", "pitch 15 to 25", 3, str(rate_interval(2, 3, comparisons=10))),
    ]
    assert note == "The intervals hold for all 10 cells that were looked at together (Bonferroni)."


def test_rows_of_cells_stand_beside_one_another() -> None:
    rows = cell_rows([SEEN, BLIND], CONDITION, {"distance": EDGES["distance"]})
    assert [row[:2] for row in rows] == [(f"distance {k} to {k + 1}", "2") for k in (1, 2, 3)]
    assert [[cell.split(" ")[0] for cell in row[2:]] for row in rows] == [
        ["1.000", "0.500"],
        ["0.500", "0.500"],
        ["0.000", "1.000"],
    ]


def test_a_curve_needs_two_cells_that_hold_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def curves(panels, *, xlabel, bands):
        drawn.append((panels, xlabel, bands))
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("simengine.worlds.detectors.conditions.curves", curves)
    blocks = condition_curve("distance", {"a": SEEN, "b": BLIND}, CONDITION, (0.0, 1.0, 2.0, 3.0, 4.0))
    assert len(blocks) == 2 and all(isinstance(block, Picture) for block in blocks)
    panels, label, bands = drawn[0]
    assert label == f"distance [{UNITS['distance']}]" and set(panels) == {"AP@.5", "missed"}
    x, y = panels["missed"]["a"]
    assert x == [1.5, 2.5, 3.5] and y == [0.0, 0.5, 1.0]  # the cell from 0 to 1 is empty
    at, low, high = bands["missed"]
    assert at == x and low == [rate_interval(k, 2).low for k in (0, 1, 2)]
    assert high == [rate_interval(k, 2).high for k in (0, 1, 2)]
    assert (
        panels["AP@.5"]["a"][1] == [1.0, 0.5, 0.0]
        and list(drawn[1][0]["missed"]) == ["b"]
        and set(drawn[1][2]) == set(panels)
    )
    assert condition_curve("distance", {"a": SEEN}, CONDITION, (0.0, 4.0)) == []


def test_pictures_are_listed_with_their_best_scores(tmp_path: Path) -> None:
    two = DetectionTable(
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([0.5, 0.05, 0.0, 0.3]),
        2,
        torch.tensor([True, False]),
    )
    out = RunDirectory.create(tmp_path / "run", {"kind": "own"}, overwrite=False, resume=False)
    write_pictures({"a": two}, CONDITION[:2], out)
    lines = [line.split(",") for line in (tmp_path / "run" / "pictures.csv").read_text().splitlines()]
    assert lines[0] == ["picture", "object", *CONDITIONS, '"a: hit"', '"a: alarm"']
    assert lines[1][:2] == ["0", "1"] and lines[2][:2] == ["1", "0"]
    assert [line[-2:] for line in lines[1:]] == [["0.9", "0.7"], ["0", "0.8"]]  # an overlap of .3 is neither
    assert lines[2][2 + CONDITIONS.index("distance")] == "1.5"


def test_paints_stand_beside_one_another_on_white() -> None:
    """96 rows are shown by 2, 192 as they are; each has at least 192 rows and 8 white columns beside it."""
    shown = paint_sheet({"a": torch.zeros(96, 48, 3), "b": torch.zeros(250, 10, 3)})
    assert shown.shape == (250, 96 + 8 + 10 + 8, 3)
    assert (shown[:192, :96] == 0).all() and (shown[192:, :96] == 255).all()
    assert (shown[:, 96:104] == 255).all() and (shown[:, 104:114] == 0).all() and (shown[:, 114:] == 255).all()


def test_what_hardening_is_worth_is_the_difference_to_each_control() -> None:
    tables = {("hardened", "natural"): SEEN, ("detector", "natural"): BLIND, ("hardened", "worn"): SEEN}
    gains = hardening_gains(tables, ["detector"])
    assert set(gains["detector"]) == {"natural"}
    own = gains["detector"]["natural"]
    expected = float(SEEN.average_precision()) - float(BLIND.average_precision())
    assert own["value"] == pytest.approx(expected) and own["low"] <= expected <= own["high"]
    (row,) = gain_table(gains).rows
    assert row == ("detector", "natural", f"{own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]")
