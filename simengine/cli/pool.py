"""`simengine pool`."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from simengine.cli.common import AsJson, emit

Kept = tuple[str, float, float]  # run directory, value, standard deviation


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
    found = {str(run): _estimates(run) for run in runs}
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("pool: a run directory stands there twice")
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    if unknown := set(of or ()) - set(names):
        raise ValueError(f"--of {min(unknown)}: no fit sought it; they sought {', '.join(names) or 'nothing'}")
    result = {name: _of(name, found, log) for name in of or names}
    emit(result if as_json else _in_lines(result), as_json=as_json, title=f"pool of {len(runs)} fits")
    return 0


def _estimates(run: Path) -> dict[str, Any]:
    file = run / "fit.json"
    if not file.is_file():
        raise ValueError(f"{run}: holds no fit.json; name run directories of fits with [observations]")
    estimates: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["estimates"]
    return estimates


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
