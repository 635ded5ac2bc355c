"""One scene with many numbers: every combination as a task of its own, over local processes.

Each task is a verb of the command line with `--set`, in a folder of its own. What it returned stands in
`tasks/NNNN.json` once it is done, so nothing is done twice. A worker that dies takes nothing with it: its task is given
to another, and a fit then goes on from its checkpoint; only a death at the task itself is counted against it. A worker
whose scheduling process dies ends with it, so that the same command, given again, finds its folders alone.

On a cluster the tasks go to the workers of a Dask scheduler, which see the same files.
"""

import ast
import contextlib
import csv
import importlib
import io
import itertools
import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from simengine.extras import extra

ATTEMPTS = 5  # of a task whose worker dies at it
UNBORN = 20  # workers in a row that die at their start
FORMS = "linspace(a, b, n), logspace(a, b, n) from a to b, range(n) or [a, b, ...]"
RUNNER = "simengine.cli:main"  # what runs a task, by name: this layer lies below the command line
PICTURES = ("*.png", "*.jpg")  # that tasks write
PATIENCE = 10  # for a scheduler to answer [s]
_alone = threading.Lock()  # a task prints and reads as if its process were its own


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
    (out / "tasks").mkdir(parents=True, exist_ok=True)
    kept = out / "sweep.json"
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != plan:
        raise ValueError(f"{out}: holds another sweep; choose another --out")
    _write(kept, plan)
    tasks = {}
    for number, row in enumerate(rows):
        if not _done(out, number).exists():
            sets = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in row.items())]
            tasks[number] = (verb, plan["scene"], sets, str(out.resolve() / f"{number:04d}"))
    if cluster:
        retried = _work_on_cluster(tasks, out, cluster)
    else:
        retried = _work(tasks, out, min(workers, max(len(tasks), 1)))
    results = [json.loads(_done(out, number).read_text(encoding="utf-8")) for number in range(len(rows))]
    _table(out / "results.csv", [{**row, **result} for row, result in zip(rows, results, strict=True)])
    failed = sum("error" in result for result in results)
    return {
        "tasks": len(rows),
        "done": len(tasks),
        "failed": failed,
        "retried": retried,
        "results": f"{out}/results.csv",
    }


def _done(out: Path, number: int) -> Path:
    return out / "tasks" / f"{number:04d}.json"


def _write(path: Path, data: Any) -> None:
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(data), encoding="utf-8")
    fresh.replace(path)


class Ledger:
    """Which task comes next, and how often each has lost the worker that was doing it.

    Args:
        tasks: Their numbers, in order.

    Attributes:
        waiting: Numbers of tasks that nobody does, the next one first.
        retried: How often a task was put back.
    """

    def __init__(self, tasks: Iterable[int]) -> None:
        self.waiting = deque(tasks)
        self.retried: int = 0
        self._deaths = Counter[int]()
        self._unborn = 0

    def take(self) -> int | None:
        """For a worker that is ready: a task, if one waits."""
        self._unborn = 0
        return self.waiting.popleft() if self.waiting else None

    def lost(self, number: int | None) -> bool:
        """A worker died at its task, or at its start (None), which is no task's fault; whether the task is given up.

        A task that lost its worker goes behind the others: whatever it was, they are done first.

        Raises:
            RuntimeError: Worker after worker dies at its start.
        """
        if number is None:
            self._unborn += 1
            if self._unborn == UNBORN:
                raise RuntimeError(
                    f"workers: {UNBORN} in a row died before they were ready; what is done is kept. "
                    "Is there memory for them? Fewer --workers need less; the same command goes on"
                )
            return False
        self._deaths[number] += 1
        if self._deaths[number] == ATTEMPTS:
            return True
        self.waiting.append(number)
        self.retried += 1
        return False


def _work(tasks: Mapping[int, Any], out: Path, workers: int) -> int:
    """Give tasks to workers until all are done; how many were given again."""
    context = multiprocessing.get_context("spawn")
    ledger = Ledger(tasks)
    alive: dict[Connection, tuple[Any, int | None]] = {}  # its process, and its task; None while it starts

    def running(state: bool) -> int:
        return sum((number is not None) == state for _, number in alive.values())

    try:
        while ledger.waiting or running(True):
            while len(alive) < workers and running(False) < len(ledger.waiting):
                ours, theirs = context.Pipe()
                process = context.Process(target=_worker, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                alive[ours] = (process, None)
            for ready in wait(list(alive)):
                pipe = ready
                assert isinstance(pipe, Connection)
                process, number = alive.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    pipe.close()
                    if ledger.lost(number) and number is not None:
                        _write(_done(out, number), {"error": f"its worker died {ATTEMPTS} times"})
                    continue
                if number is not None:
                    _write(_done(out, number), result)
                following = ledger.take()
                if following is None:
                    pipe.close()
                    process.join()
                    continue
                alive[pipe] = (process, following)
                with contextlib.suppress(OSError):  # it has just died: told by the end of its pipe
                    pipe.send(tasks[following])
    finally:
        for process, _ in alive.values():
            process.terminate()
    return ledger.retried


def _worker(pipe: Connection) -> None:
    """Say that it is ready, and do what comes until the pipe is closed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    importlib.import_module(RUNNER.partition(":")[0])
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_one(*task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on_cluster(tasks: Mapping[int, Any], out: Path, address: str) -> int:
    """As `_work`, on the workers of a Dask scheduler; how many tasks were given again after it had given them up."""
    distributed = extra("distributed", of="cluster", what=f"--cluster {address}")
    try:
        client = distributed.Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--cluster {address}: no Dask scheduler answers there; start one with `dask scheduler`"
        ) from error
    attempts = dict.fromkeys(tasks, 0)
    numbers: dict[str, int] = {}

    def give(number: int) -> Any:
        attempts[number] += 1
        future = client.submit(_one_alone, *tasks[number], pure=False)
        numbers[future.key] = number
        return future

    with client:
        done = distributed.as_completed([give(number) for number in tasks])
        for future in done:
            number = numbers[future.key]
            failure = future.exception() if future.status != "finished" else None
            if isinstance(failure, distributed.KilledWorker) and attempts[number] < ATTEMPTS:
                done.add(give(number))
                continue
            _write(_done(out, number), future.result() if failure is None else {"error": str(failure)})
    return sum(attempts.values()) - len(attempts)


def _one_alone(verb: str, scene: str, sets: Sequence[str], folder: str) -> dict[str, Any]:
    with _alone:
        return _one(verb, scene, sets, folder)


def _one(verb: str, scene: str, sets: Sequence[str], folder: str) -> dict[str, Any]:
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
