"""Verbs on run directories of several fits: `simengine compare` and `simengine pool`."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from simengine.cli.common import AsJson, emit

Kept = tuple[str, float, float]  # run directory, value, standard deviation


def compare(first: Path, second: Path, *more: Path, as_json: AsJson = False) -> int:
    """Compare fits of the same data: held-out prediction, values left out one by one, and each model's evidence.

    LOO and WAIC are logarithms of how probable a value is under a model that saw the others: more is better, and a
    difference counts where it is several of its standard errors. Laplace's fits tell both in closed form, samples by
    ArviZ.

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
    for name, rows in _left_out(runs, found).items():
        for which, value in rows.items():
            table[which][name] = value
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


def _left_out(runs: list[Path], found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """What values left out tell of each run, and how far each is behind the best, with that difference's error."""
    import numpy as np

    from simengine.fit.certainty.predictive import error_of

    told = {str(run): own["predictive"] for run, own in zip(runs, found, strict=True) if "predictive" in own}
    rows: dict[str, dict[str, float]] = {}
    for key in ("loo", "waic"):
        if len({own["rows"] for own in told.values()}) != 1:
            break
        rows[key.upper()] = {run: own[key] for run, own in told.items()}
        best = max(told, key=lambda run: told[run][key])
        each = {run: np.load(file)[key] for run in told if (file := Path(run) / "left_out.npz").is_file()}
        if best not in each:
            continue
        behind = {run: each[best] - own for run, own in each.items()}
        rows[f"{key.upper()} behind the best"] = {run: float(own.sum()) for run, own in behind.items()}
        rows[f"{key.upper()} behind: standard error"] = {run: error_of(own) for run, own in behind.items()}
    if told:
        rows["effective numbers"] = {run: own["effective_numbers"] for run, own in told.items()}
    return rows


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def pool(
    *runs: Path,
    of: Annotated[list[str] | None, Parameter(negative=(), help="Only these numbers, by the names of reports.")] = None,
    log: Annotated[
        bool | None, Parameter(help="Whether logarithms are normal; left out, those of numbers above 0 are.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say what fits of several specimens, flames or cars tell of the population: mean, spread, and each one's value.

    Args:
        runs: Run directories of fits that sought the same numbers, three or more, each of another member.
    """
    found: dict[str, dict[str, Any]] = {str(run): _read(run)["estimates"] for run in runs}
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("pool: a run directory stands there twice")
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    if unknown := set(of or ()) - set(names):
        raise ValueError(f"--of {min(unknown)}: no fit sought it; they sought {', '.join(names) or 'nothing'}")
    result = {name: _of(name, found, log) for name in of or names}
    emit(result if as_json else _in_lines(result), as_json=as_json, title=f"pool of {len(runs)} fits")
    return 0


def _of(name: str, found: dict[str, dict[str, Any]], log: bool | None) -> dict[str, Any]:
    """What the fits tell of one number, or why they do not."""
    from simengine.fit.certainty.pooling import pooled

    logarithmic = log if log is not None else all(own[name]["value"] > 0 for own in found.values() if name in own)
    kept: list[Kept] = []
    left_out = {}
    for run, own in found.items():
        estimate = own.get(name)
        if estimate is None:
            left_out[run] = "did not seek it"
        elif not estimate["identified"] or not estimate["std"]:
            left_out[run] = estimate.get("why") or "has no bar"
        else:
            try:
                kept.append((run, *_alone(estimate, logarithmic)))
            except ValueError as error:
                left_out[run] = str(error)
    try:
        together = pooled([v for _, v, _ in kept], [width for *_, width in kept], logarithmic=logarithmic)
    except ValueError as error:
        return {"not told": str(error), **({"left out": left_out} if left_out else {})}
    unit = next(found[run][name]["unit"] for run, *_ in kept)
    return {
        "mean": _told(together.mean),
        "spread of the logarithm" if logarithmic else "spread": _told(together.spread),
        "another one": _told(together.another),
        "members": {run: _told(own) for (run, *_), own in zip(kept, together.members, strict=True)},
        **({"unit": unit} if unit else {}),
        **({"left out": left_out} if left_out else {}),
    }


def _alone(estimate: dict[str, Any], logarithmic: bool) -> tuple[float, float]:
    """Value and standard deviation that the data tell without the prior of the fit."""
    from simengine.fit.certainty.pooling import without_prior

    value, width = estimate["value"], estimate["std"]
    if estimate.get("prior") is None:
        return value, width
    mean, prior = estimate["prior"]
    if not logarithmic or mean <= 0:
        return without_prior(value, width, mean, prior)
    told, wide = without_prior(math.log(value), width / value, math.log(mean), prior / value)
    return math.exp(told), wide * math.exp(told)


def _in_lines(value: Any) -> Any:
    """Each number that has an interval as one line."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"value", "low", "high"}:
        return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    return {key: _in_lines(item) for key, item in value.items()}


def _told(own: Any) -> dict[str, float]:
    return {"value": own.value, "low": own.low, "high": own.high}
