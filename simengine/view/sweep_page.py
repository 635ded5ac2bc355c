"""The page of a sweep: what was varied and what came of it, as parallel coordinates, curves, pictures and a table."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simengine.io.registry import read
from simengine.view.figures import curves, parallel, wide
from simengine.view.report import Block, Picture, ReportTable, write_report

AXES = 8  # of parallel coordinates
PANELS = 6  # of curves
SHOWN = 8  # pictures
ROWS = 500  # of the table
LEGEND = 8  # curves of one panel

Rows = Sequence[Mapping[str, Any]]


def told(keys: Sequence[str], rows: Rows) -> list[str]:
    """Columns of results that are numbers and differ, those of estimates first."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in keys]
    numbers = [name for name in names if any(isinstance(row.get(name), float) for row in rows)]
    moving = [name for name in numbers if len({row.get(name) for row in rows if row.get(name) is not None}) > 1]
    return sorted(moving, key=lambda name: (not name.endswith(".value"), "chi_square" not in name))


def write_sweep_page(
    file: Path, title: str, keys: Sequence[str], rows: Rows, pictures: Sequence[tuple[Path, Mapping[str, Any]]]
) -> None:
    """Write the page of a finished sweep.

    Args:
        file: The .html file.
        title: Heading of the page.
        keys: Names that were varied.
        rows: Of each task, name -> number, words, or None for nothing.
        pictures: File of a picture -> the row of its task.
    """
    columns = told(keys, rows)
    failed = [row for row in rows if row.get("error")]
    shown = [*keys, *columns][:AXES]
    sections: dict[str, Sequence[Block]] = {
        "What was done": [
            f"{len(rows)} tasks over {', '.join(keys)}; {len(failed)} failed.",
            *(f"{_where(keys, row)}: {row['error']}" for row in failed[:SHOWN]),
        ]
    }
    if len(shown) > 1 and len(rows) > 1:
        lines = {name: _numbers(rows, name) for name in shown}
        by = columns[0] if columns else keys[0]
        sections["All of it"] = [
            Picture(parallel(lines, by=lines[by]), f"A line for each task, coloured by {by}: {', '.join(shown)}")
        ]
    sections["Curves"] = _curves(keys, columns[:PANELS], rows)
    sections["Pictures"] = _pictures(keys, pictures)
    names = [*keys, *columns, *(["error"] if failed else [])]
    cells = [["" if row.get(name) is None else row[name] for name in names] for row in rows[:ROWS]]
    sections["Results"] = [
        ReportTable(names, cells),
        *([f"The first {ROWS} of {len(rows)}; results.csv holds all."] if len(rows) > ROWS else []),
    ]
    write_report(file, title, sections)


def _numbers(rows: Rows, name: str) -> list[Any]:
    """A column of numbers, None as NaN; or of words, None as "" where one is a word."""
    values = [row.get(name) for row in rows]
    if any(isinstance(v, str) for v in values):
        return ["" if v is None else str(v) for v in values]
    return [math.nan if v is None else v for v in values]


def _where(keys: Sequence[str], row: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {row[k]:.4g}" if isinstance(row[k], float) else f"{k} = {row[k]}" for k in keys)


def _curves(keys: Sequence[str], columns: Sequence[str], rows: Rows) -> list[Block]:
    """Of each result along the first number that was varied, a curve for each value of the other keys."""
    along = next((key for key in keys if len({row[key] for row in rows}) > 1 and _is_number(rows, key)), None)
    if along is None or not columns:
        return []
    others = [key for key in keys if key != along]
    decades = wide([row[along] for row in rows])
    blocks: list[Block] = []
    for start in range(0, len(columns), 3):
        panels = {}
        for name in columns[start : start + 3]:
            lines: dict[str, tuple[list[float], list[float]]] = {}
            for row in sorted(rows, key=lambda row: row[along]):
                if isinstance(row.get(name), float):
                    x, y = lines.setdefault(_where(others, row) or name, ([], []))
                    x.append(row[along])
                    y.append(row[name])
            panels[name] = dict(list(lines.items())[:LEGEND])
        blocks.append(Picture(curves(panels, xlabel=along, log_x=decades), f"{', '.join(panels)} along {along}"))
    return blocks


def _is_number(rows: Rows, key: str) -> bool:
    return all(isinstance(row[key], float) for row in rows)


def _pictures(keys: Sequence[str], found: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[Block]:
    """As far apart among the tasks as there is room for."""
    if not found:
        return []
    picked = np.unique(np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(int))
    return [Picture(read(found[k][0]), _where(keys, found[k][1])) for k in picked]
