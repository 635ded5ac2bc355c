"""`simengine compare`."""

import json
import math
from pathlib import Path
from typing import Any

from simengine.cli.common import AsJson


def compare(first: Path, second: Path, *more: Path, as_json: AsJson = False) -> int:
    """Compare fits of the same data: held-out prediction, and the evidence for each model.

    Args:
        first: Run directory of a fit.
        second: Another.
        more: Further ones.
    """
    runs = [first, second, *more]
    found = [_read(run) for run in runs]
    for run, own in zip(runs[1:], found[1:], strict=True):
        if own["provenance"]["files"] != found[0]["provenance"]["files"]:
            raise ValueError(
                f"{run}: fitted other files than {first}; evidence and misfit compare on the same data only"
            )
    best = max((own["log_evidence"] for own in found if own.get("log_evidence") is not None), default=None)
    table = {str(run): _row(own, best) for run, own in zip(runs, found, strict=True)}
    if as_json:
        print(json.dumps(table, allow_nan=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in table.values() for name in row))
    shown = Table("", *table, title="compare", title_justify="left")
    for name in names:
        shown.add_row(name, *(_text(row.get(name)) for row in table.values()))
    Console().print(shown)
    return 0


def _read(run: Path) -> dict[str, Any]:
    file = run / "fit.json"
    if not file.is_file():
        raise ValueError(f"{run}: holds no fit.json; name the run directory of a fit with [observations]")
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _row(own: dict[str, Any], best: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"unknowns": len(own["estimates"])}
    for name, entry in own["observations"].items():
        if "chi_square_per_row" in entry:
            row[f"{name}: chi-square per value"] = entry["chi_square_per_row"]
        if "held_out" in entry:
            row[f"{name}: held out, chi-square per value"] = entry["held_out"]["chi_square_per_row"]
    evidence = own.get("log_evidence")
    row["log evidence"] = evidence if evidence is not None else own.get("no_evidence", "not told")
    if evidence is not None and best is not None:
        row["times less probable than the best"] = math.exp(min(best - evidence, 700.0))
    return row


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
