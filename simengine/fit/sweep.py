"""One scene with many numbers: every combination as a task of its own, over local processes.

Each task is a verb of the command line with `--set`, in a folder of its own. What it returned stands in
`tasks/NNNN.json` once it is done, so nothing is done twice, and a fit whose worker died goes on from its checkpoint.
The same command, given again, does what is left. On a cluster the workers see the same files.
"""

import ast
import contextlib
import csv
import importlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simengine.fit.trainings.pool import Task, result_of, shared, write

FORMS = "linspace(a, b, n), logspace(a, b, n) from a to b, range(n) or [a, b, ...]"
RUNNER = "simengine.cli:main"  # what runs a task, by name: this layer lies below the command line
PICTURES = ("*.png", "*.jpg")  # that tasks write


def values_of(text: str) -> tuple[str, list[Any]]:
    """Key and values of `key=linspace(0, 1, 5)`.

    Raises:
        ValueError: It has another form.
    """
    key, equals, form = text.partition("=")
    wrong = ValueError(f"--over {text}: expected KEY={FORMS}")
    try:
        node = ast.parse(form.strip(), mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            given = [ast.literal_eval(argument) for argument in node.args]
            if node.func.id == "range":
                values: list[Any] = list(range(*given))
            elif node.func.id in ("linspace", "logspace") and len(given) == 3:
                space = np.linspace if node.func.id == "linspace" else np.geomspace
                values = [float(v) for v in space(float(given[0]), float(given[1]), int(given[2]))]
            else:
                raise wrong
        else:
            values = list(ast.literal_eval(node))
    except (SyntaxError, TypeError, ValueError) as error:
        raise wrong from error
    if not key or not equals or not values:
        raise wrong
    return key.strip(), values


def combinations(over: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values, the last key fastest."""
    spelled = [values_of(text) for text in over]
    keys = [key for key, _ in spelled]
    return [dict(zip(keys, row, strict=True)) for row in itertools.product(*(values for _, values in spelled))]


def swept(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Keys that a sweep varied, and its results in order: numbers as floats, words as they are, None for nothing.

    Raises:
        ValueError: The folder holds no finished sweep.
    """
    plan, table = folder / "sweep.json", folder / "results.csv"
    if not (plan.is_file() and table.is_file()):
        raise ValueError(f"{folder}: holds no results.csv of a sweep; `simengine sweep` writes it once all is done")
    keys = [values_of(text)[0] for text in json.loads(plan.read_text(encoding="utf-8"))["over"]]
    with table.open(newline="", encoding="utf-8") as stream:
        return keys, [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(stream)]


def pictures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The first picture of each task of a sweep that wrote one, with its row of the results."""
    found = []
    for number, row in enumerate(rows):
        task = folder / f"{number:04d}"
        files = sorted(file for pattern in PICTURES for file in task.rglob(pattern)) if task.is_dir() else []
        found += [(file, row) for file in files[:1]]
    return found


def _value(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def sweep(
    scene: str,
    over: Sequence[str],
    out: Path,
    *,
    verb: str,
    overrides: Sequence[str] = (),
    workers: int = 2,
    cluster: str = "",
) -> dict[str, Any]:
    """Do every combination, and write `results.csv`.

    Args:
        scene: File or name.
        over: As in "bodies.0.material.E=logspace(1e4, 1e6, 5)"; several make all combinations.
        out: Folder; what an earlier call did there is kept if it was the same sweep.
        verb: fit, predict or run.
        overrides: Further `--set`.
        workers: Processes.
        cluster: Address of a Dask scheduler, as tcp://host:8786, whose workers take the place of processes of our own.

    Raises:
        ValueError: The folder holds another sweep, or no scheduler answers.
    """
    rows = combinations(over)
    plan = {"scene": str(Path(scene).resolve()) if Path(scene).exists() else scene, "over": list(over), "verb": verb}
    plan["overrides"] = list(overrides)
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "sweep.json"
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != plan:
        raise ValueError(f"{out}: holds another sweep; choose another --out")
    write(kept, plan)
    tasks: dict[int, Task] = {}
    for number, row in enumerate(rows):
        sets = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in row.items())]
        tasks[number] = (f"{__name__}:one", verb, plan["scene"], sets, str(out.resolve() / f"{number:04d}"))
    done, retried = shared(tasks, out / "tasks", workers=workers, cluster=cluster)
    results = [result_of(out / "tasks", number) for number in range(len(rows))]
    _table(out / "results.csv", [{**row, **result} for row, result in zip(rows, results, strict=True)])
    failed = sum("error" in result for result in results)
    return {
        "tasks": len(rows),
        "done": done,
        "failed": failed,
        "retried": retried,
        "results": f"{out}/results.csv",
    }


def one(verb: str, scene: str, sets: Sequence[str], folder: str) -> dict[str, Any]:
    """One task: its summary as flat scalars, or its error."""
    module, _, function = RUNNER.partition(":")
    main = getattr(importlib.import_module(module), function)
    line = [verb, scene, "--out", folder, "--json", *itertools.chain.from_iterable(("--set", own) for own in sets)]
    line += [] if verb == "fit" else ["--overwrite"]
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        code = main(line)
    if code:
        last = complained.getvalue().strip().splitlines()[-1:]
        return {"error": last[0] if last else f"exit code {code}"}
    return dict(_flat(json.loads(said.getvalue().strip().splitlines()[-1])))


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float | str) or value is None:
            rows.append((prefix + key, value))
    return rows


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
