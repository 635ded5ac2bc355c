"""Cells of the conditions of detected objects, counted by hand."""

import numpy as np
import pytest

from simengine.dtn.intervals import clustered_rate_interval
from simengine.observe.instruments.boxes.cells import Cell, cells_csv, number_cells, reach, tell_cells
from simengine.view.report import Picture, ReportTable


def test_cells_hold_as_many_objects_each_and_count_by_picture() -> None:
    """Nine of ten values count, 0 to 8: their quartiles are 0, 2, 4, 6, 8; the last cell has both its ends."""
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 100])
    use = np.arange(10) < 9
    lost = np.isin(np.arange(10), [1, 6, 8, 9])
    cells = number_cells({"size": values}, use, lost, np.arange(10) % 2, 3)
    assert [(c.name, c.low, c.high) for c in cells] == [("size", a, a + 2.0) for a in (0.0, 2.0, 4.0, 6.0)]
    assert [c.objects.tolist() for c in cells] == [[1, 1, 0], [1, 1, 0], [1, 1, 0], [2, 1, 0]]
    assert [c.lost.tolist() for c in cells] == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [2, 0, 0]]
    again = number_cells({"size": np.repeat([1.0, 2.0], (9, 1))}, np.ones(10, bool), lost, np.arange(10) % 2, 2)
    assert [(c.low, c.high, int(c.objects.sum())) for c in again] == [(1.0, 2.0, 10)]  # values that repeat


def cell(low: float, high: float, lost: int, objects: int = 40) -> Cell:
    each = np.zeros(objects, int)
    each[:lost] = 1
    return Cell("size", low, high, each, np.ones(objects, int))


def test_the_worst_cell_and_the_reach_are_told() -> None:
    """Rates .3, .05, 0, .1 of 40: about 25 at most .1 are missed from 10 to 40, surely nowhere, or at most .3 there."""
    cells = [cell(30, 40, 4), cell(0, 10, 12), cell(20, 30, 0), cell(10, 20, 2)]
    assert reach(cells, 25.0, 0.1, comparisons=4, sure=False) == (10, 40)
    assert reach(cells, 25.0, 0.09, comparisons=4, sure=False) == (10, 30)
    assert all(np.isnan(reach(cells, 5.0, 0.1, comparisons=4, sure=False)))
    assert all(np.isnan(reach(cells, 25.0, 0.1, comparisons=4, sure=True)))
    assert reach(cells, 25.0, 0.3, comparisons=4, sure=True) == (10, 40)
    blocks, told = tell_cells({"size": cells, "light": [cell(1, 1, 2)]}, {"size": 25.0, "light": 1.0}, 0.1)
    bound = clustered_rate_interval(cells[1].lost, cells[1].objects, comparisons=5)
    assert told["cells"] == 5
    assert told["worst_cell"] == {"name": "size", "from": 0, "to": 10, "missed_at_least": bound.low}
    assert told["reach"]["size"] == {"found": "10 to 40", "sure": "none"}
    assert told["reach"]["light"] == {"found": "1 to 1", "sure": "none"}
    tables = [block for block in blocks if isinstance(block, ReportTable)]
    assert list(tables[0].rows) == [("size", "10 to 40", "none"), ("light", "1 to 1", "none")]
    alone = clustered_rate_interval(cells[0].lost, cells[0].objects)
    assert tables[1].rows[0][:4] == ("size", "30 to 40", 40, str(alone))
    assert [row[1] for row in tables[1].rows] == ["30 to 40", "0 to 10", "20 to 30", "10 to 20", "1"]
    assert len([block for block in blocks if isinstance(block, Picture)]) == 1  # one point makes no curve
    rows = [line.split(",") for line in cells_csv({"size": cells}).splitlines()]
    assert rows[1][:5] == ['"size"', "30", "40", "40", "0.10000"]
    together = clustered_rate_interval(cells[0].lost, cells[0].objects, comparisons=4)
    numbers = (alone.low, alone.high, together.low, together.high)
    assert [float(v) for v in rows[1][5:]] == pytest.approx(numbers, abs=1e-5)
