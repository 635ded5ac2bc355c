"""What several verbs share: options, printing, and the device."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Overrides = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Override a key, as in bodies.0.material.E=2e5; repeatable.", negative=()),
]
With = Annotated[
    list[Path] | None,
    Parameter(
        name="--with", help="Run a Python file for the equations and detectors that it names; repeatable.", negative=()
    ),
]
Out = Annotated[Path | None, Parameter(help="Run directory; runs/<scene> if not given.")]
Overwrite = Annotated[bool, Parameter(help="Remove what an earlier run left in the run directory.", negative=())]
Device = Annotated[str | None, Parameter(help="cpu or cuda; what suits the scene and is available if not given.")]
AsJson = Annotated[bool, Parameter(name="--json", help="Print the result as JSON.", negative=())]
Quiet = Annotated[bool, Parameter(help="No progress line.", negative=())]


def pick_device(device: str | None, supported: tuple[str, ...] = ("cuda", "cpu")) -> str:
    """The device to use; says which one was chosen where none was asked for.

    Args:
        device: What was asked for; None for the first of `supported` that is available.
        supported: Kinds of device the scene runs on.

    Raises:
        ValueError: The device does not exist here, or the scene does not run on it.
    """
    import torch

    if device is None:
        chosen = next(name for name in supported if name == "cpu" or torch.cuda.is_available())
        print(f"device: {chosen}", file=sys.stderr)
        return chosen
    if device.partition(":")[0] not in supported:
        raise ValueError(f"--device {device}: this runs on {' or '.join(supported)} only")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: not available here; use cpu") from error
    return device


def default_out(scene: str) -> Path:
    """The run directory of a scene where none is named."""
    return Path("runs") / Path(scene).stem


def emit(result: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print a result, as a table for people or as one JSON object for programs."""
    from simengine.io.arrays import finite, plain

    if as_json:
        print(json.dumps(finite(plain(result)), allow_nan=False))
        return
    from rich.console import Console
    from rich.markup import escape  # a unit in brackets is no markup
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in _flat(plain(result)):
        table.add_row(escape(key), f"{value:.6g}" if isinstance(value, float) else escape(str(value)))
    Console().print(table)


def brief(value: Any) -> Any:
    """A summary without curves, and an estimate as one line."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"value", "low", "high"}:
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return {key: brief(item) for key, item in value.items() if key != "along"}


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, value))
    return rows
